"""Repetitions are found, and are no evidence."""

import tracemalloc

import numpy as np
import pytest

from avlearn.apply.sync.repeats import last_seen, loudness, period, thumbnails


def footage(seconds, seed):
    """Frames ``[T, 32, 48, 3]`` of things that wander, 25 a second, and a melody ``[S]``, 16,000 a second."""
    rng = np.random.default_rng(seed)
    count = round(25 * seconds)
    y, x = np.mgrid[:32, :48]
    frames = np.zeros((count, 32, 48), np.float32)
    for _ in range(3):
        path = np.cumsum(rng.normal(0, 1.5, (count, 2)), 0) % (32, 48)
        frames += 150 * np.exp(-((y - path[:, 0, None, None]) ** 2 + (x - path[:, 1, None, None]) ** 2) / 40)
    frames = (frames + rng.normal(0, 3, frames.shape)).clip(0, 255).astype(np.uint8)
    notes = 200 * 2 ** rng.uniform(0, 5, 10 * seconds)
    loud = rng.uniform(0.0, 1, 10 * seconds) ** 2
    audio = np.sin(2 * np.pi * np.cumsum(notes.repeat(1600)) / 16000) * loud.repeat(1600) * 0.3
    audio += rng.normal(0, 0.01, len(audio))
    return np.repeat(frames[..., None], 3, 3), audio.astype(np.float32)


def ago(frames, audio):
    count = min(len(frames), len(audio) // 640)
    return last_seen(thumbnails(frames[:count]), loudness(audio, 640)[:count], 50)


def fresh(frames, audio):
    return ago(frames, audio) == 0


def test_what_never_repeats_is_all_fresh():
    assert fresh(*footage(20, 0)).mean() > 0.97


@pytest.mark.parametrize("shift", [0, 320, 111])  # samples: a loop need not last a whole number of frames
def test_a_loop_is_fresh_once(shift):
    frames, audio = footage(6, 1)
    loop = np.concatenate([audio, np.roll(audio, shift)])
    found = fresh(np.tile(frames, (8, 1, 1, 1)), np.tile(loop, 4))
    assert found[:150].mean() > 0.97
    assert found.sum() < 1.35 * 150


@pytest.mark.parametrize("times", [2, 3, 9])
def test_a_loop_has_a_period(times):
    frames, audio = footage(6, 1)
    assert period(ago(np.tile(frames, (times, 1, 1, 1)), np.tile(audio, times))) == pytest.approx(150, abs=1)


def test_what_is_no_loop_has_no_period():
    frames, audio = footage(6, 1)
    other, tune = footage(12, 5)
    assert period(ago(frames, audio)) is None
    assert period(ago(other, tune)) is None
    # A part that comes again, after other footage or before it; and a loop that has hardly begun again.
    loop, tunes = np.tile(frames, (3, 1, 1, 1)), np.tile(audio, 3)
    assert period(ago(np.concatenate([loop, other]), np.concatenate([tunes, tune]))) is None
    assert period(ago(np.concatenate([other, loop]), np.concatenate([tune, tunes]))) is None
    assert period(ago(loop[:190], tunes[: 190 * 640])) is None


def test_a_video_that_repeats_with_other_audio_is_fresh_and_so_is_the_other_way_round():
    frames, audio = footage(6, 2)
    _, long = footage(24, 3)
    assert fresh(np.tile(frames, (4, 1, 1, 1)), long).mean() > 0.85
    scenes, _ = footage(24, 4)
    assert fresh(scenes, np.tile(audio, 4)).mean() > 0.9


def test_shapes_of_short_and_odd_material():
    assert fresh(*footage(1, 0)).all()
    assert thumbnails(np.zeros((3, 9, 31, 3), np.uint8)).shape == (3, 8)
    assert loudness(np.zeros(100, np.float32), 640).shape == (0, 16)


@pytest.mark.parametrize("count", [1, 12, 13, 50, 61, 62, 63, 64])
def test_a_file_that_is_too_short_to_repeat_is_all_fresh(count):
    frames, audio = footage(3, 0)
    assert not ago(frames[:count], audio[: count * 640]).any()


def test_runs_are_held_against_few_others_at_a_time_and_the_answer_is_the_same(monkeypatch):
    frames, audio = footage(8, 6)
    other, tune = footage(12, 7)
    both = np.concatenate([frames, other, frames, other[:150]]), np.concatenate([audio, tune, audio, tune[: 6 * 16000]])
    whole = ago(*both)
    monkeypatch.setattr("avlearn.apply.sync.repeats._BANK", 37)
    assert whole.any()
    np.testing.assert_array_equal(ago(*both), whole)


def test_memory_for_a_long_file_is_a_few_numbers_a_frame():
    """Of 15 minutes; all pairs of runs at once would be 25 MB for each number of them."""
    rng = np.random.default_rng(0)
    seen, heard = (rng.normal(size=(22500, size)).astype(np.float32) for size in (8, 16))
    tracemalloc.start()
    last_seen(seen, heard, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
