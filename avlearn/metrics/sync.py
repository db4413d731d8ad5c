"""Synchronization: aligned pairs against shifted ones, and errors of offsets.

Scores that are not a number lose every comparison, so that a broken model cannot look good.
"""

import numpy as np
from scipy.stats import mannwhitneyu

from avlearn.metrics.interval import median_interval, wilson_interval
from avlearn.metrics.metric_result import MetricResult

_EPSILON = 1e-6  # seconds: offsets on a grid are sums of steps that binary fractions cannot hold


def _scores(aligned: np.ndarray, shifted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    aligned, shifted = np.asarray(aligned, float), np.asarray(shifted, float)
    if not aligned.size or not shifted.size:
        raise ValueError("synchronization: there are no scores to measure")
    aligned = np.where(np.isnan(aligned), -np.inf, aligned)
    return aligned, np.where(np.isnan(shifted), np.inf, shifted)


def two_afc(aligned: np.ndarray, shifted: np.ndarray) -> MetricResult:
    """Share of items whose aligned pair scores above their shifted one; ties count half.

    Args:
        aligned, shifted: ``[N]`` scores of the same N items.
    """
    aligned, shifted = _scores(aligned, shifted)
    wins = (aligned > shifted).mean() + 0.5 * (aligned == shifted).mean()
    return MetricResult(
        "sync", "aligned over shifted (2AFC)", float(wins), 0.5, 0.5, "one input only", 1.0,
        len(aligned), interval=wilson_interval(float(wins), len(aligned)),
    )  # fmt: skip


def auc(aligned: np.ndarray, shifted: np.ndarray) -> MetricResult:
    """Area under the ROC curve over all pairs of all items; ties count half.

    Args:
        aligned, shifted: scores ``[N]`` and ``[M]``.
    """
    aligned, shifted = _scores(aligned, shifted)
    n, m = len(aligned), len(shifted)
    # By ranks, not sklearn's roc_auc_score: that refuses the infinities that stand for NaN.
    value = mannwhitneyu(aligned, shifted, method="asymptotic").statistic / (n * m)
    return MetricResult("sync", "aligned or shifted (AUC)", float(value), 0.5, 0.5, "one input only", 1.0, n + m)


def best_threshold(aligned: np.ndarray, shifted: np.ndarray) -> float:
    """The threshold with the highest balanced accuracy on calibration scores ``[N]`` and ``[M]``.

    These must come from other clips than those that `binary_accuracy` then measures.
    """
    aligned, shifted = _scores(aligned, shifted)
    values = np.unique(np.concatenate([aligned, shifted]))
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float(values[0]) if len(values) else 0.0
    middles = (values[1:] + values[:-1]) / 2
    # Scores sorted once: the count above a threshold is a search.
    above = 1 - np.searchsorted(np.sort(aligned), middles, "right") / len(aligned)
    below = np.searchsorted(np.sort(shifted), middles, "right") / len(shifted)
    return float(middles[int(np.argmax(above + below))])


def binary_accuracy(aligned: np.ndarray, shifted: np.ndarray, threshold: float) -> MetricResult:
    """Balanced accuracy of calling single pairs aligned when they score above ``threshold``.

    Args:
        aligned, shifted: scores ``[N]`` and ``[M]``.
        threshold: from `best_threshold` on other clips.
    """
    aligned, shifted = _scores(aligned, shifted)
    value = ((aligned > threshold).mean() + (shifted <= threshold).mean()) / 2
    return MetricResult(
        "sync", "aligned or shifted (binary)", float(value), 0.5, 0.5, "majority", 1.0,
        len(aligned) + len(shifted),
    )  # fmt: skip


def _offsets(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(predicted, float), np.asarray(true, float)
    if not true.size or predicted.shape != true.shape:
        raise ValueError(f"offsets: {predicted.shape} predicted for {true.shape} true ones")
    return np.where(np.isnan(predicted), np.inf, predicted), true


def offset_within(predicted: np.ndarray, true: np.ndarray, tolerance: float, grid: np.ndarray) -> MetricResult:
    """Share of offsets within ``tolerance``; chance draws from the grid, the prior says "in sync".

    Args:
        predicted, true: ``[N]`` seconds; NaN predicted means "cannot be synchronized": a miss.
        tolerance: seconds, the bound included.
        grid: ``[O]`` seconds, the offsets that a prediction can be.
    """
    predicted, true = _offsets(predicted, true)
    reach = tolerance + _EPSILON
    hits = np.abs(predicted - true) <= reach
    chance = (np.abs(np.asarray(grid)[None] - true[:, None]) <= reach).mean()
    prior = (np.abs(true) <= reach).mean()
    name = f"offset within {tolerance * 1000:.0f} ms of {len(grid)}" if tolerance else f"offset exact of {len(grid)}"
    return MetricResult(
        "sync", name, float(hits.mean()), float(chance), float(prior), "always in sync", 1.0,
        len(true), interval=wilson_interval(float(hits.mean()), len(true)),
    )  # fmt: skip


def offset_grid(n_offsets: int = 21, step: float = 0.08) -> np.ndarray:
    """``[n_offsets]`` seconds around zero, ``step`` apart."""
    return (np.arange(n_offsets) - (n_offsets - 1) / 2) * step


def median_offset_error_ms(
    predicted: np.ndarray, true: np.ndarray, grid: np.ndarray, name: str = "", oracle: np.ndarray | None = None
) -> MetricResult:
    """Median absolute error in ms; chance draws from the grid, the prior says "in sync".

    Args:
        predicted, true: ``[N]`` seconds; NaN predicted is infinitely off.
        grid: ``[O]`` seconds, the offsets that a guess can be.
        name: what to add to the metric's.
        oracle: ``[N]`` seconds, the best predictions that are possible; the true ones where any is.
    """
    predicted, true = _offsets(predicted, true)
    errors = np.abs(predicted - true) * 1000
    chance = np.median(np.abs(np.asarray(grid)[None] - true[:, None])) * 1000
    prior = np.median(np.abs(true)) * 1000
    best = np.median(np.abs((true if oracle is None else oracle) - true)) * 1000
    return MetricResult(
        "sync", f"median offset error{name}", float(np.median(errors)), float(chance), float(prior), "always in sync",
        float(best), len(true), "ms", higher_is_better=False, interval=median_interval(errors),
    )  # fmt: skip


SYNCHFORMER = offset_grid(21, 0.2)  # seconds: the classes of Synchformer (Iashin et al., ICASSP 2024)


def synchformer_accuracy(predicted: np.ndarray, true: np.ndarray) -> list[MetricResult]:
    """Offset accuracy on the grid of Synchformer: 21 classes 0.2 s apart; exact, and within a class to either side.

    Args:
        predicted: ``[N]`` seconds, taken to the nearest class; NaN is a miss.
        true: ``[N]`` seconds, each one of the classes.
    """
    predicted, true = _offsets(predicted, true)
    nearest = SYNCHFORMER[np.abs(SYNCHFORMER[None] - np.nan_to_num(predicted)[:, None]).argmin(1)]
    nearest = np.where(np.isinf(predicted), np.nan, nearest)
    return [offset_within(nearest, true, tolerance, SYNCHFORMER) for tolerance in (0.0, 0.2)]
