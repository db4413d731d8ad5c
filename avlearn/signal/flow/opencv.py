"""Two methods of optical flow that OpenCV computes, on the processor."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from avlearn.signal.flow.pyramid import check_pair, grey

_LEAST = 32  # pixels: OpenCV's pyramids take no smaller frames


def farneback(first: Tensor, second: Tensor) -> Tensor:
    """Flow by polynomials that are fitted around each pixel (Farneback, SCIA 2003), as OpenCV computes it.

    Args:
        first, second: ``[B, 1 or 3, H, W]``, grey or RGB, 0 to 255.

    Returns:
        ``[B, 2, H, W]``, pixels along x and y from the first to the second.

    Raises:
        ValueError: the frames are no pairs.
    """

    def flow(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        # OpenCV's own example: half sizes, windows of 15, 3 iterations, polynomials over 5 pixels.
        found: np.ndarray = cv2.calcOpticalFlowFarneback(one, other, None, 0.5, 5, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
        return found

    return _each(first, second, flow)


def dis(first: Tensor, second: Tensor) -> Tensor:
    """Flow by dense inverse search (Kroeger et al., ECCV 2016), as OpenCV computes it, its preset ``medium``.

    Arguments, result and errors as for `farneback`.
    """
    return _each(first, second, lambda one, other: _DIS().calc(one, other, None))  # type: ignore[call-overload]


def _DIS() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _each(first: Tensor, second: Tensor, flow: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Tensor:
    """Flows of pairs one by one; frames that are too small are continued by their edges."""
    check_pair(first, second)
    height, width = first.shape[2:]
    beyond = (0, 0), (0, max(0, _LEAST - height)), (0, max(0, _LEAST - width))
    frames = [grey(batch)[:, 0].round().clamp(0, 255).byte().cpu().numpy() for batch in (first, second)]
    ones, others = (np.pad(batch, beyond, "edge") for batch in frames)
    flows = [flow(one, other)[:height, :width] for one, other in zip(ones, others, strict=True)]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(first.device)
