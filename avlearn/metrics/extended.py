"""Localization in sets in which some audio comes from nothing in the frame, which should be marked nowhere.

After the extended Flickr-SoundNet and VGG-SS of Mo & Morgado (SLAVC, NeurIPS 2022).
"""

import numpy as np


def confidence(maps: np.ndarray) -> np.ndarray:
    """Mean of the highest quarter of each of ``maps [N, H, W]``, in the model's own units: ``[N]``."""
    flat = maps.reshape(len(maps), -1)
    quarter = -(-flat.shape[1] // 4)
    means: np.ndarray = np.partition(flat, -quarter, axis=1)[:, -quarter:].mean(1)
    return means


def precision_recall(
    overlaps: np.ndarray, confidences: np.ndarray, visible: np.ndarray, thresholds: np.ndarray, at: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Of items found (confidence at or above a threshold), how many are right; of those to find, how many are found.

    As published, a visible source that is found in the wrong place lowers the precision but not the recall.

    Args:
        overlaps: ``[N]`` cIoU, ignored where nothing is visible.
        confidences: ``[N]``.
        visible: bool ``[N]``, whether the audio has a source in the frame
        thresholds: ``[T]``.
        at: cIoU from which the place is right.

    Returns:
        Precision and recall ``[T]`` in [0, 1]; 1 where there is nothing to divide by.
    """
    found = np.asarray(confidences)[None] >= np.asarray(thresholds)[:, None]
    visible = np.asarray(visible, bool)
    right = (found & visible & (np.asarray(overlaps) >= at)).sum(1)
    missed = (~found & visible).sum(1)

    def share(rest: np.ndarray) -> np.ndarray:
        whole = right + rest
        return np.where(whole == 0, 1.0, right / np.maximum(whole, 1))

    return share(found.sum(1) - right), share(missed)


def average_precision(overlaps: np.ndarray, confidences: np.ndarray, visible: np.ndarray, at: float = 0.5) -> float:
    """AP: highest precision from a recall on, over recall, at 200 or so of the items' confidences.

    As published, recall is counted from the second most confident item on, so that of few items even
    a perfect order stays below 1.

    Args:
        overlaps, confidences, visible, at: as in `precision_recall`.

    Returns:
        In [0, 1]; 0 for fewer than three items.
    """
    step = max(1, len(confidences) // 200)
    thresholds = np.sort(confidences)[:-1][::-step]
    precision, recall = precision_recall(overlaps, confidences, visible, thresholds, at)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope[:-1] * np.diff(recall)).sum())


def max_f1(overlaps: np.ndarray, confidences: np.ndarray, visible: np.ndarray, at: float = 0.5) -> float:
    """Highest harmonic mean of precision and recall, at ten or so of the items' confidences, in [0, 1].

    Args:
        overlaps, confidences, visible, at: as in `precision_recall`.
    """
    thresholds = np.sort(confidences)[:: max(1, len(confidences) // 10)]
    precision, recall = precision_recall(overlaps, confidences, visible, thresholds, at)
    both = precision + recall
    return float((2 * precision * recall / np.where(both > 0, both, 1)).max())
