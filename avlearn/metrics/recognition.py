"""Recognition: accuracy of labels."""

import numpy as np

from avlearn.metrics.figure import Figure


def recognition(
    scores: np.ndarray, labels: np.ndarray, name: str, random_init: float | None
) -> list[Figure]:
    """Top-1, top-5 and mean per class; the prior is a random network's top-1 where it is given.

    Args:
        scores: ``[N, C]``.
        labels: ``[N]`` integers.
        name: of the features.
        random_init: top-1 of the same probe on the same network without training.
    """
    classes = scores.shape[1]
    order = np.argsort(-scores, 1)
    right = order[:, 0] == labels
    top5 = (order[:, :5] == labels[:, None]).any(1)
    counts = np.bincount(labels, minlength=classes)
    majority = float(counts.max() / len(labels))
    present = counts > 0
    per_class = np.bincount(labels, right, classes)[present] / counts[present]
    prior = (
        (random_init, "random init") if random_init is not None else (majority, "majority class")
    )
    n = len(labels)
    return [
        Figure("probe", f"top-1, {name}", float(right.mean()), majority, *prior, 1.0, n),
        Figure("probe", f"top-5, {name}", float(top5.mean()), min(5 / classes, 1.0), None, "", 1.0, n),
        Figure("probe", f"mean per class, {name}", float(per_class.mean()), 1 / classes, None, "", 1.0, n),
    ]  # fmt: skip


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``[C, C]``: true classes in rows, predicted ones in columns."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
