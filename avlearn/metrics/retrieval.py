"""Retrieval: which of the clips' audio belongs to this video, and the other way round."""

import numpy as np

from avlearn.metrics.interval import wilson_interval
from avlearn.metrics.metric_result import MetricResult


def hits(scores: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Is the truth among the k best? Ties are broken at random, in expectation.

    A constant scorer then gets k / C, not 1 or 0 by the order of the candidates.

    Args:
        scores: ``[N, C]``; NaN counts against the item.
        truth: ``[N]`` integers, the right candidate.
        k: how many are looked at.

    Returns:
        ``[N]`` in [0, 1].
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores must be [items, candidates] and not empty, not {scores.shape}")
    own = scores[np.arange(len(scores)), truth][:, None]
    others = np.where(np.isnan(scores), np.inf, scores)
    own = np.where(np.isnan(own), -np.inf, own)
    better = (others > own).sum(1) - np.isnan(scores[np.arange(len(scores)), truth])
    equal = np.maximum((others == own).sum(1), 1)  # the truth is one of them
    shares: np.ndarray = np.clip((k - better) / equal, 0, 1)
    return shares


def recall_at(similarity: np.ndarray, k: int) -> list[MetricResult]:
    """Recall at k both ways.

    Args:
        similarity: ``[N, N]``, videos in rows, audio in columns, the true pairs on the diagonal.
        k: how many of the best count.
    """
    n = len(similarity)
    if similarity.shape != (n, n):
        raise ValueError(f"similarity must be square, not {similarity.shape}")
    chance = min(k / n, 1.0)
    metrics = []
    for name, matrix in (("video to audio", similarity), ("audio to video", similarity.T)):
        value = float(hits(matrix, np.arange(n), k).mean())
        name = f"R@{k} of {n}, {name}"
        metrics.append(
            MetricResult("retrieval", name, value, chance, chance, "any", 1.0, n, interval=wilson_interval(value, n))
        )
    return metrics
