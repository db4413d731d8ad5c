"""Talking faces: offsets come with the right sign, and where lips and audio do not fit none is named."""

import numpy as np
import pytest
import torch
from drawn_face import drawn_face

from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.faces import looks
from avlearn.apply.sync import lip_curves as evidence
from avlearn.apply.sync import self_calibrated as self_calibrated_sync
from avlearn.apply.sync import speech as module
from avlearn.apply.sync.experts import sync_with_experts
from avlearn.apply.sync.lip_curves import lip_curves, speech_evidence
from avlearn.apply.sync.speech import speech_sync
from avlearn.errors import MissingExtraError, NoAudioError
from avlearn.media import write_video
from avlearn.models.folder import load
from avlearn.models.speech_sync import speech_calibration

LAGS = np.arange(-200, 201)
RNG = np.random.default_rng(5)


def planted(late, seconds=6, before=0, strength=0.5, seed=0):
    """``[T, U]`` of noise, in which lips fit the audio so many columns later."""
    rng = np.random.default_rng(seed)
    rows, columns = 25 * seconds, 100 * seconds + before
    similarity = rng.normal(0, 0.15, (rows, columns)).astype(np.float32)
    place = before + 4 * np.arange(rows) + late
    inside = (place >= 0) & (place < columns)
    similarity[np.arange(rows)[inside], place[inside]] += strength
    return similarity


@pytest.mark.parametrize(("late", "before"), [(0, 0), (37, 0), (-80, 0), (-80, 150)])
def test_the_lag_of_planted_lips_is_found(late, before):
    lag, evidence = speech_evidence(lip_curves(planted(late, before=before), before, LAGS), LAGS)
    assert lag == pytest.approx(late, abs=0.5)
    assert evidence.peak > 5 and evidence.margin > 5


def test_offsets_with_little_audio_are_not_searched():
    curves = lip_curves(planted(0, seconds=2), 0, LAGS)
    assert (
        np.abs(LAGS[curves.searched]).max() == pytest.approx(100, abs=4) and not curves.scores[~curves.searched].any()
    )


def test_lips_of_other_audio_have_no_evidence():
    found = [speech_evidence(lip_curves(planted(0, strength=0.0, seed=k), 0, LAGS), LAGS)[1] for k in range(20)]
    assert max(evidence.peak for evidence in found) < 4 and np.mean([evidence.peak for evidence in found]) < 1


def test_faces_that_do_not_speak_take_nothing_from_one_that_does():
    curves = [lip_curves(planted(25 if k == 1 else 0, strength=0.5 * (k == 1), seed=k), 0, LAGS, k) for k in range(3)]
    lag, evidence = speech_evidence(sum(curves[1:], curves[0]), LAGS)
    assert lag == pytest.approx(25, abs=0.5) and evidence.peak > 4


@pytest.fixture
def lips_alone(monkeypatch):
    """The other expert knows nothing."""
    silent = ExpertAnswer("self-calibration", None, 0.0, "nothing to judge")
    monkeypatch.setattr(self_calibrated_sync, "self_calibrated_sync", lambda *_: silent)


