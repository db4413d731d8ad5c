"""The strip of labels: colours where the labels are, a mark that moves, and text that stays within the width."""

import numpy as np
import pytest

from avlearn.report.label_strip import LabelStrip, Stretch

STRETCHES = [Stretch(0.0, "drum", 0.9), Stretch(2.0, None, None), Stretch(3.0, "bell", 0.5)]


def bar(strip: LabelStrip, shown: np.ndarray) -> np.ndarray:
    """The middle row of the colours."""
    return shown[len(shown) - strip.rows + 3 * strip.line // 2]


def test_colours_lie_where_the_labels_are_and_the_mark_where_the_moment_is():
    strip = LabelStrip(STRETCHES, 10.0, 200, 400)
    early, late = strip.at(0.5), strip.at(9.0)
    assert early.shape == (strip.rows, 400, 3)
    row = bar(strip, late)
    drum, grey, bell = row[40], row[100], row[200]
    assert tuple(drum) == strip.colours["drum"] and tuple(bell) == strip.colours["bell"]
    assert len({int(value) for value in grey}) == 1 and len({int(value) for value in drum}) > 1
    assert (row[0] == drum).all() and (row[79] == drum).all() and (row[81] == grey).all() and (row[121] == bell).all()
    assert (row[360] > 200).all() and (bar(strip, early)[20] > 200).all() and (bar(strip, early)[360] == bell).all()


def test_the_text_is_that_of_the_moment():
    strip = LabelStrip(STRETCHES, 10.0, 200, 400)
    lines = [strip.at(instant)[: strip.line - 3] for instant in (0.0, 1.99, 2.0, 9.9, 99.0)]
    assert (lines[0] == lines[1]).all() and (lines[3] == lines[4]).all()
    assert (lines[1] != lines[2]).any() and (lines[2] != lines[3]).any()


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (360, 40), (41, 640), (1080, 1920)])
def test_frames_of_any_size_get_a_strip_of_whole_rows(size):
    stretches = [Stretch(k, f"label {k} " + "w" * 40, 0.5) for k in range(40)]
    strip = LabelStrip(stretches, 40.0, *size)
    shown = strip.at(7.0)
    assert shown.shape == (strip.rows, size[1], 3) and (size[0] + len(shown)) % 2 == 0
    assert len(set(strip.colours.values())) == 40


def test_a_name_that_is_too_long_ends_before_the_edge():
    strip = LabelStrip([Stretch(0.0, "w" * 90, 0.5)], 1.0, 100, 100)
    text = strip.at(0.0)[: strip.line]
    assert (text[:, -2:] == text[0, -1]).all() and (text[:, 30:80] > 150).any()
