"""A file's audio is brought to what models hear, and nothing is done to audio that is so already."""

import numpy as np
import pytest

from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.media import Selected, read_clip, write_wav


def tones(seconds=3.0, level=0.1):
    t = np.arange(round(seconds * 16000)) / 16000
    return (level * np.sqrt(2) * np.sin(2 * np.pi * (300 * t + 200 * t**2))).astype(np.float32)


def heard(path):
    normalizer = audio_normalizer(path)
    return normalizer, normalizer(read_clip(normalizer.source, video=False, mono=True).audio)[0]


def level(audio):
    return 20 * np.log10(np.sqrt(np.mean(audio.astype(float) ** 2)))


def test_a_usual_level_stays_to_the_bit(tmp_path):
    write_wav(tmp_path / "a.wav", np.stack([tones(), 0.5 * tones()]), 16000)
    normalizer, audio = heard(tmp_path / "a.wav")
    assert (normalizer.gain, normalizer.offset, normalizer.notes) == (1.0, 0.0, ())
    np.testing.assert_array_equal(audio, read_clip(tmp_path / "a.wav", video=False, mono=True).audio[0])


@pytest.mark.parametrize("db", [-30, -60, 18])
def test_any_other_level_is_brought_to_the_usual_and_a_quiet_one_is_told(tmp_path, db):
    write_wav(tmp_path / "a.wav", tones(level=0.1 * 10 ** (db / 20))[None], 16000)
    normalizer, audio = heard(tmp_path / "a.wav")
    assert level(audio) == pytest.approx(-22, abs=0.5)
    assert any(f"quiet ({db - 20} dB" in note for note in normalizer.notes) == (db < 0)


def test_pauses_do_not_make_a_file_quiet(tmp_path):
    write_wav(tmp_path / "a.wav", np.concatenate([tones(2.0), np.zeros(16000 * 58, np.float32)])[None], 16000)
    assert heard(tmp_path / "a.wav")[0].gain == 1.0


def test_silence_stays_silence(tmp_path):
    rounding = np.random.default_rng(0).uniform(-0.5, 0.5, 48000).astype(np.float32) / 32768
    for name, audio in (("zero", np.zeros(48000, np.float32)), ("rounding", rounding)):
        write_wav(tmp_path / f"{name}.wav", audio[None], 16000)
        assert heard(tmp_path / f"{name}.wav")[0].gain == 1.0


def test_a_constant_offset_is_taken_away_but_not_from_gaps(tmp_path):
    write_wav(tmp_path / "a.wav", (tones() + 0.3)[None], 16000)
    normalizer, audio = heard(tmp_path / "a.wav")
    assert abs(audio.mean()) < 1e-3 and level(audio) == pytest.approx(-20, abs=0.5)
    assert not normalizer(np.zeros((1, 5), np.float32)).any()


def test_of_channels_that_cancel_one_is_heard(tmp_path):
    write_wav(tmp_path / "a.wav", np.stack([0.7 * tones(), -tones()]), 16000)
    normalizer, audio = heard(tmp_path / "a.wav")
    assert isinstance(normalizer.source, Selected) and normalizer.source.channel == 2
    assert "cancel" in normalizer.notes[0]
    np.testing.assert_allclose(audio, -tones(), atol=1e-3)
    both = np.stack([0.7 * tones(), -tones()])
    np.testing.assert_array_equal(normalizer.downmix(np.stack([both, both])), np.stack([both, both])[:, 1:])


def test_unrelated_channels_and_one_of_six_do_not_cancel(tmp_path):
    rng = np.random.default_rng(0)
    write_wav(tmp_path / "two.wav", rng.normal(0, 0.1, (2, 48000)).astype(np.float32), 16000)
    six = np.zeros((6, 48000), np.float32)
    six[2] = tones()
    write_wav(tmp_path / "six.wav", six, 16000)
    six[3] = -0.5 * tones()  # a fifth of what unrelated channels would leave
    write_wav(tmp_path / "partly.wav", six, 16000)
    for name in ("two", "six", "partly"):
        assert audio_normalizer(tmp_path / f"{name}.wav").notes == ()
