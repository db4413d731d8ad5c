"""One damaged clip is named, and the others are measured; clips in shards are measured as files are."""

from dataclasses import replace

import pytest

from avlearn.apply.embed import embed_files
from avlearn.data.lists import listed_sources
from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.data.prepare import prepare
from avlearn.errors import DataError, MediaError, OutputError
from avlearn.evaluation import evaluate
from avlearn.evaluation.audit import audit
from avlearn.models.folder import load


@pytest.fixture(scope="module")
def model(untrained):
    return load(untrained)


@pytest.fixture(scope="module")
def manifest(small_world, tmp_path_factory):
    """Of four clips, one of them cut short."""
    folder = tmp_path_factory.mktemp("bad")
    rows = read_manifest(small_world)[:4]
    (folder / "cut.mp4").write_bytes(rows[0].path.read_bytes()[:2000])
    write_manifest([replace(rows[0], path=folder / "cut.mp4", bytes=0), *rows[1:]], folder / "m.csv")
    return folder / "m.csv"


def test_an_evaluation_names_the_clips_that_it_leaves_out(model, manifest):
    result = evaluate(model, [manifest], tasks=["sync"])
    assert result.metrics[0].n == 3
    assert [path for path, _ in result.skipped] == [str(manifest.parent / "cut.mp4")]
    assert "1 clips are left out:" in result.text()
    assert result.to_dict()["skipped"][0]["reason"]


def test_an_audit_names_the_clips_that_it_leaves_out(model, manifest, small_world, tmp_path, monkeypatch):
    monkeypatch.setattr("avlearn.evaluation.audit.audit_cache", lambda *_: [])  # which takes a minute
    rows = list(read_manifest(manifest))
    write_manifest([rows[0], *list(read_manifest(small_world)) * 3], tmp_path / "m.csv")
    result = audit(model, [tmp_path / "m.csv"])
    assert result.clips == 36
    assert result.to_dict()["skipped"][0]["path"].endswith("cut.mp4")
    write_manifest([*rows[:1] * 20, *rows[1:] * 9], tmp_path / "m.csv")
    with pytest.raises(DataError, match=r"an audit needs 30 clips, and 27 can be read; .*cut.mp4: "):
        audit(model, [tmp_path / "m.csv"])
    write_manifest(rows[1:] * 10, tmp_path / "m.csv")
    with pytest.raises(DataError, match="an audit needs clips of 5 files, and there are 3"):
        audit(model, [tmp_path / "m.csv"])


def test_embedding_lists_what_cannot_be_read_and_does_the_rest(model, manifest, tmp_path):
    sources = listed_sources(manifest)
    result = embed_files([*sources[:2], tmp_path / "none.mp4", "http://127.0.0.1/x.mp4"], model, tmp_path / "a.NPZ")
    assert result.files == 1
    assert [path for path, _ in result.failed] == [
        str(sources[0]), str(tmp_path / "none.mp4"), "http://127.0.0.1/x.mp4",
    ]  # fmt: skip
    assert "3 of 4 files could not be read" in result.text()
    with pytest.raises(OutputError, match="there already"):
        embed_files(sources[1:2], model, tmp_path / "a.NPZ")
    embed_files(sources[1:2], model, tmp_path / "a.NPZ", overwrite=True)
    with pytest.raises(MediaError, match=r"none.mp4: does not exist \(and 1 other files"):
        embed_files([tmp_path / "none.mp4", sources[0]], model, tmp_path / "b.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.NPZ"]


def test_shards_go_wherever_a_manifest_goes(model, manifest, tmp_path):
    prepare(manifest, tmp_path / "out", short_side=96, shards=2, workers=1)
    shards = tmp_path / "out" / "manifest.parquet"
    assert evaluate(model, [shards], tasks=["sync"]).metrics[0].n == 3
    result = embed_files([s for s in listed_sources(shards) if "cut" not in str(s)], model, tmp_path / "f.parquet")
    assert result.files == 3
