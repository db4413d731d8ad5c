"""Where the model cannot tell, what moves with the sound is drawn as a guess; the verdict is that of lips."""

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


def test_of_two_that_move_the_one_that_is_heard_is_strongest_though_both_move_alike(tmp_path):
    for seed in range(3):
        answer = motion_localization(film(tmp_path / "own.mp4", 16.0, seed))
        assert answer.peak[0] > 0.5 and not answer.sure.any(), "a guess is never sure"


@pytest.mark.parametrize("kind", ["short", "still", "silent"])
def test_it_says_nothing_of_what_is_short_still_or_silent(tmp_path, kind):
    path = film(tmp_path / "a.mp4", 1.0 if kind == "short" else 6.0, sounds=kind != "silent")
    if kind == "still":
        clip = read_clip(path)
        write_video(path, np.repeat(clip.video[:1], 150, 0), FPS, audio=clip.audio, sample_rate=RATE)
    answer = motion_localization(path)
    if kind == "still":  # but for what the encoder makes of it
        assert not answer.sure.any()
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
    guess = by_experts(localization(levels), [ExpertMaps("motion", found, np.zeros(4), "chance")])
    assert (guess.verdict, guess.expert, guess.maps_by) == ("this model cannot tell", "", "motion")
    assert guess.reason == "unlike; motion: chance" and guess.notice == "unlike" and guess.audible is None
    assert guess.drawn.tolist() == [VISIBLE] * 3 + [0.0], "to be seen, but not in silence"
    none = by_experts(localization(levels), [ExpertMaps("motion", None, np.zeros(0), "short")])
    assert none.maps_by == "model" and none.drawn.tolist() == [VISIBLE] * 3 + [0.0]
    assert none.audible is None and not none.calibrated, "of a file that the model does not know, either"


def test_the_command_draws_what_the_expert_found_and_says_who(model, tmp_path, monkeypatch):
    looked = localization(np.full(4, 0.1))
    monkeypatch.setattr(localize_experts, "localize_by_model", lambda *_: looked)
    result = localize_file(film(tmp_path / "a.mp4", 16.0), model, tmp_path / "o.mp4", sources=True)
    told = json.loads(json.dumps(result.to_dict()))
    assert (told["verdict"], told["expert"], told["maps_by"]) == ("this model cannot tell", "", "motion")
    assert told["peak"][0] > 0.5 and told["experts"][-1]["peak"] == told["peak"] and not told["calibrated"]
    assert "a guess, by motion that goes with the sound" in result.text() and "often chance" in result.reason
    assert told["sources"] == [] and told["audible"] is None and told["windows"][0]["audible"] is None
    plain, drawn = (read_clip(tmp_path / name, audio=False).video.astype(int) for name in ("a.mp4", "o.mp4"))
    assert np.abs(plain - drawn).mean() > 1


def test_onsets_lie_at_the_frames_in_which_they_sound_and_none_beyond_the_audio():
    audio = np.zeros(RATE, np.float32)
    audio[8000:8400] = 0.5
    onsets = frame_onsets(audio, 50, 25.0)
    assert abs(int(onsets.argmax()) - 12) <= 1 and onsets.shape == (50,) and not onsets[27:].any()
