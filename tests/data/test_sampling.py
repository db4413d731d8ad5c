"""The order of clips and windows: each clip in each epoch, windows of a file apart, a step from its number."""

from itertools import islice

import numpy as np
import pytest

from avlearn.data.sampling import StepSampler


def test_an_epoch_has_every_clip_once_over_all_processes():
    samplers = [StepSampler(24, 4, 6, seed=3, rank=rank, world=2) for rank in range(2)]
    steps = list(zip(*samplers, strict=True))
    for epoch in (steps[:3], steps[3:]):
        clips = [pick[0] for parts in epoch for part in parts for pick in part]
        assert sorted(clips) == list(range(24))
    assert [p[0] for p in steps[0][0]] != [p[0] for p in steps[3][0]]


def test_a_step_depends_on_its_number_alone():
    for options in ({}, {"windows": 3, "pool": 2, "workers": 2}):
        sampler = StepSampler(30, 5, 40, seed=1, **options)
        whole = list(sampler)
        assert len(whole) == len(sampler) == 40
        assert list(islice(sampler, 17, None)) == whole[17:]
        assert list(StepSampler(30, 5, 40, seed=1, **options)) == whole
        assert list(StepSampler(30, 5, 40, seed=2, **options)) != whole


def test_windows_read_along_are_asked_for_later_of_the_same_worker():
    windows, pool, workers, batch = 3, 4, 2, 5
    sampler = StepSampler(400, batch, 240, seed=0, windows=windows, pool=pool, workers=workers)
    expected: dict[tuple[int, int], int] = {}  # clip and seed of a window read along, and the worker that holds it
    held = [0] * workers
    most = 0
    opens = 0
    for step, picks in enumerate(sampler):
        assert len({clip for clip, _, _ in picks}) == batch, "two windows of a clip in one batch"
        for clip, seed, further in picks:
            if (clip, seed) in expected:
                assert expected.pop((clip, seed)) == step % workers
                held[step % workers] -= 1
            else:
                opens += 1
                assert len(further) == windows - 1
                expected |= {(clip, later): step % workers for later in further}
                held[step % workers] += len(further)
        most = max(most, *held)
    assert opens == 240 * batch // windows
    assert not expected
    assert most == batch * pool * (windows - 1)


def test_passes_over_a_pool_have_the_same_clips_in_other_orders():
    windows, pool, batch = 4, 3, 6
    batches = list(StepSampler(100, batch, windows * pool, seed=5, windows=windows, pool=pool))
    passes = [[p[0] for picks in batches[k * pool : (k + 1) * pool] for p in picks] for k in range(windows)]
    assert all(sorted(clips) == sorted(passes[0]) for clips in passes)
    assert len({tuple(clips) for clips in passes}) == windows
    seeds = [(p[0], p[1]) for picks in batches for p in picks]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_windows_change_how_often_a_file_is_opened_and_not_how_many_clips_are_seen(windows):
    """Over as many epochs as there are windows every clip is seen so many times."""
    clips, batch = 48, 4
    steps = windows * clips // batch
    sampler = StepSampler(clips, batch, steps, seed=9, windows=windows, pool=3, workers=2)
    seen = [pick[0] for picks in sampler for pick in picks]
    assert sorted(seen) == sorted(list(range(clips)) * windows)


def test_fewer_clips_than_a_batch():
    (picks,) = StepSampler(3, 5, 1, seed=0)
    assert {clip for clip, _, _ in picks} == {0, 1, 2} and len(picks) == 5


@pytest.mark.parametrize("options", [{}, {"windows": 3, "pool": 2, "workers": 2}])
def test_clips_of_some_shards_are_taken_before_those_of_others(options):
    shards = np.arange(48) // 4 % 6  # of 8 clips each, which do not lie beside each other
    sampler = StepSampler(48, 4, 12 * 3 * options.get("windows", 1), seed=2, shards=shards, mixed=2, **options)
    whole = list(sampler)
    assert list(islice(sampler, 17, None)) == whole[17:]
    clips = [clip for picks in whole for clip, _, _ in picks]
    if not options:
        groups = [set(shards[clips[k : k + 16]].tolist()) for k in range(0, len(clips), 16)]
        assert all(len(group) == 2 for group in groups)
        for epoch in range(3):
            assert sorted(clips[48 * epoch : 48 * (epoch + 1)]) == list(range(48))
            assert set().union(*groups[3 * epoch : 3 * epoch + 3]) == set(range(6))
        assert len({tuple(clips[48 * epoch : 48 * (epoch + 1)]) for epoch in range(3)}) == 3
        assert any(len(set(shards[clips[k : k + 4]])) == 2 for k in range(0, 48, 4)), "they are mixed"
    for step, picks in enumerate(whole):
        soon = sampler.shards_soon(step)
        assert {int(shards[clip]) for clip, _, _ in picks} <= set(soon)
        assert 2 <= len(soon) <= 4 and len(soon) == len(set(soon))


def test_processes_take_the_clips_of_the_same_shards():
    shards = np.arange(40) // 10
    alone = list(StepSampler(40, 8, 10, seed=1, shards=shards, mixed=1))
    parts = [list(StepSampler(40, 4, 10, seed=1, rank=rank, world=2, shards=shards, mixed=1)) for rank in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)] == alone


def test_shards_of_all_are_mixed_like_clips_of_none():
    shards = np.arange(40) // 10
    assert list(StepSampler(40, 8, 10, seed=1, shards=shards, mixed=4)) == list(StepSampler(40, 8, 10, seed=1))
