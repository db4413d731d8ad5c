"""Embeddings of all processes: the one place where negatives are gathered."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """All processes' ``[B, ...]``; back comes the sum of all processes' gradients of the own part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Collectives go by the order in memory, which need not be that of the axes.
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]


def gather_with_gradient(x: Tensor) -> Tensor:
    """Concatenation of the ``[B, ...]`` of all processes along B, in rank order; gradients flow back to each.

    B is the same in all processes. Without ``torch.distributed`` it is ``x`` itself.

    >>> gather_with_gradient(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    gathered: Tensor = _Gather.apply(x.contiguous())
    return gathered


def own_rows(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Where this process's ``count`` clips stand among those of all processes: ``[count]``.

    >>> own_rows(3)
    tensor([0, 1, 2])
    """
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return torch.arange(count, device=device) + rank * count


def other_clips(x: Tensor) -> Tensor:
    """For each clip the row of a random other one, of any process: ``[B, ...]`` to ``[B, ...]``.

    A clip that is alone, as in the last batch of a validation, gets its own.

    >>> other_clips(torch.tensor([1.0, 2.0]))
    tensor([2., 1.])
    """
    gathered, own = gather_with_gradient(x), own_rows(len(x), x.device)
    others = (own + torch.randint(1, max(len(gathered), 2), own.shape, device=own.device)) % len(gathered)
    return gathered[others]
