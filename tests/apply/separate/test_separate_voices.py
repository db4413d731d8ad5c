"""Voices of people who talk: when lips are asked, at which offset, and how sure the tracks are."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.faces import FaceTrack
from avlearn.apply.separate import shown_faces, tool
from avlearn.apply.separate import voices as module
from avlearn.apply.separate.result import SeparateResult
from avlearn.apply.separate.tool import separate_tool
from avlearn.apply.separate.voices import separate_voices
from avlearn.apply.source_choice import Face, NoSuchFaceError, When
from avlearn.apply.sync import speech
from avlearn.apply.sync.lip_curves import LipCurves
from avlearn.errors import MissingExtraError
from avlearn.media import remux, write_video
from avlearn.models.voices import open_voices

RATE, CPU = 16000, torch.device("cpu")


@pytest.fixture
def film(tmp_path, monkeypatch):
    """4 s of noise, and two faces that move their mouths."""
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.05, (2, 4 * RATE)).astype(np.float32)
    write_video(tmp_path / "a.mkv", np.zeros((100, 48, 64, 3), np.uint8), 25, audio=audio, sample_rate=RATE)

    def faces(*_):
        for person in (1, 2):
            crops = np.repeat(rng.integers(0, 255, (100, 21, 21, 1), np.uint8), 3, 3)
            crops = crops.repeat(10, 1).repeat(10, 2)
            box = np.tile(np.array([8, 8, 24, 24], np.float32) + [32 * (person - 1), 0] * 2, (100, 1))
            yield FaceTrack(person, 1, 0.0, box, np.zeros((100, 5, 2), np.float32), crops)

    monkeypatch.setattr(shown_faces, "face_tracks", faces)
    return tmp_path / "a.mkv"


def system():
    return open_voices(device=CPU)


def answers(monkeypatch, answer):
    def told(*_, **__):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "speech_sync", told)
    monkeypatch.setattr(speech, "speech_sync", told)


def test_tracks_add_up_and_are_no_surer_than_that_lips_fit_the_audio(film, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "judge_lips", lambda *_: (0.03, 0.95))
    for whole, verdict in ((0.9, "separated"), (0.6, "this model cannot tell")):
        answers(monkeypatch, ExpertAnswer("speech", 0.02, whole, "" if whole > 0.85 else "unsure"))
        found = separate_voices(film, system(), tmp_path / "out")
        assert [track.confidence for track in found.sources] == [whole, whole] and found.verdict == verdict
        assert found.calibrated and found.residual.confidence is None
    waves = [soundfile.read(track.audio, always_2d=True)[0] for track in found.tracks]
    mixture, _ = soundfile.read(separate_voices(film, system(), tmp_path / "one", choices=[Face(1)]).tracks[0].audio)
    assert waves[0].shape == mixture.shape and all(np.abs(wave).max() > 0 for wave in waves)
    assert "no track fits the lips of its face" in found.reason


def test_the_face_that_is_asked_for_does_not_get_the_voice_of_another(film, tmp_path, monkeypatch):
    answers(monkeypatch, ExpertAnswer("speech", 0.0, 0.9, ""))
    alone, beside = (
        separate_voices(film, system(), tmp_path / str(most), choices=[Face(2)], sources=most) for most in (1, 2)
    )
    assert [len(found.sources) for found in (alone, beside)] == [1, 1]
    assert beside.sources[0].place == alone.sources[0].place == (0.75, 0.333)
    assert beside.residual.share > alone.residual.share + 0.1, "what is the other face's is left"


def test_a_track_that_fits_its_lips_elsewhere_is_nobodys(film, tmp_path, monkeypatch):
    answers(monkeypatch, ExpertAnswer("speech", 0.0, 0.99, ""))
    monkeypatch.setattr(module, "judge_lips", lambda *_: (0.3, 0.99))
    found = separate_voices(film, system(), tmp_path / "out")
    assert [track.confidence for track in found.sources] == [0, 0] and found.verdict == "this model cannot tell"
    answers(monkeypatch, ExpertAnswer("speech", 1.9, 0.99, "the best offset lies at the end of what was searched"))
    monkeypatch.setattr(module, "judge_lips", lambda *_: (0.0, 0.99))
    assert [t.confidence for t in separate_voices(film, system(), tmp_path / "out").sources] == [0, 0]
    both = separate_voices(film, system(), tmp_path / "on", onscreen=True)
    assert [track.confidence for track in both.tracks] == [0, None]


def test_lips_are_looked_at_where_the_offset_says(film, tmp_path, monkeypatch):
    looked, began = [], []
    whole = shown_faces.ShownFaces.at
    monkeypatch.setattr(
        shown_faces.ShownFaces, "at", lambda self, when, gaps: looked.append(when[0]) or whole(self, when, gaps)
    )
    monkeypatch.setattr(module, "lip_curves", lambda similarity, before, *_, **__: began.append(before) or NONE)
    for offset in (0.0, 0.25):
        answers(monkeypatch, ExpertAnswer("speech", offset, 0.9, ""))
        found = separate_voices(film, system(), tmp_path / "out")
        assert found.delay == offset
    half = len(looked) // 2
    assert np.allclose(np.array(looked[half:]) - looked[:half], 0.25)
    assert began == [0, 0, -25, -25], "what is seen first was heard 25 columns before the track begins"


def test_lips_are_not_held_against_what_is_before_the_audio(film, tmp_path, monkeypatch):
    remux(film, tmp_path / "late.mkv", audio_delay=1.0)
    began = []
    monkeypatch.setattr(module, "lip_curves", lambda similarity, before, *_, **__: began.append(before) or NONE)
    answers(monkeypatch, ExpertAnswer("speech", 0.0, 0.9, ""))
    separate_voices(tmp_path / "late.mkv", system(), tmp_path / "out")
    assert began == [-100, -100], "the first crop is 1 s before the first column"


NONE = LipCurves(np.zeros(201), np.zeros((2, 201)), np.zeros(201, bool), 0)


def test_where_the_model_cannot_tell_voices_are_asked_if_lips_fit(film, tmp_path, monkeypatch, model):
    result = cannot_tell(tmp_path)
    monkeypatch.setattr(tool, "separate_file", lambda *_, **__: result)
    asked = []
    monkeypatch.setattr(module, "separate_voices", lambda *given, **_: asked.append(given) or "voices")
    answers(monkeypatch, ExpertAnswer("speech", 0.0, 0.9, ""))
    assert separate_tool(film, model, tmp_path / "out") == "voices" and len(asked) == 1
    for choice in (When(((0.5, 1.0),)), 2):
        kept = separate_tool(film, model, tmp_path / "out", choices=[choice])
        assert kept is result, "neither a span nor the number of a source asks for a face"
    with monkeypatch.context() as nobody:
        nobody.setattr(module, "separate_voices", refuse)
        thing = separate_tool(film, model, tmp_path / "out", choices=[(0.5, 0.9)])
    assert thing.reason == "it cannot; speech: no face is at 0.5,0.9", "the model's tracks of a thing stay"
    answers(monkeypatch, ExpertAnswer("speech", 0.1, 0.3, "lips and voice agree at no offset"))
    unsure = separate_tool(film, model, tmp_path / "out")
    assert unsure.reason == "it cannot; speech: lips and voice agree at no offset"
    answers(monkeypatch, MissingExtraError("faces need: pip install 'avlearn[faces]'"))
    assert separate_tool(film, model, tmp_path / "out").notes[-1].startswith("faces need")
    monkeypatch.setattr(tool, "separate_file", lambda *_, **__: replace(result, verdict="separated"))
    assert separate_tool(film, model, tmp_path / "out").verdict == "separated" and len(asked) == 1
    assert separate_tool(film, system(), tmp_path / "out") == "voices", "by name they are always asked"


def refuse(*_, **__):
    raise NoSuchFaceError("no face is at 0.5,0.9")


def cannot_tell(folder):
    return SeparateResult(
        str(folder / "a.mkv"), 4.0, RATE, 2, "float", True, [], "this model cannot tell", "it cannot", {}, 0.0, (), None
    )
