"""How clean a track is, told by its masks alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from avlearn.apply.separate.track_quality import MaskSums, TrackQuality, fit_quality, track_quality
from avlearn.errors import ModelError
from avlearn.models.calibration import Calibrations, TrackQualityMap, read_calibrations, save_calibrations

RATE = 16000
TIME = np.arange(4 * RATE) / RATE
LOW, HIGH = (np.sin(2 * np.pi * hz * TIME)[None].astype(np.float32) for hz in (440, 3000))


def sharpness(audio: np.ndarray, *tracks: np.ndarray, pieces: int = 1) -> list[float | None]:
    sums = MaskSums(len(tracks), RATE)
    whole = np.stack(tracks)
    for part in np.array_split(np.arange(audio.shape[1]), pieces):
        sums.add(audio[:, part], whole[:, :, part])
    return sums.sharpness()


def test_a_track_that_has_all_of_its_cells_is_sharp_and_one_that_has_half_of_all_is_not():
    apart, half, silent = sharpness(LOW + HIGH, LOW, 0.5 * (LOW + HIGH), 0 * LOW)
    assert apart > 20
    assert half == pytest.approx(3.01, abs=0.01)
    assert silent is None
    spilt = [sharpness(LOW + HIGH, LOW + share * HIGH)[0] for share in (0.1, 0.3, 0.5)]
    assert apart > spilt[0] > spilt[1] > spilt[2]


def test_stretches_add_up_and_what_is_shorter_than_a_window_counts_for_nothing():
    track = LOW * np.linspace(0, 1, len(TIME), dtype=np.float32) + 0.2 * HIGH
    assert sharpness(LOW + HIGH, track, pieces=4) == [pytest.approx(sharpness(LOW + HIGH, track)[0], abs=0.2)]
    assert sharpness((LOW + HIGH)[:, :500], LOW[:, :500]) == [None]


def test_the_estimate_is_a_line_that_ends_where_it_was_measured():
    rng = np.random.default_rng(0)
    sharp = rng.uniform(3, 18, 400)
    line = fit_quality(sharp, 1.5 * sharp - 2 + rng.normal(0, 1, 400))
    assert (line.weight, line.bias) == (pytest.approx(1.5, abs=0.05), pytest.approx(-2, abs=0.5))
    assert line.error == pytest.approx(1.64, abs=0.25)  # of a normal error of 1 dB, nine in ten
    assert track_quality(10.0, line) == TrackQuality(10.0, pytest.approx(13, abs=0.2), line.error)
    assert track_quality(40.0, line).si_sdr == line.high < 26
    assert track_quality(0.0, line).si_sdr == line.low > 2
    assert track_quality(10.0, None) is None and track_quality(None, line) is None


def test_it_lies_in_the_models_folder(tmp_path):
    known = Calibrations(quality=TrackQualityMap(1.2, -1.6, 3.8, 4.3, 20.4))
    save_calibrations(known, tmp_path)
    assert read_calibrations(tmp_path) == known
    path = tmp_path / "separate_quality.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "error": -1}))
    with pytest.raises(ModelError, match="error"):
        read_calibrations(tmp_path)
    save_calibrations(replace(known, quality=None), tmp_path)
    assert not list(tmp_path.iterdir())
