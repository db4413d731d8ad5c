"""How the offset of lips changes: windows of planted lips tell a drift and an edit, and else that it is constant."""

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_face import drawn_face

from avlearn.apply.sync import lip_curves as evidence
from avlearn.apply.sync import speech
from avlearn.apply.sync.drift import Timeline
from avlearn.apply.sync.experts import sync_with_experts
from avlearn.apply.sync.fix import fix_file
from avlearn.apply.sync.lip_curves import judge_lips, lip_curves
from avlearn.apply.sync.lip_windows import LipWindows
from avlearn.apply.sync.speech import speech_sync
from avlearn.errors import SyncError
from avlearn.media import write_video
from avlearn.models.folder import load

LAGS = np.arange(-100, 101)
SECONDS = 40


def planted(late: np.ndarray, strength: float = 0.5, seed: int = 0) -> np.ndarray:
    """``[T, U]`` of noise, in which the lips of each crop fit the audio so many seconds ``[T]`` later."""
    rng = np.random.default_rng(seed)
    similarity = rng.normal(0, 0.15, (len(late), 4 * len(late))).astype(np.float32)
    place = 4 * np.arange(len(late)) + np.round((late + rng.normal(0, 0.01, len(late))) * 100).astype(int)
    inside = (place >= 0) & (place < similarity.shape[1])
    similarity[np.flatnonzero(inside), place[inside]] += strength
    return similarity


def windows(similarity: np.ndarray, tracks: int = 1) -> LipWindows:
    """Of tracks that follow one another."""
    found = LipWindows(LAGS, SECONDS)
    for rows in np.array_split(np.arange(len(similarity)), tracks):
        found.add(similarity[rows], 4 * int(rows[0]), rows[0] / 25)
    return found


TIMES = np.arange(25 * SECONDS) / 25


@pytest.mark.parametrize("tracks", [1, 5])
@pytest.mark.parametrize("slope", [0.004, -0.002])
def test_a_drift_is_told_with_its_sign(slope, tracks):
    timeline = windows(planted(0.1 - slope * TIMES), tracks).timeline()
    assert timeline.slope == pytest.approx(slope, abs=0.0003) and not timeline.edges


def test_hops_of_a_film_of_hours_are_as_few_as_of_a_quarter_of_an_hour():
    found, hours = LipWindows(LAGS, 10800), 10800
    for start in range(0, hours, 20):
        found.add(planted(np.zeros(50)), 0, start)
    assert len(found._hops) <= 600
    assert found.timeline().constant


@pytest.mark.parametrize("tracks", [1, 5])
def test_an_edit_is_told_with_its_place(tracks):
    found = windows(planted(np.where(TIMES < 22, 0.0, 0.2)), tracks)
    timeline = found.timeline()
    assert timeline.edges == (pytest.approx(22, abs=1.5),) and not timeline.slope
    offset, confidence = judge_lips(found.aligned(timeline), LAGS)
    assert confidence > 0.85 and offset == pytest.approx(0, abs=0.02)
    course = timeline.course(offset, SECONDS)
    assert course.values == (pytest.approx(0, abs=0.03), pytest.approx(-0.2, abs=0.03)) and course.drift is None


@pytest.mark.parametrize("seed", range(10))
def test_a_constant_offset_stays_one(seed):
    assert windows(planted(np.full(len(TIMES), 0.3), seed=seed)).timeline().constant


@pytest.mark.parametrize("seed", range(10))
def test_lips_of_other_audio_are_not_sure_with_any_timeline(seed):
    found = windows(planted(TIMES, 0.0, seed))
    assert judge_lips(found.aligned(found.timeline()), LAGS)[1] < 0.85


def test_windows_that_do_not_agree_on_a_change_tell_none():
    """A third of the film fits at an offset of its own in every few seconds."""
    late = np.where(TIMES < 20, 0.0, 0.2) + 0.3 * (TIMES % 9 < 3)
    assert windows(planted(late)).timeline().constant


def test_a_short_file_has_a_constant_offset():
    found = LipWindows(LAGS, SECONDS)
    found.add(planted(np.zeros(50)), 0, 0.0)
    assert found.timeline().constant


