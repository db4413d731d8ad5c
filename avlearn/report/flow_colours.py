"""Optical flow as colours: the hue is the direction, the strength the length (Baker et al., ICCV 2007)."""

from functools import cache

import numpy as np

# Steps of the wheel from each colour to the next: red, yellow, green, cyan, blue, magenta, and red again.
_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))


def flow_colours(flow: np.ndarray, longest: float | None = None) -> np.ndarray:
    """Colours of vectors: white for none, the stronger the longer; right is red, down yellow, left cyan, up blue.

    Args:
        flow: ``[..., 2, H, W]``, pixels along x and y; what is not finite is unknown, and black.
        longest: pixels that have the full colour; longer ones are darker. The longest of all by default.

    Returns:
        uint8 ``[..., H, W, 3]``.
    """
    across, down = np.moveaxis(np.asarray(flow, np.float32), -3, 0)
    known = np.isfinite(across) & np.isfinite(down)
    across, down = np.where(known, across, 0), np.where(known, down, 0)
    lengths = np.hypot(across, down)
    unit = float(lengths.max(initial=0)) if longest is None else longest
    lengths = (lengths / (unit or 1.0))[..., None]
    wheel = _wheel()
    place = (np.arctan2(-down, -across) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(np.int64)
    share = (place - low)[..., None].astype(np.float32)
    hue = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    shade = np.where(lengths <= 1, 1 - lengths * (1 - hue), 0.75 * hue)
    colours: np.ndarray = np.floor(255 * shade * known[..., None]).astype(np.uint8)
    return colours


@cache
def _wheel() -> np.ndarray:
    """float32 ``[55, 3]``, RGB in [0, 1]."""
    ends = (*_CORNERS[1:], _CORNERS[0])
    parts = [
        np.add(begin, np.subtract(end, begin) * np.floor(255 * np.arange(steps) / steps)[:, None] / 255)
        for steps, begin, end in zip(_STEPS, _CORNERS, ends, strict=True)
    ]
    return np.concatenate(parts).astype(np.float32)
