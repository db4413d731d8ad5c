import numpy as np
import pytest
from scipy.stats import binomtest, sem
from scipy.stats import t as student

from avlearn.metrics.interval import mean_interval, median_interval, wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (130, 130), (199, 400)])
def test_wilson_equals_the_reference(hits, n):
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


@pytest.mark.parametrize(("of", "truth"), [(median_interval, np.log(2)), (mean_interval, 1.0)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(of, truth):
    drawn = np.random.default_rng(0).exponential(size=(2000, 60))
    held = np.mean([low <= truth <= high for low, high in map(of, drawn)])
    assert 0.925 <= held <= 0.98


def test_a_median_of_few_or_of_the_lost():
    assert median_interval(np.array([3.0, 1.0])) == (1.0, 3.0)
    assert median_interval(np.full(9, np.inf)) == (np.inf, np.inf)


def test_of_a_mean_is_students():
    values = np.array([1.0, 4.0, 2.0, 9.0])
    expected = student.interval(0.95, 3, loc=4.0, scale=sem(values))
    assert mean_interval(values) == pytest.approx(expected)


def test_of_a_median_lies_between_ranks():
    # Of 20 values, the 6th and the 15th: fewer than 6 of 20 heads have a probability of 2.07 %, fewer than 7 of 5.77 %.
    assert median_interval(np.random.default_rng(0).permutation(20.0 + np.arange(20))) == (25.0, 34.0)
