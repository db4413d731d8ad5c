"""Which cells of a video move when a sound sets in: correlation over time, at small lags beside all others."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

SHORTEST = 3.0  # seconds that tell anything: a third of them is there to be shifted into
_LAG = 0.16  # seconds by which motion and sound may be apart: web video is off by about as much
_APART = 1.0  # seconds from which a shift of the audio tells of chance
_TREND = 2.0  # seconds (std of a Gaussian): what changes more slowly is taken out
_MOTION_LIMIT, _ONSET_LIMIT = 2.5, 4.0  # stds at which outliers end: one jolt of the camera decides nothing
_FLOOR = 0.1  # of the largest std of a cell: noise in a still cell is not made as large as motion
_CHANCE = 0.5  # of the mean over shifts that is subtracted


def onset_correlation(motion: Sequence[np.ndarray], onsets: np.ndarray, fps: float) -> np.ndarray | None:
    """Correlation of each cell's motion with onsets: the highest within 160 ms, less half of what it has by chance.

    Sounds begin where things move or stop moving (Barzelay & Schechner, CVPR 2007: onsets; Hershey & Movellan,
    NeurIPS 1999: synchrony of a pixel with loudness). Chance is the same audio, shifted by a second or more around
    the ends.

    Args:
        motion: views ``[T, P]`` of the cells of a shot, as by `avlearn.signal.motion.grid_motion`.
        onsets: ``[T]``, of the same moments.
        fps: frames a second.

    Returns:
        float32 ``[P]`` in [-1, 1]; None where it is too short for shifts, or nothing moves or is heard.
    """
    apart = round(_APART * fps)
    if (
        len(onsets) < round(SHORTEST * fps)
        or not np.ptp(onsets)
        or not any(np.ptp(view, axis=0).any() for view in motion)
    ):
        return None
    heard = np.fft.rfft(_standard(onsets[:, None], fps, _ONSET_LIMIT, 0.0), axis=0)
    total = np.zeros(motion[0].shape)
    for view in motion:
        seen = np.fft.rfft(_standard(view, fps, _MOTION_LIMIT, _FLOOR), axis=0)
        total += np.fft.irfft(np.conj(seen) * heard, len(view), axis=0) / len(view) / len(motion)
    near = maximum_filter1d(total, 2 * round(_LAG * fps) + 1, axis=0, mode="wrap")
    shifted = near[apart : len(near) - apart + 1]
    heights: np.ndarray = near[0] - _CHANCE * shifted.mean(0)
    return heights.astype(np.float32)


def _standard(values: np.ndarray, fps: float, limit: float, floor: float) -> np.ndarray:
    """``[T, P]`` without trends, outliers drawn in, of mean 0 and std 1, less where a cell hardly changes."""
    flat = values - gaussian_filter1d(values, _TREND * fps, axis=0, mode="nearest")
    return _scaled(np.clip(_scaled(flat, floor), -limit, limit), floor)


def _scaled(values: np.ndarray, floor: float) -> np.ndarray:
    centred: np.ndarray = values - values.mean(0)
    std = centred.std(0)
    scaled: np.ndarray = centred / (std + floor * std.max() + 1e-9)
    return scaled
