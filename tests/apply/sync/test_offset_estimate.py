"""The best offset of a file, from the curves of its windows."""

from types import SimpleNamespace

import numpy as np
import pytest

from avlearn.apply.sync.offset_estimate import estimate_offset
from avlearn.apply.sync.offsets import OffsetCurves

STEP, SECONDS = 0.08, 1.6
MODEL = SimpleNamespace(step=STEP, config=SimpleNamespace(score_scale=200.0, seconds=SECONDS))


@pytest.fixture
def curves() -> OffsetCurves:
    """Eight windows of 1.6 s, two seconds apart, whose curves have their peaks at +160 ms."""
    offsets = np.arange(-25, 26) * 0.04
    scores = np.tile(np.exp(-(((offsets - 0.16) / 0.06) ** 2)), (8, 1))
    steps = np.full(scores.shape, SECONDS / STEP)
    starts = 2.0 * np.arange(8)
    return OffsetCurves(
        offsets, starts, np.full(8, SECONDS), scores, steps, np.ones(8), 9.0, None, 25.0, (), SimpleNamespace()
    )


def test_the_middles_of_windows_are_half_a_window_from_where_they_begin(curves):
    found = estimate_offset(curves, MODEL)
    assert found.offset == pytest.approx(0.16, abs=0.005)
    assert found.timeline.middle == pytest.approx(7.0 + SECONDS / 2)


def test_offsets_that_one_window_has_no_audio_at_are_measured_by_the_others(curves):
    whole = estimate_offset(curves, MODEL)
    curves.scores[0, :10] = np.nan
    curves.steps[0, :10] = 0
    found = estimate_offset(curves, MODEL)
    assert np.isfinite(found.scores).all() and found.scores == pytest.approx(whole.scores, abs=1e-6)
    curves.scores[:, :10] = np.nan
    assert np.isnan(estimate_offset(curves, MODEL).scores[:10]).all()


def test_without_audio_at_any_offset_there_is_none(curves):
    curves.scores[:] = np.nan
    assert estimate_offset(curves, MODEL) is None


def test_an_offset_that_has_no_other_beside_it_has_beaten_none(curves):
    assert estimate_offset(curves, MODEL).evidence.margin > 1
    far = np.abs(curves.offsets - 0.16) > 2 * STEP - 0.01
    curves.scores[:, far] = np.nan
    curves.steps[:, far] = 0
    assert estimate_offset(curves, MODEL).evidence.margin == 0
