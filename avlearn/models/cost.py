"""Parameters and multiply-adds of a network, counted without computing anything."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def cost(model: nn.Module, shape: Sequence[int]) -> tuple[int, float]:
    """Parameters, and 10^9 multiply-adds of convolutions, linear maps and attention for one clip.

    Args:
        model: built on any device; it is moved to the meta device and left there.
        shape: of one input, without the batch: ``(C, T, H, W)``.
    """
    model = model.eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *shape, device="meta"))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 2e9
