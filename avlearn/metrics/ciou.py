"""Consensus IoU and what it has to be compared with: a blob at the centre, and the best half of a frame.

The published rule marks half of the frame whatever the size of the thing, so most small things are out
of reach and a blob at the centre comes close to a trained model. Every metric here has both beside it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from avlearn.metrics.metric_result import MetricResult

THRESHOLDS = 0.05 * np.arange(21)  # with the rounding of the published code, which matters for ties


def annotation_map(boxes: np.ndarray, size: tuple[int, int] = (224, 224), agree: int = 1) -> np.ndarray:
    """How far the annotators agree on each pixel (Senocak et al., CVPR 2018).

    Args:
        boxes: ``[K, 4]`` as x0, y0, x1, y1, shares of the frame, of all annotators; what lies outside is
            cut off and corners are rounded down to pixels, so that a thin box may mark nothing.
        size: ``(H, W)``.
        agree: boxes a pixel needs to count fully: 1 for VGG-SS (a union), 2 for Flickr-SoundNet's three
            annotators.

    Returns:
        float64 ``[H, W]`` in [0, 1].
    """
    height, width = size
    corners = (np.clip(np.asarray(boxes, float).reshape(-1, 4), 0, 1) * [width, height, width, height]).astype(int)
    votes = np.zeros(size)
    for x0, y0, x1, y1 in corners:
        votes[y0:y1, x0:x1] += 1
    return np.minimum(votes / agree, 1)


def top_half(maps: np.ndarray, strict: bool = False) -> np.ndarray:
    """The half of the pixels with the highest values.

    Min-max normalization, part of the published recipe, keeps the order of pixels and so is not needed.

    Args:
        maps: ``[N, H, W]``.
        strict: hot is above the median (LVS, CVPR 2021; SSLalignment, ICCV 2023), else at or above it
            (EZ-VSL, ECCV 2022; SLAVC, NeurIPS 2022). A flat map is hot nowhere, else everywhere.

    Returns:
        bool ``[N, H, W]``.
    """
    flat = maps.reshape(len(maps), -1)
    middle = flat.shape[1] // 2
    threshold = np.partition(flat, middle, axis=1)[:, middle, None, None]
    return maps > threshold if strict else maps >= threshold


def top_area(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The highest pixels, one fewer than the truth has: adaptive cIoU (Senocak et al., TPAMI 2025).

    Args:
        maps: ``[N, H, W]``.
        truth: ``[N, H, W]``, what is not 0 counts; half of the frame where nothing is marked.

    Returns:
        bool ``[N, H, W]``.
    """
    flat = np.sort(maps.reshape(len(maps), -1), axis=1)
    pixels = flat.shape[1]
    area = (truth != 0).sum((1, 2))
    area = np.where(area == 0, pixels // 2, area)
    return maps > np.take_along_axis(flat, pixels - area[:, None], 1)[:, :, None]


def consensus_iou(hot: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """cIoU (Senocak et al., CVPR 2018): IoU in which a pixel of the truth weighs what annotators gave it.

    Args:
        hot: bool ``[N, H, W]``.
        truth: ``[N, H, W]`` in [0, 1].

    Returns:
        ``[N]`` in [0, 1]; 0 where neither has a pixel.
    """
    inside = (hot * truth).sum((1, 2))
    union = truth.sum((1, 2)) + (hot & (truth == 0)).sum((1, 2))
    overlaps: np.ndarray = inside / np.maximum(union, np.finfo(float).tiny)
    return overlaps


def best_iou(truth: np.ndarray, pixels: int | np.ndarray) -> np.ndarray:
    """cIoU of the best mask of a given size: the ceiling of a rule that fixes the size.

    Args:
        truth: ``[N, H, W]`` in [0, 1].
        pixels: hot ones, in each item or ``[N]``.

    Returns:
        ``[N]`` in [0, 1]; 0 where nothing is marked.
    """
    weights = np.sort(truth.reshape(len(truth), -1), axis=1)[:, ::-1]
    whole = weights.sum(1)
    within = np.where(np.arange(weights.shape[1]) < np.reshape(pixels, (-1, 1)), weights, 0).sum(1)
    beside = np.maximum(pixels - (weights > 0).sum(1), 0)
    overlaps: np.ndarray = within / np.maximum(whole + beside, np.finfo(float).tiny)
    return overlaps


def success_auc(overlaps: np.ndarray) -> float:
    """Area under the share of ``overlaps [N]`` at or above a threshold that goes 0, 0.05, ... 1."""
    shares = (np.asarray(overlaps)[None] >= THRESHOLDS[:, None]).mean(1)
    return float(np.trapezoid(shares, THRESHOLDS))


def success_rate(overlaps: np.ndarray) -> float:
    """Share of ``overlaps [N]`` of at least 0.5: what papers call cIoU or AP50."""
    return float((np.asarray(overlaps) >= 0.5).mean())


def pointing_game(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether the highest pixel is on the truth (Zhang et al., ECCV 2016). Several highest ones share the credit.

    Args:
        maps: ``[N, H, W]``.
        truth: ``[N, H, W]``, what is not 0 counts.

    Returns:
        ``[N]`` in [0, 1].
    """
    highest = maps >= maps.max((1, 2), keepdims=True)
    shares: np.ndarray = (highest & (truth != 0)).sum((1, 2)) / highest.sum((1, 2))
    return shares


def centre_maps(count: int, size: tuple[int, int], area: float) -> np.ndarray:
    """A blob at each centre, ``[count, H, W]``: above half its height on a share ``area``."""
    height, width = size
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    squared = y[:, None] ** 2 + x[None] ** 2
    blob = np.exp(-np.log(2) * squared * np.pi / area)
    return np.broadcast_to(blob, (count, height, width))


def off_centre(truth: np.ndarray) -> np.ndarray:
    """Which of ``truth [N, H, W]`` leave the middle of the frame unmarked: bool ``[N]``."""
    unmarked: np.ndarray = truth[:, truth.shape[1] // 2, truth.shape[2] // 2] == 0
    return unmarked


def benchmark(items: Iterable[tuple[np.ndarray, np.ndarray]], name: str = "") -> list[MetricResult]:
    """cIoU, its area under the curve, both with the area known, and pointing: of all items, then off the centre.

    Chance is a map of noise, the prior a blob at the centre, the oracle the best that each rule allows.

    Args:
        items: map and truth, ``[H, W]`` each (see `annotation_map`); read once, one at a time.
        name: of the set, for the metrics' names.

    Raises:
        ValueError: no item, a map that is not finite or not of its truth's shape.
    """
    rows = [_item(heat, truth, n) for n, (heat, truth) in enumerate(items)]
    if not rows:
        raise ValueError("no map to compare")
    found = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    off = found.pop("off centre")
    sets = {name: np.ones(len(rows), bool)}
    if off.any():
        sets[f"{name}, off centre".removeprefix(", ")] = off
    metrics = []
    for subset, chosen in sets.items():
        for label, rule, measure in _MEASURES:
            ours, chance, prior, oracle = (
                measure(found[rule, who][chosen]) for who in ("ours", "chance", "prior", "oracle")
            )
            title, n = f"{label}, {subset}".removesuffix(", "), int(chosen.sum())
            metrics.append(MetricResult("localization", title, ours, chance, prior, "centre", oracle, n))
    return metrics


_MEASURES: list[tuple[str, str, Callable[[np.ndarray], float]]] = [
    ("cIoU@0.5", "half", success_rate),
    ("cIoU AUC", "half", success_auc),
    ("adaptive cIoU@0.5", "area", success_rate),
    ("adaptive cIoU AUC", "area", success_auc),
    ("pointing", "pointing", lambda hits: float(np.mean(hits))),
]


def _item(heat: np.ndarray, truth: np.ndarray, number: int) -> dict[Any, Any]:
    """What each rule gives ours, chance, prior and oracle."""
    heat, truth = np.asarray(heat, float)[None], np.asarray(truth, float)[None]
    if heat.shape != truth.shape or not np.isfinite(heat).all():
        raise ValueError(f"map {number}: must be finite and {truth.shape[1:]} like its truth, not {heat.shape[1:]}")
    centre = centre_maps(1, truth.shape[1:], 0.5)
    weight, marked, half = truth.mean(), (truth > 0).mean(), truth.size - truth.size // 2

    def noise(share: float) -> float:
        # Of pixels drawn at random, the same share falls on the truth as beside it.
        return float(share * weight / (weight + share * (1 - marked)))

    rules: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "half": lambda maps: consensus_iou(top_half(maps), truth),
        "area": lambda maps: consensus_iou(top_area(maps, truth), truth),
        "pointing": lambda maps: pointing_game(maps, truth),
    }
    values = {(rule, who): of(m)[0] for rule, of in rules.items() for who, m in (("ours", heat), ("prior", centre))}
    return values | {
        ("half", "chance"): noise(0.5),
        ("half", "oracle"): best_iou(truth, half)[0],
        ("area", "chance"): noise(marked or 0.5),
        ("area", "oracle"): best_iou(truth, int((truth > 0).sum()) - 1)[0],
        ("pointing", "chance"): marked,
        ("pointing", "oracle"): float(marked > 0),
        "off centre": off_centre(truth)[0],
    }
