"""The one affine motion of a frame, or of a region of it (Bergen et al., ECCV 1992)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.signal.flow.pyramid import check_pair, gradient, grey, pyramid
from avlearn.signal.flow.warp import leads_inside, pixel_grid, warp

_LEVELS = 5
_STILL = 1e-3  # squared grey levels: what frames without a gradient decide of the motion, beside none
_NORMAL = 1.4826  # standard deviation of a normal distribution by its median absolute value
_ROUNDING = 0.5  # grey levels


def affine_motion(first: Tensor, second: Tensor, region: Tensor | None = None, *, iterations: int = 10) -> Tensor:
    """The affine map that takes most of a frame to another.

    Weighted least squares in a pyramid: what does not follow the map counts the less, the worse it fits (Cauchy's
    weights, with the median of what is left as their scale), so that the larger of two motions is found.

    Args:
        first, second: ``[B, 1 or 3, H, W]``, grey or RGB, 0 to 255.
        region: ``[B, 1, H, W]``, weights in [0, 1] or bool, of the pixels of ``first`` that have the motion; all of
            them by default.
        iterations: at each of up to five sizes.

    Returns:
        ``[B, 2, 3]``: the pixel (x, y) of the first is at ``M @ (x, y, 1)`` in the second.

    Raises:
        ValueError: the frames are no pairs, or the region has another size.
    """
    check_pair(first, second)
    weights = torch.ones_like(first[:, :1], dtype=torch.float32) if region is None else region.float()
    if weights.shape[2:] != first.shape[2:]:
        raise ValueError(f"a region of {[*weights.shape[2:]]} in frames of {[*first.shape[2:]]}")
    levels = [pyramid(image, _LEVELS) for image in (grey(first), grey(second), weights)]
    motion = torch.zeros(len(first), 2, 3, device=first.device)
    size = levels[0][-1].shape[2:]
    for one, other, share in zip(*(reversed(level) for level in levels), strict=True):
        ratio = torch.tensor([one.shape[3] / size[1], one.shape[2] / size[0]], device=motion.device)
        motion, size = motion * ratio.view(1, 2, 1), one.shape[2:]
        for _ in range(iterations):
            motion = _improved(one, other, share, motion)
    return _matrix(motion, size)


def affine_flow(matrix: Tensor, size: Sequence[int]) -> Tensor:
    """The flow ``[B, 2, H, W]`` of maps ``[B, 2, 3]`` as `affine_motion` gives them, in frames of ``size`` (H, W).

    >>> moved = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]])
    >>> affine_flow(moved, (1, 1)).flatten()
    tensor([ 2., -1.])
    """
    grid = pixel_grid(size[0], size[1], matrix.device)
    return torch.einsum("bij,jhw->bihw", matrix[:, :, :2], grid) + matrix[:, :, 2:, None] - grid


def _basis(size: Sequence[int], device: torch.device) -> Tensor:
    """``[3, H, W]``: 1, x and y from the middle, in halves of the longer side."""
    grid = pixel_grid(size[0], size[1], device)
    middle, half = _middle(size, device)
    return torch.cat([torch.ones_like(grid[:1]), (grid - middle.view(2, 1, 1)) / half])


def _middle(size: Sequence[int], device: torch.device) -> tuple[Tensor, float]:
    return torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], device=device), max(size) / 2


def _improved(one: Tensor, other: Tensor, share: Tensor, motion: Tensor) -> Tensor:
    """The motion ``[B, 2, 3]`` (of pixels, in `_basis`) that explains what is left after the one before."""
    basis = _basis((one.shape[2], one.shape[3]), one.device)
    flow = torch.einsum("bij,jhw->bihw", motion, basis)
    warped = warp(other, flow)
    slope = (gradient(one) + gradient(warped)) / 2
    left = warped - one
    weights = share * leads_inside(flow)
    weights = weights / (1 + (left / _scale(left, weights)) ** 2)
    # A column a number of the motion: what it changes at each pixel.
    changes = (slope.unsqueeze(2) * basis).flatten(1, 2).flatten(2)
    explained = (slope * flow).sum(1, keepdim=True) - left
    weighted = changes * (weights / weights.sum((2, 3), keepdim=True).clamp(min=1)).flatten(2)
    normal = weighted @ changes.mT + _STILL * torch.eye(6, device=one.device)
    wanted = (weighted @ explained.flatten(2).mT).squeeze(2) + _STILL * motion.flatten(1)
    found: Tensor = torch.linalg.solve(normal, wanted)
    return found.view_as(motion)


def _scale(left: Tensor, weights: Tensor) -> Tensor:
    """``[B, 1, 1, 1]``: how far off what follows the motion is: the median where the weights are 0.5 and more."""
    known = left.abs().masked_fill(weights < 0.5, torch.nan).flatten(1)
    median = F.relu(known.nanmedian(1).values.nan_to_num())
    return _NORMAL * median.view(-1, 1, 1, 1) + _ROUNDING


def _matrix(motion: Tensor, size: Sequence[int]) -> Tensor:
    """Of motion in `_basis`, the map of pixels."""
    middle, half = _middle(size, motion.device)
    linear = motion[:, :, 1:] / half
    offset = motion[:, :, 0] - linear @ middle
    return torch.cat([torch.eye(2, device=motion.device) + linear, offset.unsqueeze(2)], 2)
