"""Synchronization: is this pair aligned, and by how much is it off?"""

import numpy as np

from avlearn.metrics.figure import Figure


def two_afc(aligned: np.ndarray, shifted: np.ndarray) -> Figure:
    """Share of items whose aligned pair scores above their shifted one; ties count half. Both ``[N]``."""
    wins = (aligned > shifted).mean() + 0.5 * (aligned == shifted).mean()
    return Figure("sync", "aligned over shifted (2AFC)", float(wins), 0.5, 0.5, "one input only", 1.0, len(aligned))  # fmt: skip


def best_threshold(aligned: np.ndarray, shifted: np.ndarray) -> float:
    """The threshold with the highest accuracy on calibration scores, ``[N]`` each."""
    scores = np.sort(np.concatenate([aligned, shifted]))
    middles = (scores[1:] + scores[:-1]) / 2
    accuracy = [(aligned > t).mean() + (shifted <= t).mean() for t in middles]
    return float(middles[int(np.argmax(accuracy))])


def binary_accuracy(aligned: np.ndarray, shifted: np.ndarray, threshold: float) -> Figure:
    """Accuracy of calling single pairs aligned by a threshold that was chosen on other clips."""
    value = ((aligned > threshold).mean() + (shifted <= threshold).mean()) / 2
    return Figure("sync", "aligned or shifted (binary)", float(value), 0.5, 0.5, "majority", 1.0, 2 * len(aligned))  # fmt: skip


def auc(aligned: np.ndarray, shifted: np.ndarray) -> Figure:
    """Area under the ROC curve over all pairs of all items."""
    both = np.concatenate([aligned, shifted])
    ranks = np.empty(len(both))
    ranks[np.argsort(both, kind="stable")] = np.arange(1, len(both) + 1)
    n, m = len(aligned), len(shifted)
    value = (ranks[:n].sum() - n * (n + 1) / 2) / (n * m)
    return Figure("sync", "aligned or shifted (AUC)", float(value), 0.5, 0.5, "one input only", 1.0, n + m)  # fmt: skip


def offset_within(
    predicted: np.ndarray, true: np.ndarray, tolerance: float, grid: np.ndarray
) -> Figure:
    """Share of offsets within ``tolerance`` seconds; chance draws from ``grid``, the prior says zero."""
    hits = np.abs(predicted - true) <= tolerance + 1e-6
    chance = (np.abs(grid[None] - true[:, None]) <= tolerance + 1e-6).mean()
    prior = (np.abs(true) <= tolerance + 1e-6).mean()
    name = f"offset within {tolerance * 1000:.0f} ms of {len(grid)}"
    return Figure("sync", name, float(hits.mean()), float(chance), float(prior), "always zero", 1.0, len(true))  # fmt: skip


def median_error(predicted: np.ndarray, true: np.ndarray, grid: np.ndarray) -> Figure:
    """Median absolute error of the offset in ms."""
    value = np.median(np.abs(predicted - true)) * 1000
    chance = np.median(np.abs(grid[None] - true[:, None])) * 1000
    prior = np.median(np.abs(true)) * 1000
    return Figure("sync", "median offset error", float(value), float(chance), float(prior), "always zero", 0.0, len(true), "ms")  # fmt: skip
