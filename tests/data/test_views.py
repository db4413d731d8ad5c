"""Frames of views. The expected ones are those of the published code, which was run for these numbers."""

import numpy as np
import pytest

from avlearn.data.views import Views, clip_frames, clip_starts, parse_views, square_crops
from avlearn.errors import DataError

MMACTION2 = {  # SampleFrames(clip_len, frame_interval, num_clips, test_mode=True): frames, length, interval, clips
    (300, 8, 8, 3): [
        [0, 8, 16, 24, 32, 40, 48, 56],
        [122, 130, 138, 146, 154, 162, 170, 178],
        [243, 251, 259, 267, 275, 283, 291, 299],
    ],
    (250, 8, 8, 1): [[96, 104, 112, 120, 128, 136, 144, 152]],
    (61, 8, 8, 3): [
        [0, 8, 16, 24, 32, 40, 48, 56],
        [2, 10, 18, 26, 34, 42, 50, 58],
        [4, 12, 20, 28, 36, 44, 52, 60],
    ],
    (7, 4, 2, 2): [[0, 2, 4, 6], [0, 2, 4, 6]],
    (50, 8, 8, 2): [[0, 8, 16, 24, 32, 40, 48, 6]] * 2,  # shorter than a clip
}
PYSLOWFAST = {  # get_start_end_idx and temporal_sampling: frames, length, interval in frames of the file, clips
    (300, 8, 8.0, 3): [
        [0, 9, 18, 27, 36, 45, 54, 63],
        [78, 87, 96, 105, 114, 123, 132, 141],
        [157, 166, 175, 184, 193, 202, 211, 220],
    ],
    (250, 8, 8 * 25 / 30, 3): [  # a file of 25 frames a second, counted at 30
        [0, 7, 14, 22, 29, 37, 44, 52],
        [65, 73, 80, 87, 95, 102, 110, 117],
        [131, 138, 146, 153, 161, 168, 175, 183],
    ],
    (300, 16, 2 * 30000 / 1001 / 30, 2): [
        [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30],
        [134, 136, 138, 140, 142, 144, 146, 148, 150, 152, 154, 156, 158, 160, 162, 164],
    ],
    (50, 8, 8.0, 2): [[0, 9, 18, 27, 36, 45, 49, 49]] * 2,
}


@pytest.mark.parametrize("case", MMACTION2)
def test_clips_of_mmaction2(case):
    length, frames, stride, clips = case
    assert clip_frames(Views("mmaction2", clips), length, frames, stride).tolist() == MMACTION2[case]


def test_even_clips_stay_on_their_last_frame():
    """``out_of_bound_opt="repeat_last"``."""
    assert clip_frames(Views("even", 2), 50, 8, 8).tolist() == [[0, 8, 16, 24, 32, 40, 48, 48]] * 2
    assert clip_frames(Views("even", 3), 300, 8, 8).tolist() == MMACTION2[300, 8, 8, 3]


def test_ten_clips_begin_where_both_codebases_have_them():
    ours = [clip_frames(Views(rule, 10), 300, 8, 8)[:, 0].tolist() for rule in ("mmaction2", "pyslowfast")]
    assert ours[0] == [0, 27, 54, 81, 108, 135, 162, 189, 216, 243]
    assert ours[1] == [0, 23, 47, 70, 94, 118, 141, 165, 188, 212]


@pytest.mark.parametrize("case", PYSLOWFAST)
def test_clips_of_pyslowfast(case):
    length, frames, stride, clips = case
    assert clip_frames(Views("pyslowfast", clips), length, frames, stride).tolist() == PYSLOWFAST[case]


@pytest.mark.parametrize(
    ("length", "frames", "middles", "beginnings", "ssv2"),
    [
        (100, 8, [6, 18, 31, 43, 56, 68, 81, 93], [0, 12, 25, 37, 50, 62, 75, 87], [6, 18, 31, 43, 56, 68, 80, 93]),
        (7, 8, [0, 1, 2, 3, 3, 4, 5, 6], [0, 0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 2, 3, 4, 4, 5]),
        (61, 3, [10, 30, 50], [0, 20, 40], [10, 30, 50]),
    ],
)
def test_segments(length, frames, middles, beginnings, ssv2):
    """mmaction2 for TSN, its ``twice_sample``, and PySlowFast's ``ssv2``."""
    assert clip_frames(Views("uniform", 1), length, frames, 1, True).tolist() == [middles]
    assert clip_frames(Views("uniform", 2), length, frames, 1, True).tolist() == [middles, beginnings]
    assert clip_frames(Views("pyslowfast", 1), length, frames, 1, True).tolist() == [ssv2]


def test_dense_clips_follow_one_another():
    assert clip_frames(Views("dense"), 20, 4, 2).tolist() == [[0, 2, 4, 6], [8, 10, 12, 14]]
    assert clip_frames(Views("dense"), 5, 4, 2).tolist() == [[0, 2, 4, 4]]
    assert clip_starts(Views("dense"), 24.0, 4, 2).tolist() == [0, 8, 16]


def test_rates_that_do_not_divide():
    """A network of 25 frames a second on a file of 30 is shown the last frame at or before each of its instants."""
    assert clip_frames(Views("even", 1), 12, 10, 1.2).tolist() == [[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]]


def test_views_as_they_are_written():
    assert parse_views("10x3") == Views("even", 10, 3)
    assert parse_views(None) == Views("even", 10, 1)
    assert parse_views("pyslowfast:10x3") == Views("pyslowfast", 10, 3)
    assert parse_views("dense").crops == 1
    assert str(parse_views("dense:x3")) == "dense:x3"
    assert str(parse_views("2x3", segments=True)) == "uniform:2x3"
    assert parse_views(None, segments=True) == Views("uniform", 1, 1)
    assert parse_views("uniform") == Views("uniform", 1, 1)


@pytest.mark.parametrize(
    ("text", "segments", "says"),
    [
        ("ten", False, "write clips x crops"),
        ("10x2", False, "1 or 3 crops"),
        ("loose:10x3", False, "no rule 'loose'"),
        ("uniform:3x1", False, "uniform has 1 or 2 clips"),
        ("0x1", False, "1 to 1000"),
        ("dense", True, "a network of segments takes"),
        ("pyslowfast:2x1", True, "a network of segments takes"),
    ],
)
def test_what_is_no_view(text, segments, says):
    with pytest.raises(DataError, match=says):
        parse_views(text, segments)


def test_crops_lie_along_the_longer_side():
    frames = np.arange(4 * 10).reshape(1, 4, 10, 1).repeat(3, 3).astype(np.uint8)
    left, middle, right = (crop[0, 0, :, 0].tolist() for crop in square_crops(frames, 3))
    assert (left, middle, right) == ([0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9])
    (alone,) = square_crops(frames, 1)
    assert alone[0, 0, :, 0].tolist() == middle
    tall = frames.transpose(0, 2, 1, 3)
    assert [crop.shape for crop in square_crops(tall, 3)] == [(1, 4, 4, 3)] * 3
    assert square_crops(tall, 3)[2][0, :, 0, 0].tolist() == right
