"""From one division of time to another."""

import torch
from torch import Tensor


def to_steps(features: Tensor, step: float, count: int, wanted: float) -> Tensor:
    """Features of steps to those of other steps: the mean of what each lasts over.

    The last feature goes on to the end.

    Args:
        features: ``[B, D, N]``, one a step, the first from 0 on.
        step: seconds of a step of ``features``.
        count: of steps of the result.
        wanted: seconds of each of them.

    Returns:
        ``[B, D, count]``.
    """
    edges = torch.arange(features.shape[2] + 1, dtype=torch.float64) * step
    edges[-1] = max(float(edges[-1]), count * wanted)
    starts = torch.arange(count, dtype=torch.float64).unsqueeze(1) * wanted
    shared = torch.minimum(edges[1:], starts + wanted) - torch.maximum(edges[:-1], starts)
    return features @ (shared.clamp(min=0) / wanted).T.to(features)
