"""Kinds of sounds: what is rendered is known, silence is none, and quiet stretches say nothing."""

import numpy as np
import pytest

from avlearn.apply import classify as module
from avlearn.apply.classify import classify_file
from avlearn.apply.sound_kind import SoundKind, sound_evidence, sound_kind
from avlearn.apply.verdict import CANNOT_TELL
from avlearn.errors import MissingExtraError, NoAudioError
from avlearn.media import write_video, write_wav
from avlearn.models.folder import load
from avlearn.models.sound_kinds import KINDS, SAMPLE_RATE


def scale_of_notes(seconds=6):
    """Notes of a major scale with five harmonics each, two a second."""
    t = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    steps = np.array([0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 5, 2])[(t * 2).astype(int) % 12]
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (steps / 12)) / SAMPLE_RATE
    notes = sum(np.sin(k * phase) / k for k in range(1, 6)) * np.exp(-3 * (t * 2 % 1))
    return (0.2 * notes)[None].astype(np.float32)


def noise(seconds=6):
    """Steady and white."""
    return (0.1 * np.random.default_rng(0).standard_normal((1, seconds * SAMPLE_RATE))).astype(np.float32)


def wav(path, audio):
    write_wav(path, audio, SAMPLE_RATE)
    return path


def test_notes_are_music_and_noise_is_named_nothing(tmp_path):
    music, hiss = (sound_kind(wav(tmp_path / f"{k}.wav", x)) for k, x in enumerate((scale_of_notes(), noise())))
    assert (music.kind, hiss.kind) == ("music", None) and hiss.confidence < 0.3
    assert next(kind for kind, _ in music.kinds) == "music" and len(music.kinds) == len(KINDS)
    assert music.shares.shape == (len(music.starts), len(KINDS)) and music.starts.tolist() == [0, 1, 2, 3, 4, 5]


def test_silence_is_of_no_kind_and_a_silent_half_changes_nothing(tmp_path):
    silent = sound_kind(wav(tmp_path / "s.wav", np.zeros((1, 3 * SAMPLE_RATE), np.float32)))
    assert (silent.kind, silent.best, silent.confidence, silent.kinds) == (None, "", 0.0, ())
    half = np.concatenate([scale_of_notes(), np.zeros((1, 6 * SAMPLE_RATE), np.float32)], 1)
    heard = sound_kind(wav(tmp_path / "h.wav", half))
    assert heard.best == "music" and np.isnan(heard.shares[-1]).all()


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.6, 2.3])
def test_short_audio_is_heard(tmp_path, seconds):
    heard = sound_kind(wav(tmp_path / "s.wav", scale_of_notes()[:, : round(seconds * SAMPLE_RATE)]))
    assert np.isfinite(heard.shares).all() and 0 <= heard.confidence <= 1


def test_quiet_windows_do_not_count():
    logits = np.zeros((3, len(KINDS)))
    logits[0, 1], logits[1:, 2] = 4.0, 9.0
    scores, evidence = sound_evidence(logits, np.array([1.0, 0.04, 0.01]))
    assert scores.argmax() == 1 and (evidence.score, evidence.margin) == (4.0, 4.0)


@pytest.fixture
def footage(tmp_path):
    """Coloured noise with square waves: nothing that the default model knows."""
    frames = np.random.default_rng(0).integers(0, 255, (75, 64, 64, 3), dtype=np.uint8)
    audio = np.sign(np.sin(np.arange(48000) * 0.7))[None].astype(np.float32)
    write_video(tmp_path / "odd.mp4", frames, 25, audio=audio, sample_rate=16000)
    return tmp_path / "odd.mp4"


def heard(kind, best, confidence):
    shares = np.full((2, len(KINDS)), 0.1)
    shares[:, KINDS.index(best)] = 0.9
    shares[1] = np.nan
    ranked = sorted(zip(KINDS, shares[0].tolist(), strict=True), key=lambda pair: -pair[1])
    return lambda *_: SoundKind(kind, best, confidence, tuple(ranked), np.array([0.0, 1.0]), shares)


def test_where_the_model_cannot_tell_the_kind_of_sound_is_named(footage, monkeypatch):
    monkeypatch.setattr(module, "sound_kind", heard("music", "music", 0.93))
    result = classify_file(footage, load("default"), top=2)
    assert (result.verdict, result.expert, result.confidence, result.reason) == ("labelled", "sound", 0.93, "")
    assert result.labels == {"audio": [("music", 0.9), (KINDS[0], 0.1)]} and result.talking_face is None
    assert [window["label"] for window in result.windows] == ["music", None]
    assert result.text() == f"{footage}: music (confidence 0.93, by the kind of sound)"


def test_where_no_kind_is_sure_nothing_is_named(footage, monkeypatch):
    monkeypatch.setattr(module, "sound_kind", heard(None, "engine", 0.4))
    result = classify_file(footage, load("default"))
    assert (result.verdict, result.labels, result.expert) == (CANNOT_TELL, {}, "model")
    assert "unlike what it was trained on" in result.reason
    assert result.reason.endswith("the sound is most like engine, confidence 0.40")


def test_speech_asks_for_the_face_that_speaks(footage, monkeypatch):
    monkeypatch.setattr(module, "sound_kind", heard("speech", "speech", 0.97))
    result = classify_file(footage, load("default"))
    assert result.talking_face == 0.0 and result.text().endswith("speech (confidence 0.97, by the kind of sound)")

    def missing(*_, **__):
        raise MissingExtraError("pip install 'avlearn[faces]'")

    monkeypatch.setattr("avlearn.apply.sync.speech.speech_sync", missing)
    assert classify_file(footage, load("default")).talking_face is None


def test_a_file_without_audio_is_an_error(tmp_path):
    write_video(tmp_path / "m.mp4", np.zeros((25, 32, 32, 3), np.uint8), 25)
    with pytest.raises(NoAudioError):
        sound_kind(tmp_path / "m.mp4")