def test_curves_moved_back_add_up_where_they_were_at_one_lag():
    one, other = (lip_curves(planted(np.full(200, late)), 0, LAGS) for late in (0.1, 0.3))
    lag = int(LAGS[(one + other.moved(-20)).scores.argmax()])
    assert lag == pytest.approx(10, abs=1)


def test_shifts_hold_between_the_windows_and_beyond_them():
    steps = Timeline((4.0, 9.0), 0.0, np.array([0.0, 0.0, 0.2, 0.2, -0.1]), np.array([0, 0, 1, 1, 2]), 5.0)
    assert steps.shifts_at(np.array([-1.0, 3.9, 4.1, 8.0, 20.0])).tolist() == [0.0, 0.0, 0.2, 0.2, -0.1]
    line = Timeline((), 0.001, np.zeros(2), np.zeros(2, int), 10.0)
    assert line.shifts_at(np.array([0.0, 30.0])) == pytest.approx([-0.01, 0.02])


class Planted:
    """In place of the encoders: lips fit the audio where the audio is as loud as the mouth is open."""

    def similarity(self, crops, audio):
        mouth = -crops[:, 24:44, 24:40].float().mean((1, 2))
        loud = torch.nn.functional.avg_pool1d(audio.abs()[None], 160)[0]
        mouth, loud = ((x - x.mean()) / (x.std() + 1e-6) for x in (mouth, loud))
        return mouth[:, None] * loud


@pytest.fixture
def fits(monkeypatch):
    monkeypatch.setattr(speech, "load_speech_sync", lambda device: Planted())
    calibration = {"format": "avlearn.confidence/1", "weights": {"peak": 1.0, "margin": 1.0}, "bias": -6.0}
    monkeypatch.setattr(evidence, "speech_calibration", lambda: calibration)


def film(path: Path, later) -> Path:
    """30 s of a face that opens its mouth irregularly, and a tone as loud as it is open, ``later(t)`` seconds later."""
    opened = np.repeat(np.random.default_rng(5).integers(0, 2, 190), 4).astype(float)
    frames = np.stack([drawn_face((120, 90), mouth=mouth) for mouth in opened])
    times = np.arange(len(opened) * 640) / 16000
    seen = ((times - later(times)) * 25).astype(int).clip(0, len(opened) - 1)
    audio = opened[seen] * np.sin(np.arange(len(times)) * 0.3) * 0.5
    write_video(path, frames, 25, audio=audio[None].astype(np.float32), sample_rate=16000)
    return path


def test_sync_tells_a_drift_by_speech_and_fix_mends_it(tmp_path, fits):
    path, model = film(tmp_path / "drift.mp4", lambda t: 0.1 + 0.006 * t), load("default")
    result = sync_with_experts(path, model)
    assert (result.status, result.expert) == ("out of sync", "speech")
    assert result.drift == pytest.approx(-360, abs=40) and result.offset == pytest.approx(-0.1, abs=0.04)
    assert "a drift of -" in result.verdict
    assert result.to_dict()["experts"][0]["drift"] == result.drift
    with pytest.raises(SyncError, match="--drift mends that"):
        fix_file(result, tmp_path / "fixed.mp4", model=model)
    assert fix_file(result, tmp_path / "fixed.mp4", model=model, resample=True).now == pytest.approx(0, abs=0.04)


def test_sync_tells_an_edit_by_speech_and_fix_refuses_it(tmp_path, fits):
    path, model = film(tmp_path / "edit.mp4", lambda t: np.where(t < 14, 0.0, 0.4)), load("default")
    result = sync_with_experts(path, model)
    assert (result.status, result.expert, result.drift) == ("out of sync", "speech", None)
    (step,) = result.steps
    assert step["time"] == pytest.approx(14, abs=1.5)
    assert step["after"] - step["before"] == pytest.approx(-0.4, abs=0.05)
    with pytest.raises(SyncError, match="cut it there"):
        fix_file(result, tmp_path / "fixed.mp4", model=model)


def test_a_drift_past_the_search_is_not_named(tmp_path, fits):
    answer = speech_sync(film(tmp_path / "far.mp4", lambda t: 0.3 + 0.006 * t), max_offset=0.45)
    assert answer.offset is None and answer.to_dict()["drift"] is None


def test_of_a_file_of_seconds_no_change_is_told():
    times = np.arange(250) / 25
    assert windows(planted(0.3 - 0.02 * times)).timeline().constant
