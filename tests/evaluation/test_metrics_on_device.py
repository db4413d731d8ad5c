"""Metrics are measured on the model's device, and are those of the processor."""

import numpy as np
import pytest
import torch
from pretend_device import pretend_device

from avlearn.data.cache import decode_once
from avlearn.data.manifest import read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.evaluation import cached_features, evaluate
from avlearn.evaluation.separation import separation_metrics
from avlearn.evaluation.sync import OffsetScorer, score_offsets
from avlearn.models.folder import load
from avlearn.objectives import FeatureSpec, ShiftBCE


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    return [
        make_world(folder / preset, clips, 5, WorldConfig.preset(preset), workers=1, split="test")
        for preset, clips in (("muted", 3), ("duets", 3))
    ]


def test_a_tensor_that_is_left_on_the_processor_is_found(untrained):
    model, video = load(untrained), torch.rand(1, 3, 4, 32, 32)
    with pretend_device() as device, torch.inference_mode():
        model.to(device)
        assert model.device == device == model.video_features(video.to(device)).device
        with pytest.raises(RuntimeError, match="tensors on cuda:0 and on cpu"):
            model.video_features(video)
        with pytest.raises(TypeError, match="copy it to the processor first"):
            video.to(device).numpy()


def test_figures_are_the_same_on_another_device(untrained, manifests):
    expected = evaluate(load(untrained), manifests)
    assert {metric.task for metric in expected.metrics} == {"sync", "retrieval", "localization", "separation"}
    with pretend_device() as device:
        found = evaluate(load(untrained).to(device), manifests)
    assert found == expected


def test_offsets_by_an_objective_are_the_same_on_another_device(untrained, small_world, tmp_path):
    """As an audit asks for them."""
    model, rows = load(untrained), read_manifest(small_world / "manifest.parquet")[:2]
    config = model.config
    cache = decode_once(rows, tmp_path, config.fps, config.size, config.sample_rate, 1)
    steps, channels = round(config.seconds / model.step), (model.video.num_features, model.audio.num_features)
    spec = FeatureSpec(model.step, steps, 25, *channels, config.dim, 2)
    objective, lead = ShiftBCE(ShiftBCE.Options(width=8), spec).eval(), np.zeros(2, int)

    def scores() -> np.ndarray:
        scorer = OffsetScorer(model, objective)
        return score_offsets(scorer, cache, scorer.cut(lead))

    expected = scores()
    with pretend_device() as device:
        model.to(device)
        assert (scores() == expected).all()


def test_separation_and_features_are_the_same_on_another_device(untrained, small_world, tmp_path):
    rows = read_manifest(small_world / "manifest.parquet")[:4]
    model = load(untrained)
    config = model.config
    cache = decode_once(rows, tmp_path, config.fps, config.size, config.sample_rate, 1)
    labels = np.zeros(len(rows))
    expected = separation_metrics(model, cache, rows, 0, model)
    features = cached_features(model, cache, labels)
    with pretend_device() as device:
        model.to(device)
        assert separation_metrics(model, cache, rows, 0, model) == expected
        found = cached_features(model, cache, labels)
    assert (found.video == features.video).all() and (found.audio == features.audio).all()
