"""Labels that a recognizer gives to clips which have one label or several; beside them what guessing gives."""

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from avlearn.metrics.interval import wilson_interval
from avlearn.metrics.metric_result import MetricResult
from avlearn.metrics.retrieval import hits

_TASK = "recognition"
_RESAMPLES = 200
_SEED = 0  # of the resampled clips


def label_hits(scores: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Whether a label of a clip is among the k best: ``[N]`` in [0, 1]; ties share the credit.

    Args:
        scores: ``[N, C]``.
        truth: bool ``[N, C]``, one label of each clip at least.
        k: how many are looked at.

    >>> label_hits(np.array([[0.5, 0.3, 0.2]]), np.array([[False, True, True]]), 2)
    array([1.])
    """
    _check(scores, truth)
    return hits(scores, np.where(truth, scores, -np.inf).argmax(1), k)


def top_k_labels(scores: np.ndarray, truth: np.ndarray, k: int, name: str = "") -> MetricResult:
    """Share of clips that have a label among the k best; the prior always names the k most frequent.

    Args:
        scores: ``[N, C]``.
        truth: bool ``[N, C]``.
        k: how many of the best count.
        name: of what is scored.
    """
    value = float(label_hits(scores, truth, k).mean())
    chance, prior = float(_by_chance(truth, k).mean()), float(_by_frequency(truth, k).mean())
    return MetricResult(
        _TASK, _named(f"top-{k}", name), value, chance, prior, "most frequent", 1.0, len(truth),
        interval=wilson_interval(value, len(truth)),
    )  # fmt: skip


def mean_class_accuracy(scores: np.ndarray, truth: np.ndarray, name: str = "") -> MetricResult:
    """Top-1 of the clips of each class that occurs, averaged over classes; the interval is of resampled clips.

    Args:
        scores: ``[N, C]``.
        truth: bool ``[N, C]``.
        name: of what is scored.
    """
    right = label_hits(scores, truth, 1)
    low, high = np.quantile(_over_classes(_resampled(len(right)), right, truth), (0.025, 0.975))
    value, chance, prior = (
        float(_over_classes(np.ones((1, len(right))), found, truth)[0])
        for found in (right, _by_chance(truth, 1), _by_frequency(truth, 1))
    )
    return MetricResult(
        _TASK, _named("mean per class", name), value, chance, prior, "most frequent", 1.0, len(truth),
        interval=(float(low), float(high)),
    )  # fmt: skip


def class_accuracy(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Top-1 of the clips of each class: ``[C]``; NaN of classes that do not occur."""
    right, clips = label_hits(scores, truth, 1), truth.sum(0)
    return np.where(clips, right @ truth / np.maximum(clips, 1), np.nan)


def average_precision(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision of a class, without interpolation, as Charades' and AudioSet's scripts have it: ``[R]``.

    Clips of one score are told at once, so that their order says nothing.

    Args:
        scores: ``[N]``.
        truth: bool ``[N]``.
        weights: ``[R, N]``, how often each clip is taken; by default once, and R is 1.

    Returns:
        NaN where there are no clips of the class.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    array([0.83333333])
    """
    order = np.argsort(-scores, kind="stable")
    taken = np.ones((1, len(scores))) if weights is None else weights
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    named = taken[:, order].cumsum(1)[:, ends]
    right = (taken * truth)[:, order].cumsum(1)[:, ends]
    precision = right / np.maximum(named, 1e-12)
    found = np.diff(right, axis=1, prepend=0.0)
    total = right[:, -1]
    return np.where(total > 0, (precision * found).sum(1) / np.maximum(total, 1e-12), np.nan)


def class_average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`average_precision` of each class: ``[C]``."""
    _check(scores, truth)
    return np.concatenate([average_precision(scores[:, k], truth[:, k]) for k in range(scores.shape[1])])


def mean_average_precision(scores: np.ndarray, truth: np.ndarray, name: str = "") -> MetricResult:
    """Mean of the average precision over classes; those without clips are left out, and counted in the name.

    Chance, which is also what comes of naming classes by how frequent they are, is the share of clips that have them.
    The interval is of resampled clips.

    Args:
        scores: ``[N, C]``.
        truth: bool ``[N, C]``.
        name: of what is scored.

    Raises:
        ValueError: no class occurs.
    """
    _check(scores, truth)
    weights, known = _resampled(len(truth)), np.flatnonzero(truth.any(0))
    if not len(known):
        raise ValueError("no clip has a label")
    value = float(np.nanmean([average_precision(scores[:, k], truth[:, k])[0] for k in known]))
    again = [average_precision(scores[:, k], truth[:, k], weights) for k in known]
    low, high = np.quantile(np.nanmean(again, axis=0), (0.025, 0.975))
    missing = truth.shape[1] - len(known)
    name = _named(f"mAP of {len(known)} classes" if missing else "mAP", name)
    return MetricResult(
        _TASK, f"{name} ({missing} without clips left out)" if missing else name, value, float(truth[:, known].mean()),
        oracle=1.0, n=len(truth), interval=(float(low), float(high)),
    )  # fmt: skip


def modality_confusion(scores: dict[str, np.ndarray], truth: np.ndarray) -> list[MetricResult]:
    """Share of clips whose best label is right by one input alone, and wrong by both (VGGSounder; Zverev et al., 2025).

    Args:
        scores: ``[N, C]`` of ``video``, ``audio`` and ``both``.
        truth: bool ``[N, C]``.

    Returns:
        Of audio, of video, and of clips that each of them alone gets right; lower is better.
    """
    right = {kind: label_hits(values, truth, 1) == 1 for kind, values in scores.items()}
    lost = {
        "audio right alone, both wrong": right["audio"] & ~right["both"],
        "video right alone, both wrong": right["video"] & ~right["both"],
        "each right alone, both wrong": right["audio"] & right["video"] & ~right["both"],
    }
    return [
        MetricResult(
            _TASK, f"modality confusion: {name}", float(found.mean()), oracle=0.0, n=len(truth),
            higher_is_better=False, interval=wilson_interval(float(found.mean()), len(truth)),
        )
        for name, found in lost.items()
    ]  # fmt: skip


def confusion(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts of labels (rows) and of what was answered (columns): ``[C, C]``.

    A clip whose answer is one of its labels counts there; one with another counts for each of its labels.
    """
    _check(scores, truth)
    answered = scores.argmax(1)
    right = truth[np.arange(len(truth)), answered]
    matrix = np.zeros((truth.shape[1], truth.shape[1]), int)
    np.add.at(matrix, (answered[right], answered[right]), 1)
    clips, labels = np.nonzero(truth & ~right[:, None])
    np.add.at(matrix, (labels, answered[clips]), 1)
    return matrix


def confusion_order(matrix: np.ndarray) -> np.ndarray:
    """An order of classes in which those that are taken for each other are neighbours: ``[C]``.

    By average linkage, with the order of its leaves that brings like ones together (Bar-Joseph et al., 2001).

    Args:
        matrix: ``[C, C]`` counts, of two classes at least.

    >>> confusion_order(np.array([[5, 0, 4], [0, 9, 0], [4, 0, 5]])).tolist()
    [1, 2, 0]
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    distance = 2 - (shares + shares.T)
    np.fill_diagonal(distance, 0)
    return np.asarray(leaves_list(linkage(squareform(distance), "average", optimal_ordering=True)))


def _check(scores: np.ndarray, truth: np.ndarray) -> None:
    if scores.shape != truth.shape or not truth.size:
        raise ValueError(f"scores {scores.shape} for labels {truth.shape}: both must be [clips, classes]")


def _named(label: str, name: str) -> str:
    return f"{label}, {name}" if name else label


def _by_chance(truth: np.ndarray, k: int) -> np.ndarray:
    """Probability that a label of each clip is among k classes that are drawn: ``[N]``."""
    classes, labels = truth.shape[1], truth.sum(1)
    missed = np.ones(len(truth))
    for drawn in range(min(k, classes)):
        missed *= np.maximum(classes - labels - drawn, 0) / (classes - drawn)
    return 1 - missed


def _by_frequency(truth: np.ndarray, k: int) -> np.ndarray:
    """Whether a label of each clip is one of the k most frequent: ``[N]``."""
    return np.asarray(truth[:, np.argsort(-truth.sum(0), kind="stable")[:k]].any(1), float)


def _resampled(clips: int) -> np.ndarray:
    """How often each clip is taken, of clips drawn with replacement (Efron, Ann. Statist. 1979): ``[R, N]``."""
    return np.random.default_rng(_SEED).multinomial(clips, np.full(clips, 1 / clips), _RESAMPLES).astype(float)


def _over_classes(weights: np.ndarray, right: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Means over classes of shares of their clips ``[N]`` that are right, for weights ``[R, N]``: ``[R]``."""
    clips = weights @ truth
    shares = (weights * right) @ truth / np.maximum(clips, 1e-12)
    return np.asarray((shares * (clips > 0)).sum(1) / (clips > 0).sum(1))
