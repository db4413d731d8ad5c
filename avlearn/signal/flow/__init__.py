"""Optical flow between frames, and what is made of it. Flows are ``[B, 2, H, W]``: pixels along x and y."""

from avlearn.signal.flow.affine import affine_flow, affine_motion
from avlearn.signal.flow.lucas_kanade import lucas_kanade
from avlearn.signal.flow.opencv import dis, farneback
from avlearn.signal.flow.tv_l1 import tv_l1
from avlearn.signal.flow.two_stream import stack_bidirectional, stack_flow, stack_trajectories, subtract_mean_flow
from avlearn.signal.flow.warp import leads_inside, resize_flow, warp

__all__ = [
    "affine_flow", "affine_motion", "dis", "farneback", "leads_inside", "lucas_kanade", "resize_flow",
    "stack_bidirectional", "stack_flow", "stack_trajectories", "subtract_mean_flow", "tv_l1", "warp",
]  # fmt: skip
