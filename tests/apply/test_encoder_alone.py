"""An imported encoder's folder: features of what is seen, and a line for what takes more."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoder_folders import x3d_folder
from typer.testing import CliRunner
from web import digest

from avlearn.apply import encoder_alone
from avlearn.apply.embed import embed_file, embed_files, window_rows
from avlearn.apply.encoder_alone import load_embedder, load_features
from avlearn.cli.app import app
from avlearn.data.manifest import Row, write_manifest
from avlearn.errors import DataError, ModelError, NoVideoError
from avlearn.evaluation.encoder import evaluate_encoder
from avlearn.evaluation.linear_probe import probe_model
from avlearn.evaluation.untrained import untrained
from avlearn.media import read_clip, write_video
from avlearn.models import create_model
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.models.weights import source
from avlearn.models.weights.preprocessing import preprocessing_of
from avlearn.models.weights.released import Released


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As ``avlearn weights import`` writes it, of an encoder that sees 4 frames of 160 x 160 in 1.6 s."""
    return x3d_folder(tmp_path_factory.mktemp("models") / "x3d")


def video(path, seconds: float, grey: int):
    """Without audio."""
    rng = np.random.default_rng(grey)
    frames = rng.integers(grey, grey + 30, (round(seconds * 10), 48, 64, 3), dtype=np.uint8)
    write_video(path, frames, 10)
    return path


def test_an_encoder_that_is_made_faster_gives_the_same_features(folder, tmp_path):
    path = video(tmp_path / "a.mp4", 4, 80)
    plain, faster = load_features(folder), load_embedder(folder)
    assert any(isinstance(module, torch.nn.BatchNorm3d) for module in plain.encoder.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in faster.encoder.modules())
    for ours, theirs in zip(embed_file(path, faster), embed_file(path, plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["x3d_xs", "x3d_xs/ours"])
def test_an_encoder_is_fetched_by_name(name, server, tmp_path, monkeypatch):
    model = create_model("x3d_xs", num_classes=3)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "x3d.pth")
    data = (tmp_path / "x3d.pth").read_bytes()
    address = f"{server.address}/x3d-{digest(data)[:8]}.pth"
    server.files[f"/x3d-{digest(data)[:8]}.pth"] = data
    known = (Released("x3d_xs", "ours", "world", "", address, {}), Released("x3d_xs", "theirs", "", "", "", {}))
    for module in (encoder_alone, source):
        monkeypatch.setattr(module, "released_weights", lambda: known)
    words = ["embed", str(video(tmp_path / "a.mp4", 1.7, 10)), "--model", name, "-o", str(tmp_path / "a.npz")]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    frames = read_clip(tmp_path / "a.mp4", 0, 1.6, fps=2.5, audio=False).video
    with torch.no_grad():
        seen = replace(preprocessing_of("x3d_xs"), stride=1)(torch.from_numpy(frames))[None]
        expected = model.eval().forward_features(seen).mean((2, 3, 4))[0]
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["video"][0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="no model 'x3d_xs/other'"):
        load_features("x3d_xs/other")


def test_it_embeds_what_is_seen_with_no_audio_needed(folder, tmp_path):
    model = load_features(folder)
    long, short = video(tmp_path / "long.mp4", 3.4, 10), video(tmp_path / "short.mp4", 0.3, 200)
    result = embed_files([long, short], model, tmp_path / "features.npz")
    table = np.load(tmp_path / "features.npz")
    assert (result.windows, list(table["path"])) == (3, [str(long)] * 2 + [str(short)])
    assert table["video"].shape == (3, model.encoder.num_features)
    assert table["audio"].shape == (3, 0)
    assert np.isfinite(table["video"]).all()
    embed_files([long], model, tmp_path / "features.parquet")


def labelled(folder) -> list[Row]:
    """Bright and dark clips."""
    rows = []
    for k in range(12):
        clip = video(folder / f"{k}.mp4", 0.5, 10 + 180 * (k % 2))
        rows.append(Row(clip, labels=("ab"[k % 2],), split=("train", "val", "test")[k // 2 % 3]))
    return rows


def test_a_file_without_a_frame_is_refused(folder, monkeypatch):
    monkeypatch.setattr("avlearn.apply.encoder_alone.stream", lambda *_, **__: iter(()))
    with pytest.raises(NoVideoError, match="has no video"):
        next(window_rows("empty.mp4", load_features(folder)))


def test_before_training_it_sees_the_same_colours(folder):
    model = load_features(folder)
    assert model.encoder.mean.tolist() == pytest.approx([0.4] * 3)
    twin = untrained(model).encoder
    assert torch.equal(twin.mean, model.encoder.mean) and torch.equal(twin.std, model.encoder.std)


def test_it_is_evaluated_by_its_features_alone(folder, tmp_path):
    lost = tmp_path / "lost.mp4"
    lost.write_bytes(b"no video")
    rows = [*labelled(tmp_path), Row(lost, labels=("a",), split="test")]
    write_manifest([replace(row, duration=0.5) for row in rows], tmp_path / "clips.csv")
    words = ["evaluate", "--model", str(folder), "--data", str(tmp_path / "clips.csv")]
    done = CliRunner().invoke(app, [*words, "--task", "recognition", "--json", "-"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["schema"] == "avlearn.evaluate/2" and found["figures"][0]["name"] == "top-1, video"
    assert [item["path"] for item in found["skipped"]] == [str(lost)] and found["skipped"][0]["reason"]
    with pytest.raises(DataError, match="sync cannot be measured: the folder holds an encoder alone"):
        evaluate_encoder(load_features(folder), [tmp_path / "clips.csv"], ["sync"])
    refused = CliRunner().invoke(app, [*words, "--baseline", "default"])
    assert refused.exit_code and "not with an encoder" in str(refused.exception)


def test_it_is_probed_by_what_is_seen(folder, tmp_path):
    rows = labelled(tmp_path)
    model = load_features(folder)
    result = probe_model(model, rows)
    assert {f.name for f in result.metrics} >= {"top-1, video"}
    assert set(result.confusion) == {"video"}
    assert sum(map(sum, result.confusion["video"])) == 4
    theirs, ours = untrained(model).encoder.state_dict(), model.encoder.state_dict()
    assert not all((theirs[key] == ours[key]).all() for key in theirs)


def test_what_takes_video_and_audio_says_so(folder, untrained):
    with pytest.raises(
        ModelError, match="holds an encoder alone: `avlearn embed`, `linear-probe` and `evaluate` take it"
    ):
        load(folder)
    assert isinstance(load_features(untrained), AudioVisual)
    assert isinstance(load_features("default"), AudioVisual)
    with pytest.raises(ModelError, match="no model 'defautl'"):
        load_features("defautl")
