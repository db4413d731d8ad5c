"""Batches that are larger than the memory: the towers see them in parts, the objective sees them whole."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_parts(towers: Callable[..., tuple[Tensor, ...]], parts: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    """``towers(*inputs)`` in micro-batches, of whose activations none are kept.

    GradCache (Gao et al., RepL4NLP 2021): the features of all micro-batches come first, the loss is of all of them, and
    its gradient goes back through one micro-batch after another, each computed a second time. A loss with negatives
    from the batch so stays what it is, which it does not where losses of micro-batches are added up. Non-reentrant
    checkpoints do this within one backward pass, which processes need to average gradients once, and give the second
    pass the random state of the first.

    Batch norm uses the statistics of a micro-batch: with it, more parts are not quite the same training. The second
    pass updates running statistics again; see `SavedBuffers`.

    Args:
        towers: inputs to features.
        parts: micro-batches; fewer where the batch is smaller.
        inputs: ``[B, ...]`` each.

    Returns:
        Features ``[B, ...]`` each.
    """
    chunks = zip(*(x.chunk(parts) for x in inputs), strict=True)
    found = [checkpoint(towers, *chunk, use_reentrant=False) for chunk in chunks]
    return tuple(torch.cat(features) for features in zip(*found, strict=True))


class SavedBuffers:
    """Holds a module's buffers and puts them back: what is computed a second time must not count twice."""

    def __init__(self, module: torch.nn.Module):
        self.buffers = list(module.buffers())
        self.values = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def restore(self) -> None:
        """As they were."""
        for buffer, value in zip(self.buffers, self.values, strict=True):
            buffer.copy_(value)
