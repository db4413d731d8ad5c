"""The face that speaks: its box, while it is there, where its lips are sure."""

import numpy as np
import pytest

from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.localize import speech as module
from avlearn.apply.localize.sources import find_sources
from avlearn.apply.localize.speech import speech_localization
from avlearn.media import remux, write_video


@pytest.fixture
def film(tmp_path):
    """4 s, of which the last one is silent."""
    audio = np.full((1, 64000), 0.1, np.float32)
    audio[:, 48000:] = 0
    write_video(tmp_path / "a.mkv", np.zeros((100, 96, 192, 3), np.uint8), 25, audio=audio, sample_rate=16000)
    return tmp_path / "a.mkv"


def part(confidence, start, end, box, offset=0.1):
    named = offset if confidence >= 0.85 else None
    return {"offset": named, "confidence": confidence, "start": start, "end": end, "box": box}


LEFT, RIGHT = [0.1, 0.2, 0.3, 0.8], [0.7, 0.2, 0.9, 0.8]


def told(monkeypatch, film, *parts):
    answer = ExpertAnswer("speech", 0.1, 0.5, "", parts=parts)
    monkeypatch.setattr(module, "speech_sync", lambda *_: answer)
    return speech_localization(film)


def test_the_sure_face_is_where_the_sound_comes_from_while_it_is_there(monkeypatch, film):
    found = told(monkeypatch, film, part(0.99, 1.0, 4.0, RIGHT), part(0.2, 0.0, 4.0, LEFT))
    times = found.found.times
    whole = np.abs(times - 3.0) > 0.5  # the codec's audio ends a little later
    assert found.sure[whole].tolist() == [1.0 <= time < 3.0 for time in times[whole]]
    assert found.peak[0] > 0.7 and found.found.maps.shape == (8, 12, 24)
    np.testing.assert_allclose(found.audible[found.sure], 0.98)  # of two, either may fit by chance
    assert found.found.levels[-1] < 1e-4 and found.audible[-1] == 0


def test_a_large_face_is_one_source_and_its_peak_is_its_middle(monkeypatch, film):
    found = told(monkeypatch, film, part(0.99, 0.0, 4.0, [0.65, 0.25, 0.85, 0.92]))
    assert np.allclose(found.peak, (0.75, 0.585), atol=0.05) and found.found.maps.max() == pytest.approx(0.99)
    (source,) = find_sources(found.found.times, found.found.maps, 8, found.found.levels, found.audible)
    assert np.allclose(np.nanmedian(source.boxes, 0), [0.65, 0.25, 0.85, 0.92], atol=0.05)


def test_no_face_is_named_where_none_is_sure_or_several_disagree(monkeypatch, film):
    none = told(monkeypatch, film, part(0.7, 0.0, 4.0, LEFT))
    assert none.found is None and not none.sure.any() and "no lips" in none.reason
    apart = told(monkeypatch, film, part(0.99, 0.0, 4.0, LEFT), part(0.99, 0.0, 4.0, RIGHT, 0.5))
    assert apart.found is None and "another offset" in apart.reason


def test_audio_that_begins_late_is_silent_before_it(monkeypatch, film, tmp_path):
    remux(film, tmp_path / "late.mkv", audio_delay=1.0)
    found = told(monkeypatch, tmp_path / "late.mkv", part(0.99, 0.0, 4.0, RIGHT))
    times = found.found.times
    whole = (np.abs(times - 1.0) > 0.3) & (times < 3.8)
    assert found.sure[whole].tolist() == [time > 1.0 for time in times[whole]]
