from pathlib import Path

import numpy as np
import pytest

from avlearn.apply import faces
from avlearn.apply.sync import self_calibrated as self_calibrated_sync
from avlearn.apply.sync.experts import sync_with_experts
from avlearn.errors import MissingExtraError, NoAudioError
from avlearn.media import write_video
from avlearn.models.folder import load

FPS, RATE = 25, 16000
judge = self_calibrated_sync.self_calibrated_sync


@pytest.fixture(autouse=True)
def no_faces(monkeypatch):
    """The detector is not installed."""

    def missing(*_):
        raise MissingExtraError("install it")

    monkeypatch.setattr(faces, "mouth_tracks", missing)


def hits(seconds, seed=0):
    """Instants at which something is hit, a third of a second to a second apart."""
    return np.cumsum(np.random.default_rng(seed).uniform(0.35, 1.0, round(seconds / 0.3)))


def frames_of(times, seconds, seed=0):
    """A block that jumps at each hit, amid grain: uint8 ``[T, 48, 64, 3]``."""
    rng = np.random.default_rng(seed)
    video = rng.integers(90, 110, (round(seconds * FPS), 48, 64, 3)).astype(np.uint8)
    for k in range(len(video)):
        if (times <= (k + 1) / FPS).sum() % 2:  # motion is seen a little before it is heard
            video[k, 16:28, 20:32] = 250
    return video


def audio_of(times, seconds, seed=0):
    """A burst of noise that dies away at each hit: ``[1, S]``."""
    rng = np.random.default_rng(seed)
    audio = 0.002 * rng.standard_normal(round(seconds * RATE))
    burst = 0.5 * rng.standard_normal(RATE // 5) * np.exp(-np.arange(RATE // 5) / 600)
    for time in times[(times > 0) & (times < seconds - 0.2)]:
        at = round(time * RATE)
        audio[at : at + len(burst)] += burst
    return audio.astype(np.float32)[None].clip(-1, 1)


def recording(path: Path, seconds, delay=0.0, seed=0, heard=0):
    """Hits that are heard ``delay`` seconds after they are seen, or other ones (``heard``)."""
    write_video(
        path, frames_of(hits(seconds, seed), seconds), FPS,
        audio=audio_of(hits(seconds, heard or seed) + delay, seconds), sample_rate=RATE,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("delay", [-0.6, 0.0, 0.44])
def test_a_lag_of_the_audio_is_a_negative_offset(tmp_path, delay):
    answer = judge(recording(tmp_path / "hits.mp4", 14, delay))
    assert answer.expert == "self-calibration"
    assert answer.best == pytest.approx(-delay, abs=0.05) and answer.confidence > 0.85
    assert answer.offset is None and "which is no answer" in answer.reason
    assert answer.parts[0]["shot"] == 1
    assert answer.parts[0]["end"] == pytest.approx(14, abs=0.1)
    assert len(answer.offsets) == len(answer.scores)


def test_a_long_shot_tells_where_its_audio_is_seen(tmp_path):
    """The block is at 41 % across, 46 % down."""
    (part,) = judge(recording(tmp_path / "hits.mp4", 24, 0.2)).parts
    assert (part["x"], part["y"]) == (pytest.approx(0.41, abs=0.15), pytest.approx(0.46, abs=0.15))
    assert part["seen"] > 3
    (short,) = judge(recording(tmp_path / "short.mp4", 14)).parts
    assert "x" not in short


def test_other_audio_is_not_explained(tmp_path):
    answer = judge(recording(tmp_path / "other.mp4", 14, heard=9))
    assert answer.offset is None
    assert "better than chance" in answer.reason


def test_still_video_silent_audio_and_short_files_give_a_reason(tmp_path):
    video, audio = frames_of(hits(12), 12), audio_of(hits(12), 12)
    still, silent, short = tmp_path / "still.mp4", tmp_path / "silent.mp4", tmp_path / "short.mp4"
    write_video(still, np.repeat(video[:1], len(video), 0), FPS, audio=audio, sample_rate=RATE)
    write_video(silent, video, FPS, audio=audio * 0, sample_rate=RATE)
    recording(short, 4)
    for path in (still, silent, short):
        answer = judge(path)
        assert answer.offset is None
        assert answer.reason


def test_a_file_without_audio_is_refused(tmp_path):
    write_video(tmp_path / "mute.mp4", frames_of(hits(8), 8), FPS)
    with pytest.raises(NoAudioError):
        judge(tmp_path / "mute.mp4")


def test_parts_of_a_long_file_are_looked_at_and_tell_the_same(tmp_path):
    answer = judge(recording(tmp_path / "long.mp4", 66, 0.3))
    assert answer.best == pytest.approx(-0.3, abs=0.05) and answer.confidence > 0.85
    assert sorted(part["start"] for part in answer.parts) == pytest.approx([0, 23, 46], abs=0.1)


def test_shots_that_differ_are_no_offset_of_the_file(tmp_path):
    """The first half lags by 0.4 s, the second, of another scene, leads by 0.4 s."""
    times = hits(14)
    video = np.concatenate([frames_of(times, 14), 255 - frames_of(hits(14, 1), 14)])
    audio = np.concatenate([audio_of(times + 0.4, 14), audio_of(hits(14, 1) - 0.4, 14)], 1)
    write_video(tmp_path / "two.mp4", video, FPS, audio=audio, sample_rate=RATE)
    answer = judge(tmp_path / "two.mp4")
    assert answer.offset is None
    assert "differ" in answer.reason
    assert {part["shot"] for part in answer.parts} == {1, 2}


def test_mouths_name_an_offset_and_frames_do_not():
    of_mouth = {"offset": 0.2, "best": 0.2, "confidence": 0.95}
    of_frames = {"offset": None, "best": 0.21, "confidence": 0.97}
    assert self_calibrated_sync._why_not([of_frames, of_mouth], 1.5) == ""
    assert "motion fits best at +210 ms" in self_calibrated_sync._why_not([of_frames], 1.5)


def test_sync_tells_what_frames_fit_best_and_names_nothing(tmp_path):
    result = sync_with_experts(recording(tmp_path / "hits.mp4", 14, 0.44), load("default"))
    assert (result.status, result.expert) == ("undecidable", "model")
    told = result.to_dict()["experts"][-1]
    assert (told["expert"], told["offset"]) == ("self-calibration", None)
    assert told["best"] == pytest.approx(-0.44, abs=0.05)
