"""Decoded frames to RGB as displayed: cropped in the stored planes first, so that nothing unwanted is converted."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, log2
from typing import Literal

import av
import cv2
import numpy as np

Crop = Literal["square"] | tuple[float, float, float, float] | None
Size = int | tuple[int, int] | None

# Red and blue weights of luma by the stream's tag (ITU-T H.273, 2021, table 4).
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
            9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}  # fmt: skip
_LITTLE = 1.3  # times by which bilinear interpolation shrinks without aliasing that shows
_BT709, _BT601 = 1, 6
_HIGH = 720  # lines from which on untagged colours are by custom BT.709
# How often chroma is halved across and down, for the planar formats of eight bits.
_PLANAR = {"yuv420p": (1, 1), "yuv422p": (1, 0), "yuv444p": (0, 0), "yuv411p": (2, 0), "yuv410p": (2, 2),
           "yuv440p": (0, 1)}  # fmt: skip
_SHIFTS = {shifts: name for name, shifts in _PLANAR.items()}


def to_rgb(
    frame: av.VideoFrame, aspect: float, size: Size = None, crop: Crop = None, out: np.ndarray | None = None
) -> np.ndarray:
    """A frame as displayed: rotated, with square pixels, in the colours that its tags mean.

    Untagged colours are by custom BT.709 from 720 lines on and BT.601 below. High dynamic range is not tone-mapped.

    Args:
        frame: a decoded frame of any pixel format.
        aspect: width over height of a pixel.
        size: short side in pixels, or (height, width); the frame's own by default.
        crop: "square" (the largest, in the middle), or left, top, right and bottom as shares of the displayed
            frame; edges are moved to whole chroma samples.
        out: where to write the result.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    matrix, full = _matrix_tag(frame), _is_full(frame)
    name = frame.format.name.replace("yuvj", "yuv")
    if name not in _PLANAR:
        name = _eight_bits(frame.format)
        frame = frame.reformat(format=name, threads=1)
        matrix, full = _matrix_tag(frame), _is_full(frame)
    plan = _planned(name, frame.width, frame.height, aspect, round(frame.rotation / 90) % 4, size, crop, matrix, full)
    planes: list[np.ndarray] = []
    for plane, (rows, columns), steps in zip(frame.planes, plan.boxes, plan.steps, strict=False):
        stored = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        cut: np.ndarray = stored[rows, columns]
        cut = cut if plan.matrix is not None else cut.reshape(plan.packed)
        planes.append(_scaled(cut, steps))
    image: np.ndarray = planes[0]
    if plan.matrix is not None:
        image = cv2.transform(cv2.merge(planes), plan.matrix, dst=out if not plan.turns else None)
    if plan.turns:
        image = np.rot90(image, plan.turns)
    if out is None:
        return np.ascontiguousarray(image)
    if image is not out:
        out[:] = image
    return out


# Sizes (width, height) and interpolations by which a plane is scaled, one after the other.
_Steps = tuple[tuple[tuple[int, int], int], ...]


@dataclass(frozen=True)
class _Plan:
    """How frames of one kind become images.

    Attributes:
        boxes: rows and columns to cut from each plane, bytes.
        steps: by which each is scaled.
        matrix: from luma and chroma to RGB; None of frames that are RGB.
        packed: shape of a cut of RGB.
        turns: counterclockwise, by quarters.
    """

    boxes: tuple[tuple[slice, slice], ...]
    steps: tuple[_Steps, ...]
    matrix: np.ndarray | None
    packed: tuple[int, int, int]
    turns: int


@lru_cache
def _planned(
    name: str, width: int, height: int, aspect: float, turns: int, size: Size, crop: Crop, matrix: int, full: bool
) -> _Plan:
    across, down = _PLANAR.get(name, (0, 0))
    (left, top, right, bottom), shape = _geometry(width, height, aspect, turns, size, crop, 1 << across, 1 << down)
    packed = bottom - top, right - left, 3
    if name == "rgb24":
        box = slice(top, bottom), slice(3 * left, 3 * right)
        return _Plan((box,), (_steps(packed[1], packed[0], *shape),), None, packed, turns)
    cuts = [(top, bottom, left, right)]
    cuts += [(top >> down, _up(bottom, down), left >> across, _up(right, across))] * 2
    boxes = tuple((slice(low, high), slice(begin, end)) for low, high, begin, end in cuts)
    steps = tuple(_steps(end - begin, high - low, *shape) for low, high, begin, end in cuts)
    return _Plan(boxes, steps, _colours(*_WEIGHTS[matrix], full), packed, turns)


