"""A model that has no common space is localized by its objective's class activation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avlearn.data.cache import decode_once
from avlearn.data.manifest import read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import DataError
from avlearn.evaluation import evaluate
from avlearn.evaluation.localization import shifted_maps
from avlearn.evaluation.selection import AROUND
from avlearn.evaluation.windows import cut_windows, on_grid
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.objectives import FeatureSpec
from avlearn.objectives.fusion import ShiftBCE, cam


@pytest.fixture(scope="module")
def muted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fused") / "muted"
    make_world(folder, 4, 5, WorldConfig.preset("muted", size=64), workers=1)
    return folder


@pytest.fixture(scope="module")
def model(untrained) -> AudioVisual:
    found = load(untrained)
    found.config = found.config.model_copy(update=dict(common_space=False))
    return found


@pytest.fixture(scope="module")
def objective(model) -> ShiftBCE:
    torch.manual_seed(1)
    spec = FeatureSpec(model.step, 25, 21, model.video.num_features, model.audio.num_features, 128, 4)
    return ShiftBCE(ShiftBCE.Options(width=8, slow_until=0.0), spec).eval()


def test_it_has_figures_of_localization_with_its_objective_alone(model, objective, muted):
    with pytest.raises(DataError, match="taught it no common space"):
        evaluate(model, [muted], tasks=["localization"])
    metrics = {f.name: f for f in evaluate(model, [muted], tasks=["localization"], objective=objective).metrics}
    assert metrics["pointing, other class"].n == 4
    assert "sounding over silent, other class" in metrics
    assert metrics["the same, audio shifted (control), other class"].n == 8
    assert not any("untrained" in name for name in metrics)


def test_its_maps_are_class_activations_at_the_steps_of_the_audio(model, objective, muted, tmp_path):
    config = model.config
    cache = decode_once(read_manifest(muted), tmp_path, config.fps, config.size, config.sample_rate, 1)
    cut = on_grid(model, np.full(4, AROUND * model.step), 2 * AROUND * model.step)
    right, early = shifted_maps(model, cache, cut, (AROUND, 0), objective)
    ((frames, audio),) = cut_windows(model, cache, cut)
    with torch.inference_mode():
        expected = cam(objective, model, frames, audio, AROUND).numpy()
    assert np.allclose(right, expected)
    assert right.shape == (4, 8, 8)
    assert not np.allclose(right, early)
