"""Pictures moved along an optical flow, and flows from one size to another."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """``[2, H, W]``: x and y of every pixel."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack([x, y])


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Backward warping: each pixel takes what lies where its flow leads, bilinearly; beyond the edge, the edge's.

    The second of two frames, warped by the flow from the first to it, is like the first where nothing is covered.

    Args:
        image: float ``[B, C, H, W]``.
        flow: ``[B, 2, H, W]`` pixels, x and y.

    Returns:
        ``[B, C, H, W]``.

    >>> ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    >>> warp(ramp, torch.full((1, 2, 2, 4), 0.5))[0, 0, 0]
    tensor([0.5000, 1.5000, 2.5000, 3.0000])
    """
    height, width = flow.shape[2:]
    places = flow + pixel_grid(height, width, flow.device)
    size = torch.tensor([width, height], device=flow.device)
    grid = (2 * places.permute(0, 2, 3, 1) + 1) / size - 1
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def leads_inside(flow: Tensor) -> Tensor:
    """Bool ``[B, 1, H, W]``: whether a flow of ``[B, 2, H, W]`` leads to a place within the frame."""
    height, width = flow.shape[2:]
    x, y = (flow + pixel_grid(height, width, flow.device)).unbind(1)
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).unsqueeze(1)


def resize_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """A flow ``[B, 2, H, W]`` for the same picture of ``size`` (height, width), in pixels of that, bilinearly."""
    ratio = torch.tensor([size[1] / flow.shape[3], size[0] / flow.shape[2]], device=flow.device)
    return F.interpolate(flow, size=tuple(size), mode="bilinear", align_corners=False) * ratio.view(1, 2, 1, 1)
