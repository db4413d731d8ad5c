"""Localization on worlds: what is measured, beside what, and that it cannot be had without looking and normalizer."""

import numpy as np
import pytest

from avlearn.data.manifest import read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.evaluation import evaluate
from avlearn.evaluation.multi_source import is_found, stems
from avlearn.evaluation.scene_objects import motion_map, scene_objects
from avlearn.evaluation.untrained import untrained as before_training
from avlearn.models.folder import load


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    for preset, clips in (("muted", 8), ("duets", 6)):
        make_world(folder / preset, clips, 21, WorldConfig.preset(preset), workers=2, split="test")
    return folder


def test_the_default_model_hears_which_of_two_things_sounds(worlds):
    metrics = evaluate(load("default"), [worlds / "muted"], tasks=["localization"]).metrics
    named = {metric.name: metric for metric in metrics}
    assert named["pointing, other class"].value >= 0.7 > named["pointing, other class, untrained network"].value
    assert named["sounding over silent, other class"].value >= 0.8
    assert named["cIoU@0.5, other class"].value > named["cIoU@0.5, other class"].prior
    assert named["mean IoU, other class, off centre"].n <= 8
    assert all(named[f"audible: on screen or {kind} (AUC)"].value > 0.9 for kind in ("silence", "noise", "off screen"))
    assert named["pIA, off screen"].value < named["pIA, off screen"].prior


def test_each_of_two_sounds_points_at_its_own_thing(worlds):
    metrics = evaluate(load("default"), [worlds / "duets"], tasks=["localization"]).metrics
    assert [metric.name for metric in metrics] == [
        "IIoU@0.5, each with its own audio", "IAUC, each with its own audio", "both sources found",
    ]  # fmt: skip
    iiou, _, both = metrics
    assert iiou.value > iiou.prior + 0.2 and iiou.prior < 0.2 and iiou.n == both.n == 6
    assert both.value >= 0.5


def test_the_network_before_training_is_the_same_each_time_and_leaves_chance_alone(untrained):
    import torch

    model = load(untrained)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = before_training(model).state_dict(), before_training(model).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert first.keys() < model.state_dict().keys()


def test_truth_of_a_clip_and_what_moves_in_it(worlds):
    row = read_manifest(worlds / "duets")[0]
    pair = [thing for thing in scene_objects(row) if thing.sounding]
    assert len(pair) == 2 and all((thing.boxes[50] >= 0).all() and (thing.boxes[50] <= 1).all() for thing in pair)
    alone = stems(row)
    assert all(np.abs(alone[thing.stem]).max() > 0.01 for thing in pair)
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    frames[1, 8:16, 24:32] = 90
    energy = motion_map(frames, 8)
    assert energy[1, 3] == 90 and energy.sum() == 90


def test_a_source_is_found_where_it_is_most_of_the_time(worlds):
    from avlearn.apply.localize.sources import SoundSource

    thing = scene_objects(read_manifest(worlds / "duets")[0])[0]
    times = np.arange(1.0, 3.0, 0.5)
    boxes = thing.boxes[(times * 25).astype(int)].astype(np.float32)
    source = SoundSource(1, boxes, np.ones(4, np.float32), 0.0, 1.0)
    assert is_found(thing, [source], times, 25)
    away = boxes.copy()
    away[:2] += 2
    assert not is_found(thing, [SoundSource(1, away, np.ones(4, np.float32), 0.0, 1.0)], times, 25)
    assert not is_found(thing, [], times, 25)
