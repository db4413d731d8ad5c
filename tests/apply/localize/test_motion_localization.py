"""Where the model cannot tell, what moves with the sound is drawn; its verdict is that of whoever is sure."""

import json

import numpy as np
import pytest

from avlearn.apply.localize import experts as localize_experts
from avlearn.apply.localize.expert_maps import ExpertMaps
from avlearn.apply.localize.experts import VISIBLE, by_experts
from avlearn.apply.localize.file import localize_file
from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.localization import Localization
from avlearn.apply.localize.motion import frame_onsets, motion_localization
from avlearn.media import read_clip, write_video

FPS, RATE = 25, 16000


def film(path, seconds=10.0, seed=0, sounds=True, cut=None):
    """Two squares jump about, the right one at each click of the audio; after a cut they change places."""
    rng = np.random.default_rng(seed)
    count = round(seconds * FPS)
    beats = {side: np.cumsum(rng.integers(6, 22, count)) for side in (0, 1)}
    frames, audio = np.full((count, 96, 192, 3), 60, np.uint8), np.zeros(round(seconds * RATE), np.float32)
    frames[count if cut is None else round(cut * FPS) :] = 200
    at = {0: 10, 1: 10}
    for k in range(count):
        for side in (0, 1):
            if k in beats[side]:
                at[side] = 54 - at[side]
                click = audio[k * RATE // FPS :][: RATE // 20]
                if side and sounds:
                    click += (0.4 * rng.standard_normal(len(click)) * np.linspace(1, 0, len(click))).astype(np.float32)
            place = side if cut is None or k < cut * FPS else 1 - side
            frames[k, at[side] : at[side] + 32, 96 * place + 30 : 96 * place + 62] = (120, 30, 220)
    write_video(path, frames, FPS, audio=audio[None], sample_rate=RATE)
    return path


def test_what_moves_with_the_sound_is_found_and_each_shot_has_its_own_map(tmp_path):
    found = motion_localization(film(tmp_path / "a.mp4", 12.0, cut=6.0))
    sides = [heat.max(0).argmax() >= heat.shape[1] / 2 for heat in found.found.maps]
    assert sides == [time < 6 for time in found.found.times]
    assert len(found.audible) == len(sides) == 24 and found.found.maps.shape[1:] == (12, 24)


def test_it_is_sure_of_the_own_sound_and_not_of_another_ones(tmp_path):
    own = motion_localization(film(tmp_path / "own.mp4", 16.0))
    assert own.sure[own.found.levels > 0.01].all() and own.peak[0] > 0.5
    frames = read_clip(tmp_path / "own.mp4").video
    for seed in range(1, 5):
        other = read_clip(film(tmp_path / "other.mp4", 16.0, seed), video=False).audio
        write_video(tmp_path / "x.mp4", frames, FPS, audio=other, sample_rate=RATE)
        assert not motion_localization(tmp_path / "x.mp4").sure.any()


def test_it_is_not_sure_of_a_short_shot_nor_of_noise(tmp_path):
    assert not motion_localization(film(tmp_path / "a.mp4", 7.0)).sure.any()
    rng = np.random.default_rng(0)
    for seconds in (3, 10):
        frames = rng.integers(0, 256, (seconds * FPS, 64, 64, 3), dtype=np.uint8)
        audio = rng.normal(0, 0.1, (1, seconds * RATE))
        write_video(tmp_path / "noise.mp4", frames, FPS, audio=audio, sample_rate=RATE)
        assert not motion_localization(tmp_path / "noise.mp4").sure.any()


@pytest.mark.parametrize("kind", ["short", "still", "silent"])
def test_it_says_nothing_of_what_is_short_still_or_silent(tmp_path, kind):
    path = film(tmp_path / "a.mp4", 1.0 if kind == "short" else 6.0, sounds=kind != "silent")
    if kind == "still":
        clip = read_clip(path)
        write_video(path, np.repeat(clip.video[:1], 150, 0), FPS, audio=clip.audio, sample_rate=RATE)
    answer = motion_localization(path)
    if kind == "still":  # but for what the encoder makes of it
        assert not answer.sure.any() and answer.to_dict()["confidence"] < 0.5
        return
    assert answer.found is None and answer.peak is None and "no shot of 3 s" in answer.reason
    assert answer.to_dict()["confidence"] == 0


def localization(levels):
    found = FileMaps(np.arange(4.0), np.ones((4, 2, 2), np.float32), levels, ())
    faint = np.full(4, 0.1)
    return Localization(found, faint, faint, True, "this model cannot tell", "unlike", {}, notice="unlike")


def test_the_verdict_is_the_experts_where_it_is_sure_and_its_maps_in_any_case():
    levels = np.array([0.1, 0.1, 0.1, 0.0])
    found = FileMaps(np.arange(4.0), np.zeros((4, 3, 3), np.float32), levels, ())
    sure = by_experts(localization(levels), [ExpertMaps("speech", found, np.array([0.9, 0.9, 0.2, 0.0]), "chance")])
    assert (sure.verdict, sure.expert, sure.maps_by, sure.reason) == ("partly on screen", "speech", "speech", "chance")
    assert sure.drawn.tolist() == [0.9, 0.9, 0.2, 0.0] and sure.notice is None
    whole = by_experts(localization(levels), [ExpertMaps("speech", found, np.array([0.9, 0.9, 0.9, 0.0]), "chance")])
    assert (whole.verdict, whole.reason) == ("on screen", "")
    guess = by_experts(localization(levels), [ExpertMaps("motion", found, np.array([0.9, 0.9, 0.9, 0.0]), "often")])
    assert (guess.verdict, guess.expert, guess.maps_by) == ("this model cannot tell", "", "motion")
    unsure = by_experts(localization(levels), [ExpertMaps("motion", found, np.array([0.7, 0.2, 0.2, 0.0]), "chance")])
    assert (unsure.verdict, unsure.expert, unsure.maps_by) == ("this model cannot tell", "", "motion")
    assert unsure.reason == "unlike; motion: chance" and unsure.notice == "unlike"
    assert unsure.drawn.tolist() == [0.7, VISIBLE, VISIBLE, 0.0], "to be seen, but not in silence"
    none = by_experts(localization(levels), [ExpertMaps("motion", None, np.zeros(0), "short")])
    assert none.maps_by == "model" and none.drawn.tolist() == [VISIBLE] * 3 + [0.0]


def test_the_command_draws_what_the_expert_found_and_says_who(model, tmp_path, monkeypatch):
    looked = localization(np.full(4, 0.1))
    monkeypatch.setattr(localize_experts, "localize_by_model", lambda *_: looked)
    result = localize_file(film(tmp_path / "a.mp4", 16.0), model, tmp_path / "o.mp4", sources=True)
    told = json.loads(json.dumps(result.to_dict()))
    assert (told["verdict"], told["expert"], told["maps_by"]) == ("this model cannot tell", "", "motion")
    assert told["peak"][0] > 0.5 and told["experts"][-1]["peak"] == told["peak"] and not told["calibrated"]
    assert "a guess, by motion that goes with the sound" in result.text() and "often chance" in result.reason
    boxes = [box for source in told["sources"] for box in source["boxes"] if box]
    assert boxes and all(box[0] >= 0.5 for box in boxes)
    other = read_clip(film(tmp_path / "b.mp4", 16.0, 7), video=False).audio
    write_video(tmp_path / "x.mp4", read_clip(tmp_path / "a.mp4").video, FPS, audio=other, sample_rate=RATE)
    guess = localize_file(tmp_path / "x.mp4", model, tmp_path / "p.mp4", sources=True)
    assert (guess.verdict, guess.expert, guess.maps_by) == ("this model cannot tell", "", "motion")
    assert "a guess, by motion that goes with the sound" in guess.text() and guess.sources == []
    plain, drawn = (read_clip(tmp_path / name, audio=False).video.astype(int) for name in ("x.mp4", "p.mp4"))
    assert np.abs(plain - drawn).mean() > 1


def test_onsets_lie_at_the_frames_in_which_they_sound_and_none_beyond_the_audio():
    audio = np.zeros(RATE, np.float32)
    audio[8000:8400] = 0.5
    onsets = frame_onsets(audio, 50, 25.0)
    assert abs(int(onsets.argmax()) - 12) <= 1 and onsets.shape == (50,) and not onsets[27:].any()
