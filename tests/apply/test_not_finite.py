"""Models whose weights are numbers, and what they make of a file is none."""

import re

import numpy as np
import pytest
import torch

from avlearn.apply.classify import classify_file
from avlearn.apply.embed import embed_file, embed_files
from avlearn.apply.localize.file import localize_file
from avlearn.apply.separate.file import separate_file
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.apply.sync.offsets import offset_curves
from avlearn.errors import AvlearnError, ModelError
from avlearn.models.calibration import Calibrations
from avlearn.models.folder import load


@pytest.fixture
def clip(small_world):
    return sorted((small_world / "clips").glob("*.mp4"))[0]


def _huge(model):
    model.video_head.weight.fill_(3e38)


def _below_zero(model):
    next(buffer for name, buffer in model.named_buffers() if name.endswith("running_var")).fill_(-1)


@pytest.mark.parametrize("damage", [_huge, _below_zero])
def test_what_is_not_finite_is_no_verdict_and_no_file(untrained, clip, tmp_path, damage):
    model = load(untrained)
    with torch.no_grad():
        damage(model)
    for use in (
        lambda: sync_by_model(clip, model),
        lambda: localize_file(clip, model, tmp_path / "x.mp4"),
        lambda: separate_file(clip, model, tmp_path),
        lambda: classify_file(clip, model),
        lambda: embed_files([clip], model, tmp_path / "x.npz"),
    ):
        with pytest.raises(ModelError, match="is not finite"):
            use()
    assert not list(tmp_path.iterdir())


def test_masks_that_are_not_finite_are_no_tracks(untrained, clip, tmp_path):
    model = load(untrained)
    with torch.no_grad():
        next(p for name, p in model.separator.named_parameters() if name.endswith("weight")).fill_(3e38)
    with pytest.raises(ModelError, match=re.escape("what the model makes of the tracks is not finite")):
        separate_file(clip, model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_calibration_of_other_evidence_is_refused_before_tracks_are_written(untrained, clip, tmp_path):
    model = load(untrained)
    model.calibrations = Calibrations(tracks={"weights": {"height": 1.0}, "bias": 0.0})
    with pytest.raises(ModelError, match="no weight for fit, margin, share"):
        separate_file(clip, model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [0.16, 0.4])
def test_models_with_short_windows_see_the_whole_file(untrained, clip, seconds):

    model = load(untrained)
    model.config = model.config.model_copy(update=dict(seconds=seconds))
    starts, video, _ = embed_file(clip, model)
    assert len(starts) == len(video) and starts[-1] > 3
    assert np.diff(starts).max() < seconds
    assert offset_curves(clip, model, 0.4).starts[-1] > 3


def test_a_source_that_is_asked_for_twice_is_refused(untrained, clip, tmp_path):
    with pytest.raises(AvlearnError, match="one and the same"):
        separate_file(clip, load(untrained), tmp_path, choices=[(0.25, 0.25), (0.25, 0.25)])
    assert not list(tmp_path.iterdir())
