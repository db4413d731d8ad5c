"""Localization where the audio is of nothing in the video: how much is marked.

Silence, noise and audio from off the screen (Juanola et al., ICASSP 2025). One threshold serves all
items, so a map may mark nothing, as it should here.
"""

from collections.abc import Mapping

import numpy as np

from avlearn.metrics.ciou import THRESHOLDS, consensus_iou, success_auc
from avlearn.metrics.metric_result import MetricResult


def universal_threshold(negatives: Mapping[str, np.ndarray]) -> float:
    """Third quartile of the maps' maxima, of the kind of negative audio in which that is highest.

    Args:
        negatives: by kind, maps ``[N, H, W]`` in the model's own units, not normalized one by one.
    """
    return max(float(np.quantile(maps.max((1, 2)), 0.75)) for maps in negatives.values())


def highlighted_area(maps: np.ndarray, threshold: float) -> np.ndarray:
    """pIA: share of each of ``maps [N, H, W]`` above the threshold, ``[N]`` in [0, 1]."""
    shares: np.ndarray = (maps > threshold).mean((1, 2))
    return shares


def area_auc(areas: np.ndarray) -> float:
    """Area under the share of ``areas [N]`` at or below a threshold 0, 0.05, ... 1; 1 where all are 0."""
    return float(np.trapezoid((np.asarray(areas)[None] <= THRESHOLDS[:, None]).mean(1), THRESHOLDS))


def harmonic_mean(a: float, b: float) -> float:
    """Of two shares, 0 where one of them is 0."""
    return 2 * a * b / (a + b) if a + b else 0.0


def negative_audio(
    maps: np.ndarray, truth: np.ndarray, negatives: Mapping[str, np.ndarray], threshold: float, name: str = ""
) -> list[MetricResult]:
    """Overlap with the video's own audio, area marked with others, and harmonic means of both.

    The prior of an area is that marked with the true audio: a model that does not listen cannot do less.

    Args:
        maps: ``[N, H, W]``, with the video's own audio, in the model's own units.
        truth: ``[N, H, W]`` in [0, 1].
        negatives: by kind ("silence", "noise", "off screen"), maps of the same videos.
        threshold: of all maps (see `universal_threshold`), better chosen on other items.
        name: of the set, for the metrics' names.
    """
    overlaps = consensus_iou(maps > threshold, truth)
    areas = {kind: highlighted_area(its, threshold) for kind, its in negatives.items()}
    own = float(highlighted_area(maps, threshold).mean())
    unmarked = 1 - float(np.mean([a.mean() for a in areas.values()]))
    auc = float(np.mean([area_auc(a) for a in areas.values()]))
    mean = float(overlaps.mean())

    def label(text: str) -> str:
        return f"{text}, {name}".removesuffix(", ")

    kinds = [
        MetricResult(
            "localization", label(f"pIA, {kind}"), float(a.mean()), None, own, "the true audio", 0.0, len(a),
            higher_is_better=False,
        )
        for kind, a in areas.items()
    ]  # fmt: skip
    return [
        MetricResult("localization", label("mean cIoU, one threshold"), mean, oracle=1.0, n=len(maps)),
        *kinds,
        MetricResult("localization", label("F, cIoU"), harmonic_mean(mean, unmarked), oracle=1.0, n=len(maps)),
        MetricResult(
            "localization", label("F, AUC"), harmonic_mean(success_auc(overlaps), auc), oracle=1.0, n=len(maps)
        ),
    ]
