"""Localization: does the map point at what sounds?"""

import numpy as np
from scipy.ndimage import map_coordinates

from avlearn.metrics.figure import Figure


def enlarge(maps: np.ndarray, size: int) -> np.ndarray:
    """Bilinear enlargement with cell centres kept: ``[N, h, w]`` to ``[N, size, size]``."""
    n, h, w = maps.shape
    rows = (np.arange(size) + 0.5) / size * h - 0.5
    columns = (np.arange(size) + 0.5) / size * w - 0.5
    grid = np.meshgrid(np.arange(n), rows, columns, indexing="ij")
    return map_coordinates(maps, grid, order=1, mode="nearest")


def box_mask(boxes: np.ndarray, size: int) -> np.ndarray:
    """Pixels inside boxes ``[N, 4]`` (x0, y0, x1, y1 in pixels): bool ``[N, size, size]``."""
    at = np.arange(size) + 0.5
    x = (at > boxes[:, :1]) & (at < boxes[:, 2:3])
    y = (at > boxes[:, 1:2]) & (at < boxes[:, 3:4])
    return y[:, :, None] & x[:, None]


def _overlap(maps: np.ndarray, masks: np.ndarray, threshold: float) -> np.ndarray:
    low = maps.min((1, 2), keepdims=True)
    high = maps.max((1, 2), keepdims=True)
    hot = (maps - low) / np.maximum(high - low, 1e-9) >= threshold
    return (hot & masks).sum((1, 2)) / np.maximum((hot | masks).sum((1, 2)), 1)


def _points(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    best = maps.reshape(len(maps), -1).argmax(1)
    return masks.reshape(len(masks), -1)[np.arange(len(maps)), best]


def _over(maps: np.ndarray, sounding: np.ndarray, silent: np.ndarray) -> np.ndarray:
    inside = np.where(sounding, maps, -np.inf).max((1, 2))
    beside = np.where(silent, maps, -np.inf).max((1, 2))
    return (inside > beside) + 0.5 * (inside == beside)


def localization(
    maps: np.ndarray,
    motion: np.ndarray,
    boxes: np.ndarray,
    silent: np.ndarray,
    size: int,
    threshold: float = 0.5,
    name: str = "",
) -> list[Figure]:
    """Pointing, overlap, and sounding over silent.

    Args:
        maps, motion: ``[N, h, w]`` the model's maps and the energy of motion (the prior).
        boxes, silent: ``[N, 4]`` of the sounding and of the silent thing, pixels.
        size: side of the frame, pixels.
        threshold: share of the map's range above which a pixel counts as hot.
        name: of the set of clips, for the figures' names.
    """
    n = len(maps)
    masks, others = box_mask(boxes, size), box_mask(silent, size)
    big, loud = enlarge(maps, size), enlarge(motion, size)
    at = np.abs(np.arange(size) + 0.5 - size / 2)
    centre = np.broadcast_to(-np.hypot(at[:, None], at[None]), big.shape)
    area = float(masks.mean())
    overlap = _overlap(big, masks, threshold)
    centre_overlap = max(_overlap(centre, masks, t).mean() for t in (0.5, 0.6, 0.7, 0.8))
    success = np.mean([(overlap >= t).mean() for t in np.arange(0, 1.0001, 0.05)])
    hit = (overlap >= 0.5).mean()
    loud_hit = (_overlap(loud, masks, threshold) >= 0.5).mean()
    over = _over(big, masks, others)
    return [
        Figure("localization", f"pointing, {name}", float(_points(big, masks).mean()), area,
               float(_points(loud, masks).mean()), "loudest motion", 1.0, n),
        Figure("localization", f"cIoU@0.5, {name}", float(hit), 0.0, float(loud_hit),
               "loudest motion", 1.0, n),
        Figure("localization", f"mean IoU, {name}", float(overlap.mean()), None,
               float(centre_overlap), "centre", 1.0, n),
        Figure("localization", f"IoU AUC, {name}", float(success), None, None, "", 1.0, n),
        Figure("localization", f"sounding over silent, {name}", float(over.mean()), 0.5,
               float(_over(loud, masks, others).mean()), "loudest motion", 1.0, n),
    ]  # fmt: skip


def control(
    maps: np.ndarray, boxes: np.ndarray, silent: np.ndarray, size: int, name: str
) -> Figure:
    """Sounding over silent with the sound shifted: near one half unless something but timing is used."""
    masks, others = box_mask(boxes, size), box_mask(silent, size)
    value = _over(enlarge(maps, size), masks, others).mean()
    return Figure("localization", f"the same, sound shifted (control), {name}", float(value), 0.5, None, "", 0.5, len(maps))  # fmt: skip
