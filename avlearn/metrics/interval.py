"""95 % intervals of metrics."""

import numpy as np
from scipy.stats import binom, norm, t

_Z = float(norm.ppf(0.975))


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Interval of a share in [0, 1] of ``n`` independent items (Wilson, JASA 1927).

    Ties give items a part of a success: scipy's `binomtest`, which takes whole ones, gives the same for those.
    """
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """Interval of the median of ``[N]`` values, between two of them, whatever their distribution."""
    ranked = np.sort(values)
    below = max(int(binom.ppf(0.025, len(ranked), 0.5)) - 1, 0)
    return float(ranked[below]), float(ranked[len(ranked) - 1 - below])


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Interval of the mean of ``[N]`` independent values, by Student's t."""
    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean - half, mean + half