@dataclass(frozen=True)
class Yuv:
    """A frame as displayed, of eight bits in YUV 4:2:0, in the colours of its file.

    Attributes:
        planes: luma uint8 ``[H, W]`` of even sides, and U and V ``[H / 2, W / 2]``.
        matrix: tag of the weights of luma (ITU-T H.273, table 4).
        full: whether levels go from 0 to 255 (else luma from 16 to 235).
        primaries, transfer: tags of the file (ITU-T H.273, tables 2 and 3); 2: it says nothing.
    """

    planes: tuple[np.ndarray, np.ndarray, np.ndarray]
    matrix: int = _BT601
    full: bool = False
    primaries: int = 2
    transfer: int = 2


def yuv_levels(colours: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    """Y, U and V of colours, as of `Yuv`: float64 ``[..., 3]`` of R, G and B from 0 to 255, to ``[..., 3]``."""
    affine = _colours(*_WEIGHTS[matrix], full)
    levels: np.ndarray = (colours - affine[:, 3]) @ np.linalg.inv(affine[:, :3]).T
    return levels


def below(frame: Yuv, image: np.ndarray) -> Yuv:
    """A frame with an image under it, in the frame's colours.

    Args:
        frame: as wide as the image.
        image: uint8 RGB ``[H, W, 3]`` of even sides.
    """
    affine = np.vstack([_colours(*_WEIGHTS[frame.matrix], frame.full), [0, 0, 0, 1]])
    levels = cv2.transform(image, np.linalg.inv(affine)[:3])
    halved = cv2.resize(levels, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    parts = levels[..., 0], halved[..., 1], halved[..., 2]
    y, u, v = (np.concatenate(both) for both in zip(frame.planes, parts, strict=True))
    return replace(frame, planes=(y, u, v))


def to_yuv(frame: av.VideoFrame, aspect: float, size: tuple[int, int] | None = None) -> Yuv:
    """A frame as displayed: rotated and with square pixels as by `to_rgb`, but its colours are not converted.

    Planes that need no change are the frame's own, and are not to be written to.

    Args:
        frame: a decoded frame of any pixel format.
        aspect: width over height of a pixel.
        size: height and width; the frame's own by default. What is odd loses its last row or column.
    """
    name = frame.format.name.replace("yuvj", "yuv")
    matrix, full = _matrix_tag(frame), _is_full(frame)
    if name not in _PLANAR:
        name = _eight_bits(frame.format)
        if name == "rgb24":
            matrix, full, name = custom_matrix(frame.height), False, "yuv444p"
            frame = frame.reformat(format="rgb24", threads=1).reformat(format=name, dst_colorspace=matrix, threads=1)
        else:
            frame = frame.reformat(format=name, threads=1)
    turns = round(frame.rotation / 90) % 4
    _, (width, height) = _geometry(frame.width, frame.height, aspect, turns, size, None, 1, 1)
    halved = _PLANAR[name][0]
    luma, *chroma = frame.planes
    stored = [_plane(luma, frame.width), *(_plane(plane, _up(frame.width, halved)) for plane in chroma[:2])]
    sizes = [(width, height), *[(_up(width, 1), _up(height, 1))] * 2]
    planes = [_resize(plane, *size) for plane, size in zip(stored, sizes, strict=True)]
    if turns:
        planes = [np.ascontiguousarray(np.rot90(plane, turns)) for plane in planes]
    rows, columns = planes[0].shape[0] // 2, planes[0].shape[1] // 2
    y, u, v = planes[0][: 2 * rows, : 2 * columns], planes[1][:rows, :columns], planes[2][:rows, :columns]
    return Yuv((y, u, v), matrix, full, int(frame.color_primaries), int(frame.color_trc))


def _up(length: int, halvings: int) -> int:
    return -(-length >> halvings)


def _eight_bits(pixels: av.VideoFormat) -> str:
    """The plainest format that holds one of another layout or depth."""
    if pixels.is_rgb or len(pixels.components) < 3 or pixels.has_palette:
        return "rgb24"
    halvings = {16: 0, 8: 1, 4: 2}
    halved = halvings.get(pixels.chroma_width(16), 0), halvings.get(pixels.chroma_height(16), 0)
    return _SHIFTS.get(halved, "yuv444p")


def _plane(plane: av.video.plane.VideoPlane, width: int) -> np.ndarray:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, :width]


def _resize(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    return _scaled(plane, _steps(plane.shape[1], plane.shape[0], width, height))


def _scaled(plane: np.ndarray, steps: _Steps) -> np.ndarray:
    for shape, interpolation in steps:
        plane = cv2.resize(plane, shape, interpolation=interpolation)
    return plane


def _steps(across: int, down: int, width: int, height: int) -> _Steps:
    """Steps to scale a plane by bilinear interpolation, without aliasing.

    To shrink by much: first to a power of two times the size, then by means of pairs. As close to a filter that
    widens with the scale as OpenCV's INTER_AREA, in half the time or less.
    """
    wide, high = _doublings(across, width), _doublings(down, height)
    steps = []
    if (across, down) != (width << wide, height << high):
        steps.append(((width << wide, height << high), cv2.INTER_LINEAR))
    while wide or high:
        wide, high = max(wide - 1, 0), max(high - 1, 0)
        steps.append(((width << wide, height << high), cv2.INTER_AREA))
    return tuple(steps)


def _doublings(length: int, wanted: int) -> int:
    """How often to double the wanted length until bilinear interpolation shrinks to it by little."""
    return max(0, ceil(log2(length / (_LITTLE * wanted))))


def _matrix_tag(frame: av.VideoFrame) -> int:
    tag = int(frame.colorspace)
    return tag if tag in _WEIGHTS else custom_matrix(frame.height)


def custom_matrix(height: int) -> int:
    """The tag of the matrix (ITU-T H.273, table 4) that untagged frames of so many lines have by custom."""
    return _BT709 if height >= _HIGH else _BT601


def _is_full(frame: av.VideoFrame) -> bool:
    return int(frame.color_range) == 2 or frame.format.name.startswith("yuvj")


@lru_cache
def _colours(red: float, blue: float, full: bool) -> np.ndarray:
    """Affine map from Y, U, V to R, G, B in levels: float64 ``[3, 4]`` (ITU-T H.273, 2021)."""
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)
    from_v, from_u = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    matrix = np.array(
        [
            [luma, 0, from_v, 0],
            [luma, -from_u * blue / green, -from_v * red / green, 0],
            [luma, from_u, 0, 0],
        ]
    )
    matrix[:, 3] = -matrix[:, :3] @ (black, 128, 128)
    return matrix


@lru_cache
def _geometry(
    width: int, height: int, ratio: float, turns: int, size: Size, crop: Crop, across: int, down: int
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Box in stored pixels (left, top, right, bottom), and width and height to scale it to before it is turned."""
    shown: tuple[float, float] = (height, width * ratio) if turns % 2 else (width * ratio, height)
    if crop is None:
        left, top, right, bottom = 0.0, 0.0, *shown
    elif crop == "square":
        side = min(shown)
        left, top = (shown[0] - side) / 2, (shown[1] - side) / 2
        right, bottom = left + side, top + side
    else:
        left, top, right, bottom = (share * side for share, side in zip(crop, shown * 2, strict=True))
    out = _out_size(right - left, bottom - top, size)
    # The displayed frame is the stored one turned counterclockwise: turn the box back.
    if turns == 1:
        left, top, right, bottom = shown[1] - bottom, left, shown[1] - top, right
    elif turns == 2:
        left, top, right, bottom = shown[0] - right, shown[1] - bottom, shown[0] - left, shown[1] - top
    elif turns == 3:
        left, top, right, bottom = top, shown[0] - right, bottom, shown[0] - left
    box = (
        *_edges(left / ratio, right / ratio, width, across),
        *_edges(top, bottom, height, down),
    )
    return (box[0], box[2], box[1], box[3]), out[::-1] if turns % 2 else out


def _edges(first: float, last: float, length: int, step: int) -> tuple[int, int]:
    low = min(max(round(first / step) * step, 0), (length - 1) // step * step)
    high = max(round(last / step) * step, low + step)
    return low, length if high > length - step else high


def _out_size(width: float, height: float, size: Size) -> tuple[int, int]:
    if isinstance(size, tuple):
        return size[1], size[0]
    if size is None:
        return max(round(width), 1), max(round(height), 1)
    # The long side is even, so that the frame can be written again without loss of a column.
    scale = size / min(width, height)
    if abs(width - height) < 0.5:
        return size, size
    if width < height:
        return size, max(2, round(height * scale / 2) * 2)
    return max(2, round(width * scale / 2) * 2), size


def displayed(frame: av.VideoFrame, aspect: float) -> tuple[int, int]:
    """Width and height of a frame with square pixels, turned for display."""
    turns = round(frame.rotation / 90) % 4
    _, (width, height) = _geometry(frame.width, frame.height, aspect, turns, None, None, 1, 1)
    return (height, width) if turns % 2 else (width, height)
