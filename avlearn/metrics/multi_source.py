"""Two sources in one picture: does each sound point at its own?"""

import numpy as np

from avlearn.metrics.ciou import success_auc, success_rate


def interactive_iou(overlaps: np.ndarray, pictures: np.ndarray) -> tuple[float, float]:
    """IIoU and IAUC (Senocak et al., TPAMI 2025): a picture counts only where its every source is found.

    Args:
        overlaps: ``[N]`` cIoU of a picture with one of its sounds, by `consensus_iou`.
        pictures: ``[N]``, which picture (names or numbers); each is asked once for each of its sources.

    Returns:
        Share of pictures whose worst source overlaps by at least 0.5, and area under the share as the
        threshold goes 0, 0.05, ... 1; both in [0, 1].
    """
    _, of = np.unique(np.asarray(pictures), return_inverse=True)
    worst = np.full(of.max() + 1, np.inf)
    np.minimum.at(worst, of, overlaps)
    return success_rate(worst), success_auc(worst)
