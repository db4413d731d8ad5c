"""Does an input look like what the model was trained on?"""

import torch
from torch import Tensor, nn


class Familiarity(nn.Module):
    """Mean and spread of pooled features over clips that were held out of the training.

    An input is unfamiliar when its features lie further from the mean, in standard deviations, than
    those of nearly all held-out clips. Until `fit`, everything is familiar.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("limit", torch.tensor(float("inf")))

    def distance(self, features: Tensor) -> Tensor:
        """Root mean square of the standardised features: ``[B, C]`` to ``[B]``; about 1 for held-out clips."""
        return ((features - self.mean) / self.deviation).square().mean(1).sqrt()

    def fit(self, features: Tensor) -> None:
        """Learn from pooled features ``[N, C]`` of held-out clips."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp(min=1e-3))
        self.limit.copy_(torch.quantile(self.distance(features), 0.99) * 1.25)

    def knows(self, features: Tensor) -> bool:
        """Whether the median of ``[B, C]`` pooled features lies among those of the held-out clips."""
        return bool(self.distance(features).median() <= self.limit)
