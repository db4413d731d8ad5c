"""Frames in the colours of their file are those that conversion to RGB would give, and are written as they are."""

import av
import cv2
import numpy as np
import pytest
from golden import golden

from avlearn.media import read_clip, write_video
from avlearn.media.frames import every_frame, every_yuv
from avlearn.media.rgb import Yuv, below, to_rgb, to_yuv, yuv_levels

COLOURS = np.array([[255.0, 255, 255], [0, 0, 0], [200, 60, 30], [20, 90, 220]])
KINDS = (
    "fps25", "avi_mjpeg", "mpg_mpeg1", "rotated90", "rotated180", "rotated270", "rotated_wide_pixels", "wide_pixels",
    "bt709", "bt709_full", "full_range", "ten_bits_422", "444", "422", "odd_444", "odd_vp9",
)  # fmt: skip


def as_rgb(image: Yuv) -> np.ndarray:
    """``[H, W, 3]``, by the inverse of `yuv_levels`."""
    y, *chroma = image.planes
    planes = np.stack([y, *(cv2.resize(plane, y.shape[::-1]) for plane in chroma)], -1)
    black = yuv_levels(np.zeros(3), image.matrix, image.full)
    columns = (yuv_levels(255 * np.eye(3), image.matrix, image.full) - black) / 255
    return np.clip((planes - black) @ np.linalg.inv(columns), 0, 255)


def test_levels_are_those_of_the_standards():
    np.testing.assert_allclose(yuv_levels(COLOURS[:2], 6, False), [[235, 128, 128], [16, 128, 128]], atol=1e-6)
    np.testing.assert_allclose(yuv_levels(COLOURS[:2], 1, True), [[255, 128, 128], [0, 128, 128]], atol=1e-6)
    np.testing.assert_allclose(yuv_levels(np.array([255.0, 0, 0]), 1, False), [63, 102, 240], atol=0.6)
    np.testing.assert_allclose(yuv_levels(np.array([255.0, 0, 0]), 6, False), [81, 90, 240], atol=0.6)


@pytest.mark.parametrize("name", KINDS)
def test_they_are_the_frames_that_are_displayed(name):
    path = golden(name).path
    for count, ((time, image), (other, found)) in enumerate(zip(every_frame(path), every_yuv(path), strict=True)):
        assert time == other
        rows, columns = found.planes[0].shape
        assert (rows, columns) == (image.shape[0] // 2 * 2, image.shape[1] // 2 * 2)
        assert [plane.shape for plane in found.planes[1:]] == [(rows // 2, columns // 2)] * 2
        if count % 25 == 0:
            assert np.abs(as_rgb(found) - image[:rows, :columns]).mean() < 3


@pytest.mark.parametrize("pixels", ["rgb24", "gray", "bgra", "yuv420p10le", "yuva420p", "pal8", "nv12"])
@pytest.mark.parametrize("height", [480, 720])
def test_pixels_of_any_format_have_the_colours_of_rgb(pixels, height):
    image = np.zeros((height, 64, 3), np.uint8)
    image[:] = (200, 200, 200) if pixels in ("gray", "pal8") else (200, 60, 30)
    frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="gray" if pixels == "pal8" else pixels)
    found = to_yuv(frame, 1.0)
    assert found.matrix == (1 if height >= 720 else 6)
    np.testing.assert_allclose(as_rgb(found)[10:-10, 10:-10], to_rgb(frame, 1.0)[10:-10, 10:-10], atol=5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_they_are_written_in_their_own_colours(tmp_path, suffix, matrix, full):
    levels = np.round(yuv_levels(COLOURS[2], matrix, full)).astype(np.uint8)
    planes = [np.full(shape, level) for shape, level in zip([(48, 64), (24, 32), (24, 32)], levels, strict=True)]
    write_video(tmp_path / f"o{suffix}", [Yuv(tuple(planes), matrix, full)] * 5, 25)
    np.testing.assert_allclose(
        read_clip(tmp_path / f"o{suffix}", audio=False).video.reshape(-1, 3), [COLOURS[2]] * 15360, atol=5
    )
    _, again = next(every_yuv(tmp_path / f"o{suffix}"))
    assert (again.matrix, again.full) == (matrix, full)


@pytest.mark.parametrize("size", [(48, 64), (720, 1280), (1280, 720)])
def test_rgb_is_written_in_the_colours_that_its_size_has_by_custom(tmp_path, size):
    frames = np.full((3, *size, 3), (200, 60, 30), np.uint8)
    write_video(tmp_path / "o.mp4", frames, 25)
    assert np.abs(read_clip(tmp_path / "o.mp4", audio=False).video.astype(int) - frames).max() <= 4


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full", [False, True])
def test_an_image_below_a_frame_has_its_colours(matrix, full):
    planes = np.full((8, 16), 90, np.uint8), np.full((4, 8), 100, np.uint8), np.full((4, 8), 150, np.uint8)
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8), 2, 0).repeat(2, 1)
    found = below(Yuv(planes, matrix, full), image)
    assert [plane.shape for plane in found.planes] == [(16, 16), (8, 8), (8, 8)]
    assert all((plane[: len(own)] == own).all() for plane, own in zip(found.planes, planes, strict=True))
    y, u, v = (plane[len(own) :] for plane, own in zip(found.planes, planes, strict=True))
    levels = np.stack([y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1)], 2)
    assert np.abs(levels - yuv_levels(image.astype(float), matrix, full)).max() <= 1
