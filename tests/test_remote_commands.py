"""Commands on manifests and files at addresses give what they give of those here."""

import json
import shutil

import numpy as np
import pytest
import small_runs
from typer.testing import CliRunner

from avlearn.cli import app
from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.evaluation.multi_source import stems
from avlearn.evaluation.scene_objects import scene_objects


@pytest.fixture
def world(nginx, small_world):
    """The address of a small world."""
    shutil.copytree(small_world, nginx.folder / "world")
    return f"{nginx.address}/world"


def run(*words, code=0):
    """What a command prints."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_embed_and_a_probe_of_it(world, small_world, untrained, tmp_path):
    probes = {}
    for source in (str(small_world), world):
        table, json_path = tmp_path / "features.npz", tmp_path / "probe.json"
        words = ["-m", untrained, "--overwrite", "--workers", 1]
        run("embed", f"{source}/manifest.parquet", "-o", table, *words)
        run("linear-probe", "--data", f"{source}/manifest.parquet", "--features", table, "--json", json_path)
        found = np.load(table)
        paths = [path.removeprefix(source) for path in found["path"].tolist()]
        probes[source] = (found["video"].tobytes(), found["audio"].tobytes(), paths, json_path.read_text())
    assert probes[str(small_world)] == probes[world]


def test_a_file_that_is_not_there_is_a_row(world, small_world, untrained, nginx, tmp_path):
    rows = read_manifest(small_world)[:3]
    folder = nginx.folder / "world"
    write_manifest([Row(folder / "clips" / row.name, duration=row.duration) for row in rows], folder / "m.csv")
    (folder / "clips" / rows[0].name).unlink()
    run("classify", f"{world}/m.csv", "-m", untrained, "--json", tmp_path / "a.json", code=2)
    lost, *found = json.loads((tmp_path / "a.json").read_text())
    assert (lost["path"], lost["status"], lost["reason"]) == (f"{world}/clips/{rows[0].name}", "error", "is not there")
    assert [item["path"] for item in found] == [f"{world}/clips/{row.name}" for row in rows[1:]]
    assert all(item.get("status") != "error" for item in found)


def test_evaluate(world, small_world, untrained, tmp_path):
    found = []
    for source in (small_world, world):
        run("evaluate", "--data", source, "-m", untrained, "--task", "sync", "--json", tmp_path / "a.json")
        found.append((tmp_path / "a.json").read_text())
    assert found[0] == found[1]


def test_what_a_world_knows_of_its_clips(world, small_world):
    for ours, theirs in list(zip(read_manifest(world), read_manifest(small_world), strict=True))[:2]:
        assert np.array_equal(stems(ours), stems(theirs))
        assert [item.stem for item in scene_objects(ours)] == [item.stem for item in scene_objects(theirs)]


def test_a_training_on_what_is_remote(world, small_world, tmp_path):
    found = []
    for source in (small_world, world):
        folder = tmp_path / str(len(found))
        words = ["data.world=null", "data.cache=false", "data.workers=1", f"data.train={source}/manifest.parquet"]
        run(*small_runs.command(folder, tmp_path, *words))
        found.append([row["loss"] for row in small_runs.rows(folder, "loss")])
    assert found[0] == found[1] and found[0]


def test_a_run_at_an_address_is_gone_on_with_from_its_model(nginx, tiny_root, small_world, tmp_path):
    run(*small_runs.command(nginx.folder / "run", tiny_root))
    address = f"{nginx.address}/run"
    for words in (["--resume"], []):
        result = CliRunner().invoke(app, [*small_runs.command(address, tiny_root), *words])
        assert str(result.exception).startswith(f"{address}: a run is written, and resumed, in a folder here: copy it")
        assert "\n" not in str(result.exception) and not (tmp_path / "http:").exists()
    losses = []
    for base in (nginx.folder / "run", address):
        folder = tmp_path / f"from{len(losses)}"
        run(*small_runs.command(folder, tiny_root, f"model.base={base}"))
        losses.append([row["loss"] for row in small_runs.rows(folder, "loss")])
    assert losses[0] == losses[1] and losses[0]
    told = []
    for model in (nginx.folder / "run", address):
        run("evaluate", "--data", small_world, "-m", model, "--task", "sync", "--json", tmp_path / "a.json")
        told.append(json.loads((tmp_path / "a.json").read_text()))
    assert told[0] == told[1]


def test_what_is_no_manifest_at_an_address(nginx, tmp_path):
    for words in (
        ["linear-probe", "--data", f"{nginx.address}/none"],
        ["evaluate", "--data", f"{nginx.address}/none.csv"],
        ["embed", f"{nginx.address}/none.csv", "-o", tmp_path / "a.npz"],
        ["pretrain", "sync_world", f"data.train={nginx.address}/none", "-o", tmp_path / "run"],
    ):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert f"{nginx.address}/none" in str(result.exception) and "is not there" in str(result.exception)
