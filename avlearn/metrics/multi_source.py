"""Localization of two sources in one video: whether the audio of each points at its own."""

import numpy as np

from avlearn.metrics.ciou import success_auc, success_rate


def interactive_iou(overlaps: np.ndarray, videos: np.ndarray) -> tuple[float, float]:
    """IIoU and IAUC (Senocak et al., TPAMI 2025): a video counts only where its every source is found.

    Args:
        overlaps: ``[N]`` cIoU of a video with one of its sounds, by `consensus_iou`.
        videos: ``[N]``, which video (names or numbers); each is asked once for each of its sources.

    Returns:
        Share of videos whose worst source overlaps by at least 0.5, and area under the share as the
        threshold goes 0, 0.05, ... 1; both in [0, 1].
    """
    _, of = np.unique(np.asarray(videos), return_inverse=True)
    worst = np.full(of.max() + 1, np.inf)
    np.minimum.at(worst, of, overlaps)
    return success_rate(worst), success_auc(worst)
