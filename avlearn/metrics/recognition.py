"""Recognition: accuracy of labels."""

import numpy as np

from avlearn.metrics.metric_result import MetricResult
from avlearn.metrics.retrieval import hits


def _counts(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if len(labels) != len(scores) or not len(labels):
        raise ValueError(f"{len(scores)} rows of scores for {len(labels)} labels")
    return np.bincount(labels, minlength=scores.shape[1])


def _named(label: str, name: str) -> str:
    return f"{label}, {name}" if name else label


def top_k(
    scores: np.ndarray,
    labels: np.ndarray,
    k: int = 1,
    name: str = "",
    random_init: float | None = None,
) -> MetricResult:
    """Share of items whose label is among the k best scores; a tie shares the credit.

    Chance is a guess among all classes; to name the k most frequent labels of these items, the best that a blind guess
    can do, is the prior where there is no other.

    Args:
        scores: ``[N, C]``.
        labels: ``[N]`` integers.
        k: how many of the best count.
        name: of the features.
        random_init: the same metric of the same network without training; the prior where given.
    """
    counts = _counts(scores, labels)
    majority = float(np.sort(counts)[::-1][:k].sum() / len(labels))
    prior = (majority, "majority class") if random_init is None else (random_init, "random init")
    value = float(hits(scores, labels, k).mean())
    return MetricResult("probe", _named(f"top-{k}", name), value, min(k / len(counts), 1.0), *prior, 1.0, len(labels))


def mean_per_class(scores: np.ndarray, labels: np.ndarray, name: str = "") -> MetricResult:
    """Top-1 within each class that occurs, averaged over classes: rare and frequent count alike.

    Args:
        scores: ``[N, C]``.
        labels: ``[N]`` integers.
        name: of the features.
    """
    counts = _counts(scores, labels)
    present = counts > 0
    right = np.bincount(labels, hits(scores, labels, 1), len(counts))
    value = float((right[present] / counts[present]).mean())
    return MetricResult(
        "probe", _named("mean per class", name), value, 1 / len(counts), float(1 / present.sum()),
        "majority class", 1.0, len(labels),
    )  # fmt: skip


def recognition(scores: np.ndarray, labels: np.ndarray, name: str, random_init: float | None) -> list[MetricResult]:
    """Top-1, top-5 and mean per class.

    Args:
        scores: ``[N, C]``.
        labels: ``[N]`` integers.
        name: of the features.
        random_init: top-1 of the same probe on the same network without training.
    """
    return [
        top_k(scores, labels, 1, name, random_init),
        top_k(scores, labels, 5, name),
        mean_per_class(scores, labels, name),
    ]
