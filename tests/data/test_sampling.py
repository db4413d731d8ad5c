"""The order of clips and windows: each clip in each epoch, windows of a file apart, a step from its number."""

from itertools import islice

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
