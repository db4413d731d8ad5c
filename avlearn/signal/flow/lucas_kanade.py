"""Lucas and Kanade's optical flow, at every pixel, in pyramids (IJCAI 1981; Bouguet, Intel 2000)."""

import torch
from torch import Tensor

from avlearn.signal.flow.pyramid import box_mean, check_pair, gradient, grey, pyramid
from avlearn.signal.flow.warp import leads_inside, resize_flow, warp

NOISE = 1.0  # squared grey levels a pixel, of 255: a gradient that noise and rounding may be


def lucas_kanade(
    first: Tensor, second: Tensor, *, window: int = 15, levels: int = 5, iterations: int = 5
) -> tuple[Tensor, Tensor]:
    """Where each pixel of a frame is in another, and how far the frames tell it.

    A window around each pixel has one motion. Least squares find it, with the frame's own gradients: from the smallest
    size of a pyramid to the full one, and at each a few times, with the second frame warped by what is known. Where
    the window has no gradient along a direction, the motion along it stays that of the smaller size (at the smallest:
    none).

    Args:
        first, second: ``[B, 1 or 3, H, W]``, grey or RGB, 0 to 255.
        window: odd, pixels.
        levels: sizes of the pyramid at most; motion up to about half a window at the smallest is found.
        iterations: at each size.

    Returns:
        Flow ``[B, 2, H, W]``, pixels along x and y from the first to the second; and confidence ``[B, 1, H, W]`` in
        [0, 1): the share that the frames, not the smaller size, have in the motion where they tell least: near 0 on a
        flat surface, and at a straight edge, along which motion cannot be seen (the aperture problem).

    Raises:
        ValueError: the frames are no pairs, or the window is not odd.
    """
    check_pair(first, second)
    if window < 3 or window % 2 == 0:
        raise ValueError(f"a window has an odd number of pixels, from 3 on, not {window}")
    pairs = list(zip(pyramid(grey(first), levels), pyramid(grey(second), levels), strict=True))
    flow = torch.zeros(len(first), 2, *pairs[-1][0].shape[2:], device=first.device)
    for one, other in reversed(pairs):
        flow = prior = resize_flow(flow, one.shape[2:])
        # Places that lead out of the frame tell nothing of the motion around them.
        slope = gradient(one) * leads_inside(flow)
        tensor = structure_tensor(slope, window)
        for _ in range(iterations):
            # By the gradient, what the middle's flow would leave at each pixel of a window, not the pixel's own.
            explained = (slope * flow).sum(1, keepdim=True) - (warp(other, flow) - one)
            flow = solve(tensor, box_mean(slope * explained, window), prior)
    least = eigenvalues(tensor)[:, :1]
    return flow, least / (least + NOISE)


def structure_tensor(slope: Tensor, window: int) -> Tensor:
    """Means over a window of the products xx, xy, yy of gradients ``[B, 2, H, W]``: ``[B, 3, H, W]``."""
    x, y = slope[:, :1], slope[:, 1:]
    return box_mean(torch.cat([x * x, x * y, y * y], 1), window)


def eigenvalues(tensor: Tensor) -> Tensor:
    """Smaller and larger ``[B, 2, H, W]`` of symmetric matrices xx, xy, yy ``[B, 3, H, W]``; none below 0."""
    xx, xy, yy = tensor.split(1, 1)
    middle, reach = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    return torch.cat([middle - reach, middle + reach], 1).clamp(min=0)


def solve(tensor: Tensor, wanted: Tensor, prior: Tensor) -> Tensor:
    """``[B, 2, H, W]`` u with ``(T + NOISE) u = wanted + NOISE * prior`` for symmetric T of xx, xy, yy."""
    xx, xy, yy = tensor[:, :1] + NOISE, tensor[:, 1:2], tensor[:, 2:] + NOISE
    x, y = (wanted + NOISE * prior).split(1, 1)
    determinant = xx * yy - xy * xy  # at least NOISE squared
    return torch.cat([yy * x - xy * y, xx * y - xy * x], 1) / determinant
