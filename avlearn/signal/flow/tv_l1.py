"""Optical flow of least total variation and absolute difference (Zach, Pock & Bischof, DAGM 2007)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.signal.flow.pyramid import check_pair, gradient, grey, pyramid
from avlearn.signal.flow.warp import leads_inside, resize_flow, warp

# As Sanchez, Meinhardt-Llopis & Facciolo give them for grey levels of 0 to 255 (IPOL 2013).
_STEP, _DATA, _COUPLING = 0.25, 0.15, 0.3
_LEAST = 1e-9  # squared gradient


def tv_l1(first: Tensor, second: Tensor, *, levels: int = 6, warps: int = 5, iterations: int = 30) -> Tensor:
    """The flow that is smooth but at edges, and under which the frames differ little but at some places.

    Args:
        first, second: ``[B, 1 or 3, H, W]``, grey or RGB, 0 to 255.
        levels: sizes of the pyramid at most.
        warps: of the second frame, at each size; a median over 5 x 5 pixels follows each.
        iterations: of the primal-dual scheme for each warp.

    Returns:
        ``[B, 2, H, W]``, pixels along x and y from the first to the second.

    Raises:
        ValueError: the frames are no pairs.
    """
    check_pair(first, second)
    pairs = list(zip(pyramid(grey(first), levels), pyramid(grey(second), levels), strict=True))
    size = pairs[-1][0].shape[2:]
    flow = torch.zeros(len(first), 2, *size, device=first.device)
    for one, other in reversed(pairs):
        flow = resize_flow(flow, one.shape[2:])
        dual = torch.zeros(len(flow), 2, 2, *one.shape[2:], device=flow.device)  # along x and y, of both
        slope = gradient(other)
        for _ in range(warps):
            flow, dual = _improved(one, other, slope, flow, dual, iterations)
            flow = _median(flow)
    return flow


def _improved(
    one: Tensor, other: Tensor, slope: Tensor, flow: Tensor, dual: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Flow and dual variable after some steps with the second frame warped once."""
    moved, inside = warp(torch.cat([other, slope], 1), flow), leads_inside(flow)
    slope = moved[:, 1:] * inside  # what leads out of the frame is filled in from beside
    constant = (moved[:, :1] - one) * inside - (slope * flow).sum(1, keepdim=True)
    square = (slope * slope).sum(1, keepdim=True).clamp(min=_LEAST)
    for _ in range(iterations):
        left = constant + (slope * flow).sum(1, keepdim=True)
        reach = _DATA * _COUPLING
        near = flow - slope * (left / square).clamp(-reach, reach)
        flow = near + _COUPLING * _divergence(dual)
        across, down = _differences(flow)
        raised = dual + _STEP / _COUPLING * torch.stack([across, down], 1)
        length = torch.sqrt(across * across + down * down).unsqueeze(1)
        dual = raised / (1 + _STEP / _COUPLING * length)
    return flow, dual


def _differences(flow: Tensor) -> tuple[Tensor, Tensor]:
    """To the next pixel along x and along y; none at the end."""
    across = F.pad(flow[..., 1:] - flow[..., :-1], (0, 1))
    return across, F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1))


def _divergence(dual: Tensor) -> Tensor:
    """The negative adjoint of `_differences`."""
    across, down = dual.unbind(1)
    across, down = across[..., :-1], down[..., :-1, :]
    return (
        F.pad(across, (0, 1)) - F.pad(across, (1, 0)) + F.pad(down, (0, 0, 0, 1)) - F.pad(down, (0, 0, 1, 0))
    )  # fmt: skip


def _median(flow: Tensor, side: int = 5) -> Tensor:
    """The median of each component over a square around each pixel."""
    around = F.pad(flow, (side // 2,) * 4, mode="replicate").unfold(2, side, 1).unfold(3, side, 1)
    return around.flatten(4).median(4).values