class Planted:
    """In place of the encoders: lips fit the audio where the audio is as loud as the mouth is open."""

    def similarity(self, crops, audio):
        mouth = -crops[:, 24:44, 24:40].float().mean((1, 2))
        loud = torch.nn.functional.avg_pool1d(audio.abs()[None], 160)[0]
        mouth, loud = ((x - x.mean()) / (x.std() + 1e-6) for x in (mouth, loud))
        return mouth[:, None] * loud


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A face to the left that opens its mouth irregularly, and a tone as loud as it is open, 0.2 s later."""
    opened = np.repeat(RNG.integers(0, 2, 50), 4).astype(float)  # a syllable lasts 0.16 s
    frames = np.stack([drawn_face((70, 90), mouth=mouth) for mouth in opened])
    loudness = np.repeat(opened, 640) * np.sin(np.arange(len(opened) * 640) * 0.3) * 0.5
    late = np.concatenate([np.zeros(3200), loudness])[: len(loudness)]
    path = tmp_path_factory.mktemp("talking") / "talking.mp4"
    write_video(path, frames, 25, audio=late[None].astype(np.float32), sample_rate=16000)
    return path


@pytest.fixture
def fits(monkeypatch):
    monkeypatch.setattr(module, "load_speech_sync", lambda device: Planted())
    calibration = {"format": "avlearn.confidence/1", "weights": {"peak": 1.0, "margin": 1.0}, "bias": -6.0}
    monkeypatch.setattr(evidence, "speech_calibration", lambda: calibration)


def test_audio_that_comes_later_lags(talking, fits):
    answer = speech_sync(talking)
    assert answer.offset == pytest.approx(-0.2, abs=0.03) and answer.confidence > 0.9
    assert answer.offsets[np.argmax(answer.scores)] == pytest.approx(answer.offset, abs=0.01)
    (part,) = answer.parts
    assert (part["speaker"], part["shot"], part["side"], part["start"], part["end"]) == (1, 1, "left", 0.0, 8.0)
    assert part["offset"] == pytest.approx(answer.offset, abs=1e-3)
    assert answer.to_dict()["parts"] == [part]


def test_of_a_long_file_parts_are_looked_at(talking, fits, monkeypatch):
    monkeypatch.setattr(looks, "_LONG", 6.0)
    monkeypatch.setattr(looks, "_PART", 3.0)
    answer = speech_sync(talking)
    assert answer.offset == pytest.approx(-0.2, abs=0.03)
    assert [part["start"] for part in answer.parts] == pytest.approx([0.0, 5.0], abs=0.1)
    assert [part["end"] for part in answer.parts] == [3.0, 8.0]


def test_an_offset_beyond_the_search_is_not_named(talking, fits):
    answer = speech_sync(talking, max_offset=0.25)
    assert answer.offset is None and "at the end of what was searched, -0.25 to 0.25 s" in answer.reason


def test_lips_and_another_audio_are_not_named(talking, fits, tmp_path):
    noise = RNG.normal(0, 0.1, (1, 8 * 16000)).astype(np.float32)
    frames = np.stack([drawn_face((120, 90), mouth=float(k % 7 > 3)) for k in range(100)])
    write_video(tmp_path / "noise.mp4", frames, 25, audio=noise[:, :64000], sample_rate=16000)
    answer = speech_sync(tmp_path / "noise.mp4")
    assert answer.offset is None and answer.best is not None
    assert "lips and voice agree at no offset" in answer.reason


def test_lips_of_a_second_tell_nothing(fits, tmp_path):
    frames = np.stack([drawn_face((120, 90), mouth=float(k % 9 > 4)) for k in range(26)])
    loudness = np.repeat(np.arange(26) % 9 > 4, 640) * RNG.normal(0, 0.2, 26 * 640)
    write_video(tmp_path / "second.mp4", frames, 25, audio=loudness[None].astype(np.float32), sample_rate=16000)
    assert speech_sync(tmp_path / "second.mp4").offset is None


def test_without_a_face_it_says_so(tmp_path, fits):
    frames = np.zeros((30, 90, 120, 3), np.uint8)
    write_video(tmp_path / "dark.mp4", frames, 25, audio=np.zeros((1, 19200), np.float32), sample_rate=16000)
    answer = speech_sync(tmp_path / "dark.mp4")
    assert answer.best is None and answer.reason == "no face is seen for long enough"


def test_without_audio_it_is_refused(tmp_path, fits):
    write_video(tmp_path / "mute.mp4", np.stack([drawn_face((120, 90))] * 30), 25)
    with pytest.raises(NoAudioError):
        speech_sync(tmp_path / "mute.mp4")


def test_sync_asks_the_expert_where_the_model_cannot_tell(talking, fits):
    model = load("default")
    result = sync_with_experts(talking, model, tolerance=0.04)
    assert (result.status, result.expert) == ("out of sync", "speech")
    assert result.offset == pytest.approx(-0.2, abs=0.03) and result.verdict.startswith("audio lags by")
    assert ", by speech)" in result.text()
    (answer,) = result.to_dict()["experts"]
    assert answer["offset"] == result.offset and answer["parts"][0]["speaker"] == 1


def test_faces_are_looked_for_once_by_all_experts(talking, monkeypatch):
    looked = []
    monkeypatch.setattr(looks, "face_tracks", lambda *given: looked.append(given) or [])
    result = sync_with_experts(talking, load("default"))
    assert [answer.expert for answer in result.experts] == ["speech", "self-calibration"]
    assert len(looked) == 1


def test_an_expert_that_is_not_sure_says_why(talking, fits, lips_alone, monkeypatch):
    monkeypatch.setattr(evidence, "speech_calibration", lambda: {"weights": {"peak": 0, "margin": 0}, "bias": -3.0})
    result = sync_with_experts(talking, load("default"))
    assert result.status == "undecidable" and result.expert == "model"
    assert "speech: lips and voice agree at no offset" in result.reason
    assert "self-calibration: nothing to judge" in result.reason


def test_without_the_extra_the_result_says_what_to_install(talking, lips_alone, monkeypatch):
    def missing(*_):
        raise MissingExtraError("for talking faces: pip install 'avlearn[faces]'")

    monkeypatch.setattr(module, "mouth_tracks", missing)
    result = sync_with_experts(talking, load("default"))
    assert result.status == "undecidable" and result.advice[-1].endswith("pip install 'avlearn[faces]'")


def test_the_encoders_of_the_package_are_read():
    model = module.load_speech_sync()
    crops = torch.from_numpy(RNG.integers(0, 256, (30, 64, 64), dtype=np.uint8))
    similarity = model.similarity(crops, torch.from_numpy(RNG.normal(0, 0.1, 19200).astype(np.float32)))
    assert similarity.shape == (30, 120) and similarity.abs().max() < 2
    assert similarity.mean(0).abs().max() < 1e-5 and similarity.mean(1).abs().max() < 1e-5
    assert set(speech_calibration()["weights"]) == {"peak", "margin"}


def test_people_who_agree_only_together_are_not_named():
    """Somebody who is seen for some seconds, in however many shots, has to be sure alone."""
    weak = [lip_curves(planted(0, strength=0.0, seed=k), 0, LAGS, k) for k in range(2)]
    sure, short = lip_curves(planted(25), 0, LAGS), lip_curves(planted(25, seconds=2, strength=0.0), 0, LAGS)
    shots = [{"offset": None, "start": 0.0, "end": 2.0}] * 2
    assert not module._one_is_sure(dict(enumerate(weak)), shots, LAGS)
    assert not module._one_is_sure({1: short + short + short}, shots, LAGS)
    assert module._one_is_sure({1: weak[0], 2: sure}, shots, LAGS)
    assert module._one_is_sure({1: short, 2: short}, shots, LAGS)  # nobody can be
    # Nor is it enough that shots together are sure, where one of them is long and is not.
    assert not module._one_is_sure({2: sure}, [*shots, {"offset": None, "start": 0.0, "end": 7.0}], LAGS)
