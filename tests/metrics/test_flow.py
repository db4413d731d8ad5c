import numpy as np
import pytest

from avlearn.metrics.flow import angular_errors, endpoint_errors, flow_metrics, flow_outliers


def vectors(*pairs: tuple[float, float]) -> np.ndarray:
    """``[1, 2, 1, W]``."""
    return np.array(pairs, float).T[None, :, None]


def test_errors_by_hand():
    truth, flow = vectors((3, 4), (0, 0), (100, 0)), vectors((0, 0), (1, 0), (104, 0))
    assert endpoint_errors(flow, truth)[0, 0].tolist() == [5, 1, 4]
    # 4 pixels are more than 3, but 5 % of 100 are 5.
    assert flow_outliers(flow, truth)[0, 0].tolist() == [True, False, False]
    assert angular_errors(flow, truth)[0, 0, :2] == pytest.approx([np.degrees(np.arccos(1 / np.sqrt(26))), 45])
    assert angular_errors(truth, truth).max() == 0


def test_small_angles_are_told_apart():
    truth = vectors((10, 0))
    assert 0 < angular_errors(truth + 1e-6, truth)[0, 0, 0] < 1e-4


def test_references_are_no_motion_and_one_for_all():
    truth = vectors((2, 0), (4, 0))
    error, outliers, angle = flow_metrics(vectors((2, 0), (4, 3)), truth)
    assert (error.value, error.chance, error.prior, error.oracle) == (1.5, 3, 1, 0)
    assert (outliers.value, outliers.chance, outliers.prior) == (0, 0.5, 0)
    assert angle.value == pytest.approx(angular_errors(vectors((4, 3)), vectors((4, 0)))[0, 0, 0] / 2)
    assert not error.higher_is_better and error.unit == "px" and error.n == 1
    assert [metric.value for metric in flow_metrics(truth, truth)] == [0, 0, 0]


def test_only_known_pixels_count_and_each_pair_has_its_own_mean():
    truth = np.concatenate([vectors((1, 1), (np.nan, 0)), vectors((9, 0), (9, 0))])
    flow = np.zeros_like(truth)
    flow[0, :, 0, 1] = 1000
    error = flow_metrics(flow, truth)[0]
    assert error.value == error.chance == pytest.approx((np.sqrt(2) + 18) / 3)
    assert error.prior == 0
    valid = np.array([[[True, False]], [[False, False]]])
    assert flow_metrics(flow, truth, valid)[0].value == pytest.approx(np.sqrt(2))


def test_a_flow_that_is_no_number_cannot_look_good():
    truth = vectors((1, 0), (2, 0))
    error, outliers, angle = flow_metrics(vectors((np.nan, 0), (2, 0)), truth)
    assert error.value == np.inf and outliers.value == 0.5 and angle.value == 90


def test_what_cannot_be_measured_is_told():
    with pytest.raises(ValueError, match="for a truth of"):
        flow_metrics(np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 4)))
    with pytest.raises(ValueError, match="known nowhere"):
        flow_metrics(vectors((1, 1)), vectors((np.nan, 1)))
