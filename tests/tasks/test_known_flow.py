"""Trainings of networks that see motion: flow that was prepared is that which would be computed."""

import shutil
from pathlib import Path

import pytest

from avlearn.data.prepare import prepare
from avlearn.data.transcode import FlowSettings
from avlearn.data.world import WorldConfig, make_world
from avlearn.models.inputs import video_input
from avlearn.tasks import build, load_recipe
from avlearn.tasks.recognize.clips import collate_windows
from avlearn.tasks.recognize.module import _given

FLOW = FlowSettings("lucas_kanade", 12.5, 48)
COARSE = 0.5 / 127 / 2  # of an input from 0 to 1, of the longest motion that it can hold


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> dict[str, Path]:
    """The same clips with flow and without it."""
    folder = tmp_path_factory.mktemp("clips")
    config = WorldConfig.preset("solo", size=48, duration=2.2, classes=("bell", "fan"))
    made = make_world(folder / "world", 20, 1, config, workers=1)
    prepare(made, folder / "flow", short_side=48, flow=FLOW, workers=1)
    shutil.copytree(folder / "flow", folder / "plain", ignore=shutil.ignore_patterns("*.flow"))
    return {name: folder / name for name in ("flow", "plain")}


def experiment(data: Path, *more: str):
    words = [
        f"data.train={data}", f"data.root={data.parent}", "data.cache=false", "recognize.inputs=video",
        "model.video=x3d_xs", "model.video_options={in_chans: 2}", "clip.size=48", "clip.fps=12.5", "clip.seconds=1.6",
        "trainer.accelerator=cpu", "trainer.threads=1", "augment.brightness=0", "augment.contrast=0",
        "augment.colour=0", "augment.flip=false",
    ]  # fmt: skip
    return build(load_recipe("recognize_world", [*words, *more]))


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["data.cache=true"],
        ["clip.seconds=3.2", "augment.repeats=2"],
        ["clip.seconds=3.2", "data.cache=true"],
        ["model.video=two_stream_r50", "model.video_options={}"],
    ],
    ids=" ".join,
)
def test_inputs_are_equal_to_within_8_bits(prepared, more, capsys):
    made = {name: experiment(data, *more) for name, data in prepared.items()}
    assert (
        "flow is read as it was prepared: lucas_kanade at 12.5 frames a second of 48 pixels" in capsys.readouterr().err
    )
    encoder = made["flow"].module.model.video
    for part in ("train", "val"):
        inputs = {}
        for name, one in made.items():
            clips = getattr(one, part)
            batch = collate_windows([clips[(k, 7 * k, ())] for k in range(min(len(clips), 4))])
            assert ("flow" in batch) == (name == "flow") and not batch["skipped"]
            if name == "flow" and part == "train":
                assert ("video" in batch) == (encoder.takes == "video+flow")
            video, _, flow = _given(batch)
            inputs[name] = video_input(encoder, video, flow)
        assert inputs["flow"].shape == inputs["plain"].shape and inputs["plain"].std() > 0.001
        assert (inputs["flow"] - inputs["plain"]).abs().max() <= COARSE


def test_a_step_with_every_change_that_flow_can_follow(prepared):
    one = experiment(prepared["flow"], "augment.zoom=0.3", "augment.mixup=0.5", "augment.cutmix=0.5")
    module, clips = one.module, one.train
    batch = collate_windows([clips[(k, k, ())] for k in range(4)])
    (video, _, flow), targets = module._augmented(batch)
    assert video is None and flow.shape == batch["flow"].shape and targets.shape == (4, 2)
    loss, _ = module.try_batch(batch)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["clip.fps=25"],
            "0 of 20 clips have lucas_kanade at 25 frames a second of 48 pixels; that of others is lucas",
        ),
        (["model.video_options={in_chans: 3}"], ""),
        (["augment.area=0.5"], "flow is computed: augment.area"),
        (["augment.rand_layers=1", "augment.erase=0.2"], "computed: augment.rand_layers, augment.erase"),
        (["recognize.segments=4"], "flow is computed: recognize.segments"),
    ],
    ids=str,
)
def test_where_it_is_not_what_the_network_would_see_it_is_computed(prepared, more, said, capsys):
    one = experiment(prepared["flow"], *more)
    assert "flow" not in one.train[(0, 0, ())]
    told = capsys.readouterr().err
    assert said in told if said else "flow" not in told


def test_flow_of_some_clips_is_that_of_none_and_damage_leaves_a_clip_out(prepared, tmp_path, capsys):
    shutil.copytree(prepared["flow"], tmp_path / "some")
    first = sorted((tmp_path / "some").rglob("*.flow"))[0]
    data = first.read_bytes()
    first.unlink()
    assert "flow" not in experiment(tmp_path / "some").train[(0, 0, ())]
    assert "19 of 20 clips have lucas_kanade" in capsys.readouterr().err
    first.write_bytes(data[:400])
    one = experiment(tmp_path / "some")
    items = [clips[(k, 0, ())] for clips in (one.train, one.val) for k in range(len(clips))]
    assert ["its prepared flow cannot be used" in item.get("skipped", "") for item in items].count(True) == 1
