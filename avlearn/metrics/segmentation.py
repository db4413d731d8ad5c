"""Masks of what sounds, pixel by pixel (AVSBench; Zhou et al., ECCV 2022)."""

import numpy as np


def mask_iou(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of the pixels above 0.5 with the truth; of what is left unmarked, where there is no truth.

    Args:
        maps: ``[N, H, W]`` probabilities.
        truth: bool ``[N, H, W]``.

    Returns:
        ``[N]`` in [0, 1]; the mean is the published mIoU (M_J).
    """
    hot, truth = np.asarray(maps) > 0.5, np.asarray(truth, bool)
    inside, union = (hot & truth).sum((1, 2)), (hot | truth).sum((1, 2))
    pixels = truth.shape[1] * truth.shape[2]
    overlaps: np.ndarray = np.where(truth.any((1, 2)), inside / np.maximum(union, 1), (~hot).sum((1, 2)) / pixels)
    return overlaps


def f_score(maps: np.ndarray, truth: np.ndarray) -> float:
    """F (M_F), with precision weighted by a squared beta of 0.3, at the best of 255 thresholds for all.

    Args:
        maps: ``[N, H, W]`` probabilities.
        truth: bool ``[N, H, W]``; items with an empty one are left out.

    Returns:
        In [0, 1].

    Raises:
        ValueError: every truth is empty.
    """
    maps, truth = np.asarray(maps, float), np.asarray(truth, bool)
    thresholds = np.linspace(0, 1 - 1e-10, 255)
    curves = [_f_curve(p[t], p[~t], thresholds) for p, t in zip(maps, truth, strict=True) if t.any()]
    if not curves:
        raise ValueError("f_score: no item has anything marked")
    return float(np.mean(curves, 0).max())


def _f_curve(on: np.ndarray, off: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """F at each threshold from the probabilities on and off the truth."""
    right, wrong = (len(p) - np.searchsorted(np.sort(p), thresholds) for p in (on, off))
    # The harmonic mean of precision and recall, weights 1 and 0.3, with their denominators cleared.
    return 1.3 * right / (0.3 * len(on) + right + wrong)
