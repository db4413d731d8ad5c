"""Optical flow as the temporal stream of a two-stream network takes it (Simonyan & Zisserman, NIPS 2014)."""

import torch
from torch import Tensor

from avlearn.signal.flow.warp import warp


def stack_flow(flows: Tensor, length: int = 10) -> Tensor:
    """The flows of ``length`` frames one after another, as channels: what is seen of a place as time goes.

    Args:
        flows: ``[T, 2, H, W]``, number k from frame k to the next.
        length: of a stack, L.

    Returns:
        ``[T - L + 1, 2 L, H, W]``, a stack for each frame that it begins at; channels x, y, x, y, ...

    Raises:
        ValueError: there are fewer flows than a stack has.

    >>> stack_flow(torch.zeros(12, 2, 4, 4)).shape
    torch.Size([3, 20, 4, 4])
    """
    return torch.stack([flows[k : k + length].flatten(0, 1) for k in _begins(flows, length)])


def stack_trajectories(flows: Tensor, length: int = 10) -> Tensor:
    """The flows that a point meets which begins at each pixel and goes where they lead, as channels.

    Arguments, result and errors as for `stack_flow`. What leads out of the frame meets the flow at its edge.
    """
    stacks = []
    for begin in _begins(flows, length):
        moved, met = torch.zeros_like(flows[:1]), []
        for flow in flows[begin : begin + length]:
            met.append(warp(flow[None], moved)[0])
            moved = moved + met[-1]
        stacks.append(torch.cat(met))
    return torch.stack(stacks)


def stack_bidirectional(forward: Tensor, backward: Tensor, length: int = 10) -> Tensor:
    """Half a stack of the flows after a frame, and half of those back from it, as channels.

    Args:
        forward: ``[T, 2, H, W]``, number k from frame k to frame k + 1.
        backward: ``[T, 2, H, W]``, number k from frame k + 1 to frame k.
        length: of a stack, L, even.

    Returns:
        ``[T - L + 1, 2 L, H, W]``, a stack for each frame from number L / 2 on: first the way on, then the way
        back, each from that frame away.

    Raises:
        ValueError: there are fewer flows than a stack has, the two differ in number, or the length is odd.
    """
    if forward.shape != backward.shape:
        raise ValueError(f"as many flows back as forth: {[*forward.shape]} and {[*backward.shape]}")
    if length % 2:
        raise ValueError(f"a stack of {length} has no halves")
    half = length // 2
    back = backward.flip(0)
    stacks = []
    for begin in _begins(forward, length):
        frame = begin + half
        since = len(back) - frame  # backward[frame - 1] leads back from the frame
        stacks.append(torch.cat([forward[frame : frame + half], back[since : since + half]]).flatten(0, 1))
    return torch.stack(stacks)


def subtract_mean_flow(flows: Tensor) -> Tensor:
    """Flows ``[..., 2, H, W]`` less the mean vector of each, which is mostly the camera's motion."""
    return flows - flows.mean((-2, -1), keepdim=True)


def _begins(flows: Tensor, length: int) -> range:
    if not 1 <= length <= len(flows):
        raise ValueError(f"{len(flows)} flows make no stack of {length}")
    return range(len(flows) - length + 1)
