"""Parameters and multiply-adds of networks."""

from collections.abc import Callable, Sequence

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
    counted = multiply_adds(lambda: model(torch.empty(1, *shape, device="meta")))
    return sum(p.numel() for p in model.parameters()), counted


def multiply_adds(compute: Callable[[], object]) -> float:
    """10^9 multiply-adds of convolutions, linear maps and attention in what is called, without gradients."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        compute()
    return float(counter.get_total_flops() / 2e9)
