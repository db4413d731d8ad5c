import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from avlearn.metrics.interval import wilson_interval
from avlearn.metrics.sync import (
    auc,
    best_threshold,
    binary_accuracy,
    median_offset_error_ms,
    offset_grid,
    offset_within,
    synchformer_accuracy,
    two_afc,
)


def test_two_afc_counts_wins_half_ties_and_no_nan():
    metric = two_afc(np.array([1.0, 0.0, 2.0, np.nan]), np.array([0.0, 1.0, 2.0, -9.0]))
    assert metric.value == (1 + 0 + 0.5 + 0) / 4
    assert (metric.chance, metric.oracle, metric.n) == (0.5, 1.0, 4)
    assert metric.interval == pytest.approx(wilson_interval(0.375, 4))


def test_auc_equals_the_reference_with_ties():
    rng = np.random.default_rng(0)
    aligned, shifted = rng.integers(0, 8, 60) + 1.0, rng.integers(0, 8, 40).astype(float)
    truth = np.r_[np.ones(60), np.zeros(40)]
    assert auc(aligned, shifted).value == pytest.approx(roc_auc_score(truth, np.r_[aligned, shifted]), abs=1e-12)
    assert auc(np.zeros(5), np.zeros(5)).value == 0.5


def test_threshold_is_the_best_of_its_own_scores_and_is_used_as_given():
    aligned, shifted = np.array([0.2, 0.6, 0.9, 0.8]), np.array([0.1, 0.3, 0.5, 0.7])
    threshold = best_threshold(aligned, shifted)
    accuracies = [binary_accuracy(aligned, shifted, t).value for t in np.linspace(0, 1, 1001)]
    assert binary_accuracy(aligned, shifted, threshold).value == max(accuracies) == 0.75
    assert binary_accuracy(aligned, shifted, 5.0).value == 0.5
    assert best_threshold(np.ones(3), np.ones(3)) == 1.0


def test_offsets_within_the_tolerance_and_their_chance_by_enumeration():
    true = np.array([0.0, 0.08, -0.8])
    metric = offset_within(np.array([0.08, 0.24, np.nan]), true, 0.08, offset_grid())
    assert metric.value == pytest.approx(1 / 3)
    # 3 of 21 places are near enough inside the grid, 2 of 21 at its end.
    assert metric.chance == pytest.approx((3 + 3 + 2) / (3 * 21))
    assert metric.prior == pytest.approx(2 / 3)
    drawn = np.random.default_rng(0).choice(offset_grid(), (20000, 3))
    guessed = np.mean([np.abs(row - true) <= 0.0801 for row in drawn])
    assert metric.chance == pytest.approx(guessed, abs=0.005)
    exact = offset_within(true, true, 0.0, offset_grid())
    assert (exact.name, exact.value) == ("offset exact of 21", 1.0)


def test_median_error_in_ms():
    metric = median_offset_error_ms(np.array([0.01, 0.1, -0.3]), np.array([0.0, 0.08, 0.3]), offset_grid())
    assert metric.value == pytest.approx(20.0)
    assert (metric.unit, metric.oracle, metric.higher_is_better) == ("ms", 0.0, False)
    assert metric.prior == pytest.approx(80.0)
    coarse = median_offset_error_ms(np.zeros(3), np.full(3, 0.03), offset_grid(), ", steps", np.zeros(3))
    assert coarse.value == coarse.oracle == pytest.approx(30.0) and coarse.name == "median offset error, steps"
    lost = median_offset_error_ms(np.full(3, np.nan), np.zeros(3), offset_grid())
    assert lost.value == np.inf and lost.to_dict()["value"] is None


def test_the_grid_of_synchformer_takes_the_nearest_class_and_forgives_one():
    true = np.array([-2.0, 0.0, 0.4, 1.0, 2.0])
    exact, near = synchformer_accuracy(np.array([-2.3, 0.09, 0.55, np.nan, 1.51]), true)
    assert (exact.value, near.value) == (2 / 5, 3 / 5)
    assert near.name == "offset within 200 ms of 21"
    assert near.chance == pytest.approx((2 + 3 + 3 + 3 + 2) / (5 * 21))


def test_nothing_is_no_figure():
    with pytest.raises(ValueError, match="no scores"):
        two_afc(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="offsets"):
        offset_within(np.zeros(3), np.zeros(2), 0.08, offset_grid())
