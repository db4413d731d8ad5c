"""Localization: whether maps point at what sounds.

A centre prior and plain motion go far on real benchmarks, so each metric stands beside the stronger
of the two, and beside the best that a map of the same few cells can do.
"""

from collections.abc import Callable

import numpy as np

from avlearn.metrics.ciou import centre_maps, consensus_iou, pointing_game, success_auc
from avlearn.metrics.metric_result import MetricResult

HALF_HEIGHT = 0.5  # chosen on validation clips of the default model


def enlarge(maps: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Bilinear enlargement, cells seen as areas (their centres stay where they are).

    Args:
        maps: ``[N, h, w]``.
        size: ``(H, W)`` in pixels, or the side of a square.

    Returns:
        float64 ``[N, H, W]``.
    """
    height, width = _sides(size)
    maps = np.asarray(maps, float)
    down, across = _interpolation(maps.shape[1], height), _interpolation(maps.shape[2], width)
    enlarged: np.ndarray = down @ maps @ across.T
    return enlarged


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int | np.integer) else (size[0], size[1])


def _interpolation(cells: int, pixels: int) -> np.ndarray:
    """``[pixels, cells]``: a row holds the weights of the two cells next to a pixel's centre."""
    at = np.clip((np.arange(pixels) + 0.5) / pixels * cells - 0.5, 0, cells - 1)
    weights: np.ndarray = np.clip(1 - np.abs(at[:, None] - np.arange(cells)[None]), 0, 1)
    return weights


def box_mask(boxes: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie inside boxes; a box too small for that marks the pixel it lies in.

    Args:
        boxes: ``[N, 4]`` as x0, y0, x1, y1 in pixels.
        size: ``(H, W)``, or the side of a square.

    Returns:
        bool ``[N, H, W]``, at least one pixel each.

    Raises:
        ValueError: a box is empty, turned around, or not finite.
    """
    boxes = np.asarray(boxes, float)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError(f"boxes must be finite [N, 4], not {boxes.shape}")
    if not ((boxes[:, 2:] - boxes[:, :2]) > 0).all():
        raise ValueError("a box must have x0 < x1 and y0 < y1")
    height, width = _sides(size)
    across = _spans(boxes[:, 0], boxes[:, 2], width)
    masks: np.ndarray = _spans(boxes[:, 1], boxes[:, 3], height)[:, :, None] & across[:, None]
    return masks


def _spans(low: np.ndarray, high: np.ndarray, pixels: int) -> np.ndarray:
    centres = np.arange(pixels) + 0.5
    inside = (centres >= low[:, None]) & (centres < high[:, None])
    nearest = np.clip(np.floor((low + high) / 2), 0, pixels - 1)
    empty = ~inside.any(1, keepdims=True)
    spans: np.ndarray = inside | (empty & (np.arange(pixels) == nearest[:, None]))
    return spans


def _finite(maps: np.ndarray) -> np.ndarray:
    maps = np.asarray(maps, float)
    if maps.ndim != 3 or not len(maps):
        raise ValueError(f"heatmaps must be [N, h, w] and not empty, not {maps.shape}")
    bad = ~np.isfinite(maps).all((1, 2))
    if bad.any():
        raise ValueError(f"heatmap {int(bad.argmax())} is not finite")
    return maps


def pointing(maps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether the highest pixel is inside the box. Several highest ones share the credit.

    Args:
        maps: ``[N, H, W]``, of the frame's size.
        boxes: ``[N, 4]`` pixels.

    Returns:
        ``[N]`` in [0, 1].
    """
    return pointing_game(maps, box_mask(boxes, maps.shape[1:]))


def ciou(maps: np.ndarray, boxes: np.ndarray, threshold: float = HALF_HEIGHT) -> np.ndarray:
    """Intersection over union of the hot area and the box.

    Args:
        maps: ``[N, H, W]``, of the frame's size.
        boxes: ``[N, 4]`` pixels.
        threshold: share of the height of a map's peak above its median, from which a pixel is hot; a flat map is hot
            all over.

    Returns:
        ``[N]`` in [0, 1].
    """
    low, high = np.median(maps, axis=(1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    hot = maps - low >= threshold * (high - low)
    return consensus_iou(hot, box_mask(boxes, maps.shape[1:]))


def sounding_over_muted(maps: np.ndarray, sounding: np.ndarray, muted: np.ndarray) -> np.ndarray:
    """Whether the map's maximum is higher in the sounding box than in the muted one. A tie counts half.

    Args:
        maps: ``[N, H, W]``, of the frame's size.
        sounding, muted: boxes ``[N, 4]`` pixels.

    Returns:
        ``[N]`` in {0, 0.5, 1}.
    """
    inside, beside = (
        np.where(box_mask(boxes, maps.shape[1:]), maps, -np.inf).max((1, 2)) for boxes in (sounding, muted)
    )
    wins: np.ndarray = (inside > beside) + 0.5 * (inside == beside)
    return wins


def ideal_maps(boxes: np.ndarray, cells: tuple[int, int], size: int | tuple[int, int]) -> np.ndarray:
    """The truth on a grid: the share of each cell that its box covers, ``[N, h, w]``."""
    height, width = _sides(size)

    def covered(low: np.ndarray, high: np.ndarray, count: int, pixels: int) -> np.ndarray:
        edges = np.arange(count + 1) / count * pixels
        share = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        covered_shares: np.ndarray = np.clip(share / (pixels / count), 0, 1)
        return covered_shares

    boxes = np.asarray(boxes, float)
    down = covered(boxes[:, 1], boxes[:, 3], cells[0], height)
    shares: np.ndarray = down[:, :, None] * covered(boxes[:, 0], boxes[:, 2], cells[1], width)[:, None]
    return shares


def localization(
    maps: np.ndarray,
    motion: np.ndarray | None,
    boxes: np.ndarray,
    silent: np.ndarray | None,
    size: int | tuple[int, int],
    threshold: float = HALF_HEIGHT,
    name: str = "",
) -> list[MetricResult]:
    """Pointing, overlap and, where something silent is in the video, sounding over silent.

    Chance is a flat map (it points anywhere and marks everything), the prior the stronger of a blob
    at the centre and of the motion's map, the oracle is the truth on a grid of as many cells as the
    maps have.

    Args:
        maps: ``[N, h, w]``, the model's.
        motion: ``[N, h', w']`` energy of motion.
        boxes, silent: ``[N, 4]`` of the sounding and of the silent thing, in pixels of the frame.
        size: ``(H, W)`` of the frame, or its side.
        threshold: as in `ciou`.
        name: of the set of clips, for the metrics' names.
    """
    maps = _finite(maps)
    boxes = np.asarray(boxes, float)
    if len(boxes) != len(maps):
        raise ValueError(f"{len(maps)} heatmaps, but {len(boxes)} boxes")
    area = float(box_mask(boxes, size).mean())
    ours = enlarge(maps, size)
    flat = np.zeros((len(maps), *_sides(size)))
    priors = {"centre": centre_maps(len(maps), _sides(size), area)}
    if motion is not None:
        priors["loudest motion"] = enlarge(_finite(motion), size)
    ideal = enlarge(ideal_maps(boxes, maps.shape[1:], size), size)

    def metric(label: str, measure: Callable[[np.ndarray], float]) -> MetricResult:
        found = {prior: measure(its) for prior, its in priors.items()}
        best = max(found, key=lambda prior: found[prior])
        label = f"{label}, {name}" if name else label
        return MetricResult(
            "localization", label, measure(ours), measure(flat), found[best], best, measure(ideal),
            len(maps),
        )  # fmt: skip

    metrics = [
        metric("pointing", lambda m: float(pointing(m, boxes).mean())),
        metric("cIoU@0.5", lambda m: float((ciou(m, boxes, threshold) >= 0.5).mean())),
        metric("mean IoU", lambda m: float(ciou(m, boxes, threshold).mean())),
        metric("IoU AUC", lambda m: success_auc(ciou(m, boxes, threshold))),
    ]
    if silent is not None:
        metrics.append(
            metric(
                "sounding over silent",
                lambda m: float(sounding_over_muted(m, boxes, silent).mean()),
            )
        )
    return metrics


def control(
    maps: np.ndarray, boxes: np.ndarray, silent: np.ndarray, size: int | tuple[int, int], name: str
) -> MetricResult:
    """Sounding over silent with the audio shifted: near one half where nothing but timing is used.

    Args:
        maps: ``[N, h, w]``, of the same videos with audio of another time.
        boxes, silent, size, name: as in `localization`.
    """
    value = sounding_over_muted(enlarge(_finite(maps), size), boxes, silent).mean()
    return MetricResult(
        "localization", f"the same, audio shifted (control), {name}", float(value), 0.5, None, "",
        0.5, len(maps),
    )  # fmt: skip
