"""Optical flow between frames, and what is made of it. Flows are ``[B, 2, H, W]``: pixels along x and y."""

from collections.abc import Callable

from torch import Tensor

from avlearn.signal.flow.affine import affine_flow, affine_motion
from avlearn.signal.flow.lucas_kanade import lucas_kanade
from avlearn.signal.flow.opencv import dis, farneback
from avlearn.signal.flow.tv_l1 import tv_l1
from avlearn.signal.flow.two_stream import stack_bidirectional, stack_flow, stack_trajectories, subtract_mean_flow
from avlearn.signal.flow.warp import leads_inside, resize_flow, warp

# Each from pairs of frames ``[B, 1 or 3, H, W]``, 0 to 255.
METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "lucas_kanade": lambda first, second: lucas_kanade(first, second)[0],
    "tv_l1": tv_l1,
    "farneback": farneback,
    "dis": dis,
}

__all__ = [
    "METHODS", "affine_flow", "affine_motion", "dis", "farneback", "leads_inside", "lucas_kanade", "resize_flow",
    "stack_bidirectional", "stack_flow", "stack_trajectories", "subtract_mean_flow", "tv_l1", "warp",
]  # fmt: skip
