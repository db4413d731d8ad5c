"""Maps of where a sound comes from, finer than the model's cells: for a window, and along a file."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives.similarity import heatmap

# Quarters of a cell by which the video is moved down and to the right, and whether it is seen in the mirror. Each
# way of looking is there twice: all eight pairs give no better maps.
_VIEWS = ((-1, -1, False), (-1, 1, True), (1, -1, True), (1, 1, False))
_SMOOTH = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16  # neighbouring values are of different views


@torch.inference_mode()
def views(model: AudioVisual, video: Tensor) -> Tensor:
    """The video in the common space, seen four ways: moved by a quarter of a cell, two of them mirrored.

    Moving the video samples its map between the cells (shift and stitch: Long et al., CVPR 2015). Nothing in the
    training ties a cell to the middle of what it answers to; with mirrored views, a sideways drift cancels.

    Args:
        model: the towers.
        video: ``[B, 3, T, H, W]`` in [0, 1]; stretched to whole cells.

    Returns:
        ``[4, B, D, T', Y, X]``, all upright and unmirrored, for `stitched_map`.
    """
    _, down, right = model.video.feature_info.stride
    sides = [max(round(side / stride), 1) * stride for side, stride in zip(video.shape[3:], (down, right), strict=True)]
    frames = video.transpose(1, 2).flatten(0, 1)
    if sides != list(video.shape[3:]):
        frames = F.interpolate(frames, sides, mode="bilinear", antialias=True)
    pad = (right // 4, right // 4, down // 4, down // 4)
    padded = F.pad(frames, pad, "replicate")
    placed = []
    for y, x, mirrored in _VIEWS:
        top, left = (1 + y) * pad[2], (1 + x) * pad[0]
        view = padded[:, :, top : top + sides[0], left : left + sides[1]]
        view = view.unflatten(0, (len(video), -1)).transpose(1, 2)
        features = model.project_video(model.video_features(view.flip(-1) if mirrored else view))
        placed.append(features.flip(-1) if mirrored else features)
    return torch.stack(placed)


def stitched_map(seen: Tensor, heard: Tensor) -> Tensor:
    """Where the sound comes from, twice as fine as the cells: ``[B, 2 Y, 2 X]`` in [-1, 1].

    Args:
        seen: ``[4, B, D, T', Y, X]`` from `views`.
        heard: ``[B, D, T']``.
    """
    _, batch, _, _, rows, columns = seen.shape
    maps = torch.stack([heatmap(placed, heard) for placed in seen], -1)
    fine = F.pixel_shuffle(maps.permute(0, 3, 1, 2), 2)
    kernel = _SMOOTH.to(fine).view(1, 1, 1, -1)
    fine = F.conv2d(F.pad(fine, (2, 2, 0, 0), "replicate"), kernel)
    fine = F.conv2d(F.pad(fine, (0, 0, 2, 2), "replicate"), kernel.transpose(2, 3))
    return fine.view(batch, 2 * rows, 2 * columns)


def map_at(times: np.ndarray, maps: np.ndarray, instant: float) -> np.ndarray:
    """What lies along a file at an instant, linear between the windows' centres: ``[N, ...]`` to ``[...]``."""
    after = int(np.searchsorted(times, instant))
    if after == 0 or after == len(times):
        return maps[min(after, len(times) - 1)]
    share = (instant - times[after - 1]) / (times[after] - times[after - 1])
    return maps[after - 1] * (1 - share) + maps[after] * share


def above_median(heat: np.ndarray) -> np.ndarray:
    """Height above the map's median, the peak's being 1: ``[Y, X]`` to ``[Y, X]`` in [0, 1]; 0 where it is flat."""
    low, high = float(np.median(heat)), float(heat.max())
    return np.clip((heat - low) / max(high - low, 1e-6), 0, 1)


def peak_of(heat: np.ndarray) -> tuple[float, float]:
    """x and y of the highest place of ``[Y, X]``, as fractions of the frame."""
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    return round((float(column) + 0.5) / heat.shape[1], 4), round((float(row) + 0.5) / heat.shape[0], 4)
