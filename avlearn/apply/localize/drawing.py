"""Maps and boxes drawn over frames in YUV, as files have them: of colours only those drawn are converted."""

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from avlearn.media.rgb import Yuv, yuv_levels
from avlearn.report.plots import heat_colours, outline


def overlay(frame: Yuv, heat: np.ndarray, opacity: float = 1.0) -> Yuv:
    """A frame with a heatmap over it, the hotter the more opaque: as `avlearn.report.plots.overlay` has it.

    Args:
        frame: of any size.
        heat: ``[Y, X]`` in [0, 1], of any size; enlarged to the frame.
        opacity: in [0, 1], of the whole map.

    Returns:
        Planes of its own.
    """
    small = np.round(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    stays, *added = _tables(round(opacity * 256), frame.matrix, frame.full)
    luma, chroma = (cv2.resize(small, plane.shape[::-1]) for plane in frame.planes[:2])
    y, u, v = (
        cv2.add(cv2.multiply(plane, cv2.LUT(level, stays), scale=1 / 255), cv2.LUT(level, colour))
        for plane, level, colour in zip(frame.planes, (luma, chroma, chroma), added, strict=True)
    )
    return replace(frame, planes=(y, u, v))


@lru_cache(maxsize=257)
def _tables(opacity: int, matrix: int, full: bool) -> tuple[np.ndarray, ...]:
    """For 256 levels of heat uint8 ``[256]``: 255ths that stay of a plane, and what is added to Y, U and V."""
    most, colours = heat_colours()
    stays = np.floor(255 * (1 - most * opacity / 256))
    added = (255 - stays) / 255 * yuv_levels(colours, matrix, full)
    return tuple(np.round(each).astype(np.uint8) for each in (stays[:, 0], *added.T))


def mark(frame: Yuv, box: np.ndarray, text: str) -> None:
    """Draw a box and a word in its corner, in white.

    Args:
        frame: its planes are written to.
        box: x0, y0, x1, y1 as fractions of it.
        text: of one or two letters.
    """
    height, width = frame.planes[0].shape
    pixels = np.asarray(box) * [width, height, width, height]
    white, black = yuv_levels(np.array([[255.0] * 3, [0.0] * 3]), frame.matrix, frame.full)
    thick = max(min(height, width) // 192, 1) * 2
    side = max(min(height, width) // 32, 5) * 2
    left, top = (int(np.clip(at, 0, most - 2)) // 2 * 2 for at, most in zip(pixels[:2], (width, height), strict=True))
    word = _word(text, side)
    for plane, low, high, part in zip(frame.planes, black, white, (1, 2, 2), strict=True):
        outline(plane, pixels / part, round(high), thick // part)
        place = plane[top // part :, left // part :][: 2 * side // part, : 2 * side // part]
        covers, bright = (each[::part, ::part][: place.shape[0], : place.shape[1]] for each in word)
        place[:] = np.round(place * (1 - covers) + covers * (low + (high - low) * bright))


@lru_cache
def _word(text: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A word in letters with a black edge, ``[2 * side, 2 * side]``: how much it covers, and how bright it is."""
    covers, bright = (Image.new("L", (2 * side, 2 * side)) for _ in range(2))
    font, edge = ImageFont.load_default(side), max(side // 10, 1)
    ImageDraw.Draw(covers).text((side / 4, 0), text, 255, font, stroke_width=edge)
    ImageDraw.Draw(bright).text((side / 4, 0), text, 255, font)
    return np.asarray(covers) / 255, np.asarray(bright) / 255
