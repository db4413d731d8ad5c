"""What is drawn over frames in YUV looks as it does over frames in RGB."""

import numpy as np
import pytest

from avlearn.apply.localize.drawing import mark, overlay
from avlearn.media.rgb import Yuv, yuv_levels
from avlearn.report import plots

COLOUR = np.array([60.0, 130.0, 200.0])


def plain(matrix: int = 6, full: bool = False, height: int = 80, width: int = 120) -> Yuv:
    """A frame of one colour."""
    levels = np.round(yuv_levels(COLOUR, matrix, full))
    shapes = [(height, width), *[(height // 2, width // 2)] * 2]
    planes = tuple(np.full(shape, level, np.uint8) for shape, level in zip(shapes, levels, strict=True))
    return Yuv(planes, matrix, full)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("opacity", [1.0, 0.4])
def test_the_blend_is_that_of_rgb(matrix, full, opacity):
    heat = np.random.default_rng(0).random((5, 7))
    found = overlay(plain(matrix, full), heat, opacity)
    expected = plots.overlay(np.full((80, 120, 3), COLOUR, np.uint8), heat, opacity)
    levels = yuv_levels(expected.astype(float), matrix, full)
    np.testing.assert_allclose(found.planes[0], levels[..., 0], atol=3.5)
    for plane, level in zip(found.planes[1:], (levels[..., 1], levels[..., 2]), strict=True):
        np.testing.assert_allclose(plane, level.reshape(40, 2, 60, 2).mean((1, 3)), atol=3.5)
    assert (found.matrix, found.full) == (matrix, full)


def test_what_is_cold_or_faded_is_as_it_was_and_the_frame_is_left_alone():
    frame = Yuv(tuple(np.random.default_rng(0).integers(0, 256, s, np.uint8) for s in ((40, 60), (20, 30), (20, 30))))
    before = [plane.copy() for plane in frame.planes]
    for heat, opacity in ((np.zeros((4, 6)), 1.0), (np.ones((4, 6)), 0.0)):
        for plane, found in zip(before, overlay(frame, heat, opacity).planes, strict=True):
            np.testing.assert_array_equal(found, plane)
    overlay(frame, np.ones((4, 6)))
    for plane, kept in zip(frame.planes, before, strict=True):
        np.testing.assert_array_equal(plane, kept)


def test_heat_beyond_its_range_is_clipped():
    heat = np.array([[-0.5, 0.3], [1.8, 1.0]])
    for found, clipped in zip(*(overlay(plain(), h).planes for h in (heat, np.clip(heat, 0, 1))), strict=True):
        np.testing.assert_array_equal(found, clipped)


@pytest.mark.parametrize(("full", "white", "black"), [(False, 235, 16), (True, 255, 0)])
def test_a_mark_is_a_box_with_a_word_in_its_corner(full, white, black):
    frame = plain(full=full, height=320, width=480)
    grey = int(frame.planes[0][0, 0])
    mark(frame, np.array([0.25, 0.25, 0.75, 0.75]), "7")
    y, u, v = frame.planes
    assert (y[80:82, 120:361] == white).all() and (y[80:241, 360] == white).all()
    assert (u[40, 60:181] == 128).all() and (v[40:121, 180] == 128).all()
    word = y[84:120, 124:160]
    assert word.max() > white - 20 and word.min() < black + 20
    assert (y[:80] == grey).all() and (y[130:236, 170:350] == grey).all()


@pytest.mark.parametrize("box", [(-0.2, -0.1, 1.2, 1.3), (0.99, 0.99, 1.0, 1.0), (0.5, 0.5, 0.5, 0.5)])
def test_a_box_at_the_edge_stays_within_the_frame(box):
    frame = plain(height=62, width=48)
    mark(frame, np.array(box), "1")
    assert frame.planes[0].max() == 235
