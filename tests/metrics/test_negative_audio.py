import numpy as np
import pytest

from avlearn.metrics.negative_audio import (
    area_auc,
    harmonic_mean,
    highlighted_area,
    negative_audio,
    universal_threshold,
)


def test_published_numbers():
    rng = np.random.default_rng(4)
    areas = highlighted_area(rng.random((9, 20, 20)) * rng.random((9, 1, 1)), 0.3)
    # xavijuanola/vssl_eval e8ebbc9, utils_dir.eval_utils: compute_pIA, compute_AUC_pIA, compute_f.
    assert areas.mean() == pytest.approx(0.34694444444444444, abs=1e-9)
    assert area_auc(areas) == pytest.approx(0.6499999999999999, abs=1e-9)
    assert harmonic_mean(0.25, 0.75) == pytest.approx(0.375, abs=1e-9)


def test_threshold_leaves_a_quarter_of_the_worst_kind():
    kinds = {"silence": np.zeros((8, 2, 2)), "noise": np.arange(8.0)[:, None, None] * np.ones((8, 2, 2))}
    threshold = universal_threshold(kinds)
    assert threshold == 5.25
    assert highlighted_area(kinds["noise"], threshold).mean() == 0.25
    assert highlighted_area(kinds["silence"], threshold).mean() == 0


def test_a_model_that_does_not_listen_marks_as_much_in_silence():
    truth = np.zeros((4, 8, 8))
    truth[:, :4] = 1
    deaf = {f.name: f for f in negative_audio(truth, truth, {"silence": truth, "noise": truth}, 0.5, "x")}
    assert deaf["mean cIoU, one threshold, x"].value == 1.0
    assert deaf["pIA, silence, x"].value == deaf["pIA, silence, x"].prior == 0.5
    assert deaf["F, cIoU, x"].value == pytest.approx(2 / 3)
    hearing = negative_audio(truth, truth, {"silence": 0 * truth}, 0.5)
    assert [f.value for f in hearing] == [1, 0, 1, 1] and not hearing[1].higher_is_better
    assert negative_audio(0 * truth, truth, {"silence": truth}, 0.5)[2].value == 0


def test_a_threshold_is_of_the_maxima_and_what_only_reaches_it_is_not_marked():
    maps = np.array([[[0.0, 0.4], [0.1, 0.2]], [[0.4, 0.8], [0.4, 0.0]]])
    assert universal_threshold({"noise": maps}) == pytest.approx(0.7)
    assert highlighted_area(maps, 0.4).tolist() == [0.0, 0.25]


def test_a_harmonic_mean_of_nothing_is_nothing():
    assert harmonic_mean(0.0, 0.0) == harmonic_mean(0.0, 1.0) == 0.0
