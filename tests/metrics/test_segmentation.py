import numpy as np
import pytest

from avlearn.metrics.segmentation import f_score, mask_iou


def test_published_numbers():
    rng = np.random.default_rng(9)
    truth = rng.random((5, 64, 64)) < 0.3
    truth[1] = False
    maps = 1 / (1 + np.exp(-(4 * rng.random((5, 64, 64)) - 2.5 + 1.2 * truth)))
    # OpenNLPLab/AVSBench f7414af, avs_s4 utils.utility in float64: mask_iou, Eval_Fmeasure. The first
    # adds 1e-7 of a pixel to each union.
    assert mask_iou(maps, truth).mean() == pytest.approx(0.41292851730534685, abs=1e-9)
    assert f_score(maps, truth) == pytest.approx(0.639629874527198, abs=1e-9)


def test_an_empty_truth_asks_for_an_empty_mask():
    truth = np.zeros((2, 4, 4), bool)
    maps = np.zeros((2, 4, 4))
    maps[1, 0] = 1
    assert mask_iou(maps, truth).tolist() == [1.0, 0.75]
    with pytest.raises(ValueError, match="no item"):
        f_score(maps, truth)


def test_f_prefers_precision():
    truth = np.zeros((1, 4, 4), bool)
    truth[0, :2] = True
    half, double = np.zeros((1, 4, 4)), np.ones((1, 4, 4))
    half[0, 0] = 1
    assert f_score(truth * 1.0, truth) == 1.0
    # Precision 1 and recall 0.5 against the reverse; the lowest threshold of 0 marks everything.
    assert f_score(half, truth) == pytest.approx(1.3 * 0.5 / 0.8)
    assert f_score(double, truth) == pytest.approx(1.3 * 0.5 / 1.15)
