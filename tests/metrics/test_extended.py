import numpy as np
import pytest

from avlearn.metrics.extended import average_precision, confidence, max_f1, precision_recall


def test_published_numbers():
    rng = np.random.default_rng(8)
    overlaps, scores, visible = rng.random(450), rng.random(450), rng.random(450) < 0.7
    scores = scores + 0.3 * visible + 0.2 * overlaps
    # stoneMo/SLAVC 05b429c, utils.EvaluatorFull: calc_ap, the best F1 of finalize_stats, calc_precision_recall.
    assert average_precision(overlaps, scores, visible) == pytest.approx(0.48101607659914974, abs=1e-9)
    assert max_f1(overlaps, scores, visible) == pytest.approx(0.5479930191972077, abs=1e-9)
    precision, recall = precision_recall(overlaps, scores, visible, np.array([0.9]))
    assert (precision[0], recall[0]) == pytest.approx((0.4632768361581921, 0.3178294573643411), abs=1e-9)
    # SLAVC's test.validate: mean of the highest quarter, of 81 pixels 21.
    maps = rng.random((2, 9, 9))
    assert confidence(maps) == pytest.approx([0.8725083888708551, 0.8807567914124955], abs=1e-9)


def test_confidence_has_to_tell_the_audible_from_the_rest():
    overlaps = np.ones(40)
    visible = np.arange(40) < 20
    assert max_f1(overlaps, visible * 1.0, visible) == 1.0
    # All but the first two of twenty.
    assert average_precision(overlaps, visible + np.linspace(0, 0.5, 40), visible) == pytest.approx(0.9)
    assert average_precision(overlaps, -(visible + np.linspace(0, 0.5, 40)), visible) < 0.55
    assert max_f1(0 * overlaps, visible * 1.0, visible) == 0.0


def test_nothing_to_divide_by_is_one():
    precision, recall = precision_recall(np.ones(2), np.zeros(2), np.zeros(2, bool), np.array([1.0]))
    assert precision.tolist() == [1.0] and recall.tolist() == [1.0]
