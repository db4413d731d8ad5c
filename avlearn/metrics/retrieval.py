"""Retrieval: which of the clips' audio belongs to this video, and the other way round."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from avlearn.metrics.interval import wilson_interval
from avlearn.metrics.metric_result import MetricResult


def hits(scores: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Whether the truth is among the k best. Ties are broken at random, in expectation.

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
    own = scores[np.arange(len(scores)), truth]
    return _shares(*_compared(scores, own[:, None], 1), own, k)


def _compared(scores: np.ndarray, own: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """How many scores along an axis are above one's own, and how many equal it; NaN counts against oneself."""
    others = np.where(np.isnan(scores), np.inf, scores)
    own = np.where(np.isnan(own), -np.inf, own)
    return (others > own).sum(axis), (others == own).sum(axis)


def _shares(better: np.ndarray, equal: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """The chance of the truth, whose scores are ``own``, to be among the k best, of what `_compared` found."""
    # The truth is among its equals; where it is NaN, it is among those above itself.
    shares: np.ndarray = np.clip((k - better + np.isnan(own)) / np.maximum(equal, 1), 0, 1)
    return shares


def recall_at(blocks: Callable[[], Iterable[np.ndarray]], ks: Sequence[int]) -> list[MetricResult]:
    """Recall at each k, both ways, from blocks of rows: memory grows with N, not with its square.

    Args:
        blocks: gives the rows of the similarity ``[N, N]`` in order, some at a time, ``[n, N]``, and the same ones at
            a second call; videos in rows, audio in columns, the true pairs on the diagonal.
        ks: how many of the best count.

    Raises:
        ValueError: the matrix is not square, or empty.
    """
    own = _diagonal(blocks())
    n, first = len(own), 0
    better, equal = np.zeros((2, n), int), np.zeros((2, n), int)
    for block in blocks():
        rows = slice(first, first + len(block))
        block = np.asarray(block, float)
        better[0, rows], equal[0, rows] = _compared(block, own[rows, None], 1)
        found = _compared(block, own[None], 0)
        better[1] += found[0]
        equal[1] += found[1]
        first = rows.stop
    metrics = []
    for k in ks:
        chance = min(k / n, 1.0)
        for way, name in enumerate(("video to audio", "audio to video")):
            value = float(_shares(better[way], equal[way], own, k).mean())
            name = f"R@{k} of {n}, {name}"
            interval = wilson_interval(value, n)
            metrics.append(MetricResult("retrieval", name, value, chance, chance, "any", 1.0, n, interval=interval))
    return metrics


def _diagonal(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Of a matrix in blocks of rows: ``[N]``."""
    found: list[np.ndarray] = []
    first, width = 0, 0
    for block in blocks:
        width = block.shape[1]
        if first + len(block) > width:
            break
        found.append(np.array(block[np.arange(len(block)), first + np.arange(len(block))], float))
        first += len(block)
    if not width or first != width:
        raise ValueError(f"similarity must be square and not empty, not {width} wide with {first} or more rows")
    return np.concatenate(found)
