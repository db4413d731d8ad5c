"""Optical flow: how far vectors are from the true ones, beside no motion and one motion for all."""

from collections.abc import Callable

import numpy as np

from avlearn.metrics.metric_result import MetricResult

_OUTLIER_PIXELS, _OUTLIER_SHARE = 3.0, 0.05  # of KITTI: both have to be passed (Menze & Geiger, CVPR 2015)


def endpoint_errors(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance in pixels of each vector's end from the true one's: ``[..., 2, H, W]`` twice to ``[..., H, W]``."""
    across, down = np.moveaxis(np.asarray(flow, np.float64) - np.asarray(truth, np.float64), -3, 0)
    distances: np.ndarray = np.hypot(across, down)
    return distances


def flow_outliers(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether each vector is off by more than 3 pixels and 5 % of the true one's length: bool ``[..., H, W]``."""
    errors, lengths = endpoint_errors(flow, truth), endpoint_errors(truth, np.zeros_like(truth))
    outliers: np.ndarray = (errors > _OUTLIER_PIXELS) & (errors > _OUTLIER_SHARE * lengths)
    return outliers


def angular_errors(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Degrees between (u, v, 1) and the true one (Barron et al., IJCV 1994): ``[..., 2, H, W]`` to ``[..., H, W]``."""
    u, v = np.moveaxis(np.asarray(flow, np.float64), -3, 0)
    x, y = np.moveaxis(np.asarray(truth, np.float64), -3, 0)
    # By the sine and the cosine: an arc cosine cannot tell small angles.
    sine = np.sqrt((v - y) ** 2 + (x - u) ** 2 + (u * y - v * x) ** 2)
    degrees: np.ndarray = np.degrees(np.arctan2(sine, u * x + v * y + 1))
    return degrees


def flow_metrics(flow: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> list[MetricResult]:
    """Mean end-point error, share of outliers (Fl of KITTI), mean angular error, over all pixels that count.

    Each stands beside no motion (``chance``) and the mean of the true motion of each pair, the best that one vector
    for all pixels does in squared distance (``prior``).

    Args:
        flow, truth: ``[N, 2, H, W]`` pixels along x and y; a vector that is not finite is as wrong as can be: it
            makes the end-point error infinite, is an outlier, and 180 degrees off.
        valid: bool ``[N, H, W]``, where the truth is known; else all that is finite.

    Raises:
        ValueError: the shapes differ, or no pixel counts.
    """
    flow, truth = np.asarray(flow), np.asarray(truth)
    if flow.shape != truth.shape or flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow: {flow.shape} for a truth of {truth.shape}")
    counts = np.isfinite(truth).all(1) if valid is None else np.asarray(valid, bool)
    if not counts.any():
        raise ValueError("flow: the truth is known nowhere")
    means = np.stack([each[:, known].mean(1) if known.any() else each[:, 0, 0] * 0
                      for each, known in zip(truth, counts, strict=True)])  # fmt: skip
    given = np.broadcast_to(means[:, :, None, None], truth.shape)
    known, still, uniform = (np.moveaxis(x, 1, -1)[counts].T[:, None] for x in (truth, np.zeros_like(truth), given))
    vectors = np.moveaxis(flow, 1, -1)[counts].T[:, None]
    lost = ~np.isfinite(vectors).all(0)

    def result(name: str, unit: str, measure: Callable[[np.ndarray, np.ndarray], np.ndarray], worst: float
               ) -> MetricResult:  # fmt: skip
        values = np.where(lost, worst, measure(np.where(lost, 0, vectors), known))
        zero, mean = (float(measure(each, known).mean()) for each in (still, uniform))
        return MetricResult(
            "flow", name, float(values.mean()), zero, mean, "mean flow", 0.0, len(truth), unit, higher_is_better=False
        )

    return [
        result("end-point error", "px", endpoint_errors, np.inf),
        result("outliers (3 px and 5 %)", "", flow_outliers, 1.0),
        result("angular error", "deg", angular_errors, 180.0),
    ]
