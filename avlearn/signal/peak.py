"""The maximum of a sampled curve, between its samples."""

import numpy as np


def vertex(curve: np.ndarray, index: int) -> float:
    """Place of a peak, by a parabola through it and its neighbours.

    Args:
        curve: ``[N]``.
        index: of the peak.

    Returns:
        Samples from ``index``, in [-0.5, 0.5]; 0 where there are not three samples that bend down around it.
    """
    if not 0 < index < len(curve) - 1:
        return 0.0
    left, middle, right = curve[index - 1 : index + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if middle >= max(left, right) and bend < 0 else 0.0
