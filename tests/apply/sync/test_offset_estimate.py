"""The best offset of a file, from the curves of its windows."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from avlearn.apply.sync.drift import _pairs
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


@pytest.mark.parametrize(("count", "apart", "most"), [(4, 1, 4000), (7, 2, 5), (300, 100, 4000), (301, 100, 17)])
def test_pairs_are_those_out_of_all_in_order(count, apart, most):
    first, second = np.triu_indices(count, apart)
    chosen = np.linspace(0, len(first) - 1, min(len(first), most)).astype(int)
    for found, expected in zip(_pairs(count, apart, most), (first[chosen], second[chosen]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_memory_for_a_long_film_is_a_part_of_that_of_its_curves():
    """Of 50 minutes whose windows agree on nothing, so that all levels are looked at."""
    rng = np.random.default_rng(0)
    offsets, count = np.arange(-250, 251) * 0.02, 3000
    scores = rng.normal(0, 0.1, (count, len(offsets))).astype(np.float32)
    steps = np.full(scores.shape, 20, np.int32)
    curves = OffsetCurves(
        offsets, 1.0 * np.arange(count), np.full(count, SECONDS), scores, steps, np.ones(count), 9.0, None, 25.0, (),
        SimpleNamespace(),
    )  # fmt: skip
    tracemalloc.start()
    assert estimate_offset(curves, MODEL) is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * scores.nbytes
