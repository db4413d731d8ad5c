"""Embeddings of all processes: the one place where negatives are gathered."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _exchanged(parts: Tensor) -> Tensor:
    """``[W, ...]``, a part for each of W processes, to the part that each of them has for this one."""
    parts = parts.contiguous()
    received = torch.empty_like(parts)
    dist.all_to_all_single(received, parts)
    return received


class _Gather(torch.autograd.Function):
    """All processes' ``[B, ...]``; back comes the sum of all processes' gradients of the own part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        world = dist.get_world_size()
        whole = x.new_empty(world * len(x), *x.shape[1:])
        dist.all_gather(list(whole.chunk(world)), x)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Each process gets its own part of every gradient, and no process the whole sum.
        return _exchanged(gradient.unflatten(0, (dist.get_world_size(), -1))).sum(0)


class _Exchange(torch.autograd.Function):
    """`_exchanged`, whose gradients go back the way the parts came."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor) -> Tensor:
        return _exchanged(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _exchanged(gradient)


def gather_with_gradient(x: Tensor) -> Tensor:
    """Concatenation of the ``[B, ...]`` of all processes along B, in rank order; gradients flow back to each.

    B is the same in all processes. Without ``torch.distributed`` it is ``x`` itself.

    >>> gather_with_gradient(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if not _several():
        return x
    gathered: Tensor = _Gather.apply(x.contiguous())
    return gathered


def transposed_rows(rows: Tensor) -> Tensor:
    """Own rows of a ``[G, G]`` matrix, of which each process has ``[B, G]``, to own rows of its transpose: ``[B, G]``.

    What all videos score with the audio of a process's clips is known to the processes whose videos they are: scores
    are exchanged, where videos would be many times as large. Gradients flow back to each.

    >>> transposed_rows(torch.tensor([[1, 2], [3, 4]]))
    tensor([[1, 3],
            [2, 4]])
    """
    if not _several():
        return rows.T
    parts = rows.unflatten(1, (dist.get_world_size(), -1)).transpose(0, 1)  # [W, B, B]
    columns: Tensor = _Exchange.apply(parts)
    return columns.flatten(0, 1).T


def own_rows(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Where this process's ``count`` clips stand among those of all processes: ``[count]``.

    >>> own_rows(3)
    tensor([0, 1, 2])
    """
    rank = dist.get_rank() if _several() else 0
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
