"""Testing of networks that see motion: what is read of prepared flow is what a training would compute."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from avlearn.data.manifest import read_manifest
from avlearn.data.prepare import prepare
from avlearn.data.prepared_flow import flow_path, read_flow, window_flow
from avlearn.data.transcode import FlowSettings
from avlearn.data.views import Views, clip_frames
from avlearn.data.world import WorldConfig, make_world
from avlearn.evaluation import view_scores
from avlearn.evaluation.recognizer import evaluate_recognizer
from avlearn.evaluation.view_scores import score_views
from avlearn.models.inputs import LIMIT
from avlearn.tasks import build, load_recipe
from avlearn.tasks.recognize.clips import LabelledClips, collate_windows

FLOW = FlowSettings("lucas_kanade", 12.5, 48)
COARSE = 0.5 / 127 / 2  # of an input from 0 to 1, of the longest motion that it can hold
SAID = "flow is read as it was prepared: lucas_kanade at 12.5 frames a second of 48 pixels"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> dict[str, Path]:
    """The same clips with flow and without it."""
    folder = tmp_path_factory.mktemp("clips")
    config = WorldConfig.preset("solo", size=48, duration=2.24, classes=("bell", "fan"))
    made = make_world(folder / "world", 14, 1, config, workers=1, split="")
    prepare(made, folder / "flow", short_side=48, flow=FLOW, workers=1)
    shutil.copytree(folder / "flow", folder / "plain", ignore=shutil.ignore_patterns("*.flow"))
    return {name: folder / name for name in ("flow", "plain")}


def experiment(data: Path, *more: str):
    words = [
        f"data.train={data}", f"data.root={data.parent}", "data.cache=false",
        "recognize.inputs=video", "model.video=x3d_xs", "model.video_options={in_chans: 2}", "clip.size=48",
        "clip.fps=12.5", "clip.seconds=1.6", "trainer.accelerator=cpu", "trainer.threads=1",
    ]  # fmt: skip
    one = build(load_recipe("recognize_world", [*words, *more]))
    one.module.eval()
    return one


def noted(model, monkeypatch) -> list[torch.Tensor]:
    """Inputs ``[C, T, H, W]`` that the encoder is given from now on."""
    inputs: list[torch.Tensor] = []
    encode = model.video.forward_features
    monkeypatch.setattr(model.video, "forward_features", lambda video: (inputs.extend(video), encode(video))[1])
    return inputs


@pytest.mark.parametrize(
    "more",
    [[], ["clip.seconds=3.2"], ["model.video=two_stream_r50", "model.video_options={}"]],
    ids=["flow", "longer than the clips", "frames and flow"],
)
def test_scores_are_those_of_the_training_reader_within_8_bits(prepared, monkeypatch, more):
    one = experiment(prepared["plain"], *more)
    model, rows = one.module.model, read_manifest(prepared["flow"])[:6]
    clips = LabelledClips(read_manifest(prepared["plain"])[:6], model.config.labels, one.val.how)
    inputs = noted(model, monkeypatch)
    with torch.inference_mode():
        batch = collate_windows([clips[(k, 0, ())] for k in range(len(clips))])
        assert "flow" not in batch
        expected = one.module._scores(batch).numpy()
    computed = inputs.copy()
    inputs.clear()
    found = np.stack([one["video"] for one in score_views(model, rows, Views("even", 1), "logits", FLOW)])
    assert len(inputs) == len(computed) == len(rows)
    for given, as_trained in zip(inputs, computed, strict=True):
        assert (given[-2:] - as_trained[-2:]).abs().max() <= COARSE and as_trained[-2:].std() > 0.001
        assert torch.equal(given[:-2], as_trained[:-2])
    apart = np.abs(expected[:, None] - expected).max()
    assert np.abs(found - expected).max() < 0.05 * apart


def test_views_are_laid_between_the_frames_of_the_flow(prepared, monkeypatch):
    one = experiment(prepared["flow"])
    inputs = noted(one.module.model, monkeypatch)
    row = read_manifest(prepared["flow"])[3]
    for views in (Views("even", 3), Views("dense")):
        inputs.clear()
        list(score_views(one.module.model, [row], views, flow=FLOW))
        places = clip_frames(views, round(row.duration * FLOW.fps), 20, 1.0)
        assert len(inputs) == len(places)
        for given, frames in zip(inputs, places, strict=True):
            flow = torch.from_numpy(read_flow(row, FLOW, int(frames[0]), 19))
            assert torch.allclose(given[:, :-1], flow / (2 * LIMIT) + 0.5) and torch.equal(given[:, -1], given[:, -2])


@pytest.mark.parametrize(
    ("data", "views", "said"),
    [
        ("flow", None, SAID),
        ("flow", Views("even", 2, 3), "flow is computed: --views even:2x3; prepared flow is of the middle square"),
        ("flow", Views("mmaction2", 2), "flow is computed: --views mmaction2:2x1"),
        ("plain", Views("even", 1), ""),
    ],
    ids=str,
)
def test_evaluate_says_which_flow_it_takes(prepared, monkeypatch, capsys, data, views, said):
    model = experiment(prepared["plain"]).module.model
    capsys.readouterr()
    read = []
    monkeypatch.setattr(view_scores, "window_flow", lambda *given: (read.append(given), window_flow(*given))[1])
    manifest = prepared[data] / "manifest.parquet"
    result = evaluate_recognizer(model, [manifest], views)
    assert len(result.clips.rows) == 14
    told = capsys.readouterr().err
    assert said in told if said else "flow" not in told
    assert bool(read) == (said == SAID)


def test_damaged_flow_is_told_of_its_clip_alone(prepared, tmp_path):
    shutil.copytree(prepared["flow"], tmp_path / "some")
    rows = read_manifest(tmp_path / "some")
    path = flow_path(rows[2].path)
    path.write_bytes(path.read_bytes()[:400])
    model = experiment(prepared["plain"]).module.model
    found = list(score_views(model, rows, Views("even", 1), flow=FLOW))
    assert [k for k, one in enumerate(found) if isinstance(one, str)] == [2]
    assert "its prepared flow cannot be used" in found[2]
