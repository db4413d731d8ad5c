"""Long-term feature banks (Wu et al., CVPR 2019): a clip is classified beside the features of the video around it."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError

Operator = Literal["nl", "max", "avg"]
_INNER, _LAYERS = 512, 2  # channels and number of the non-local layers, as published
_INNER_DROPOUT, _DROPOUT = 0.2, 0.3


@dataclass(frozen=True)
class FeatureBank:
    """Features of one video, over time.

    Attributes:
        times: ``[N]``, seconds, growing: the middles of the clips that were encoded, or any instant of them.
        features: ``[N, D]``, as any encoder gives them for a clip; those of `avlearn embed`'s arrays, for example.

    Raises:
        ModelError: there are none, or not as many of the one as of the other, or times go back.
    """

    times: Tensor
    features: Tensor

    def __post_init__(self) -> None:
        shapes = [*self.times.shape], [*self.features.shape]
        if len(shapes[0]) != 1 or len(shapes[1]) != 2 or shapes[0][0] != shapes[1][0] or not shapes[0][0]:
            raise ModelError(f"a bank has [N] times and [N, D] features, not {shapes[0]} and {shapes[1]}")
        if bool((self.times.diff() < 0).any()):
            raise ModelError("times of a bank go back")

    def window(self, at: Tensor, size: int, causal: bool = False) -> tuple[Tensor, Tensor]:
        """What lies around instants.

        Args:
            at: ``[B]``, seconds.
            size: features of a window, W.
            causal: the last ones up to an instant; else half of them are before it, and half after.

        Returns:
            Features ``[B, W, D]``, in their order, and which of them there are, ``[B, W]`` bool: beyond the ends of the
            video they are zeros.
        """
        end = torch.searchsorted(self.times, at, right=True)
        if not causal:
            end = end + size // 2
        places = end[:, None] - size + torch.arange(size, device=end.device)
        there = (places >= 0) & (places < len(self.times))
        found = self.features[places.clamp(0, len(self.times) - 1)] * there[..., None]
        return found, there


class NonLocalLayer(nn.Module):
    """What a clip gathers from a bank, added to it: ``[B, D]`` and ``[B, W, D]`` to ``[B, D]``.

    Scaled dot products of projections; a norm without parameters and a rectifier before the last projection, which
    begins with zeros: the layer begins as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Linear(channels, channels) for _ in range(3))
        self.out = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.dropout = nn.Dropout(_INNER_DROPOUT)
        for layer in (self.theta, self.phi, self.g):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, clip: Tensor, bank: Tensor, there: Tensor) -> Tensor:
        scores = torch.einsum("bd,bwd->bw", self.theta(clip), self.phi(bank)) / clip.shape[1] ** 0.5
        # Of an empty bank nothing is gathered.
        weights = scores.masked_fill(~there, torch.finfo(scores.dtype).min).softmax(1) * there
        gathered = torch.einsum("bw,bwd->bd", weights, self.g(bank))
        return clip + self.dropout(self.out(F.relu(self.norm(gathered))))


class FeatureBankHead(nn.Module):
    """Scores of a clip's features beside those of a bank.

    Args:
        channels: D of a clip's features.
        bank_channels: D' of the bank's.
        num_classes: of the linear classifier.
        operator: ``nl``: non-local layers gather from the bank what the clip asks for; ``max`` and ``avg``: over the
            window, whatever the clip is.
        inner: channels of the non-local layers.
        layers: number of them.
    """

    def __init__(
        self,
        channels: int,
        bank_channels: int,
        num_classes: int,
        operator: Operator = "nl",
        inner: int = _INNER,
        layers: int = _LAYERS,
    ) -> None:
        super().__init__()
        if operator not in ("nl", "max", "avg"):
            raise ValueError(f"operator is nl, max or avg, not {operator}")
        self.operator = operator
        if operator == "nl":
            self.reduce_clip, self.reduce_bank = nn.Linear(channels, inner), nn.Linear(bank_channels, inner)
            self.inner_dropout = nn.Dropout(_INNER_DROPOUT)
            self.layers = nn.ModuleList(NonLocalLayer(inner) for _ in range(layers))
        self.dropout = nn.Dropout(_DROPOUT)
        self.num_features = channels + (inner if operator == "nl" else bank_channels)
        self.classifier = nn.Linear(self.num_features, num_classes)

    def gathered(self, clip: Tensor, bank: Tensor, there: Tensor) -> Tensor:
        """Of the bank, ``[B, D']`` or ``[B, inner]``; arguments as for `forward`."""
        if self.operator == "avg":
            return (bank * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        if self.operator == "max":
            lowest = bank.masked_fill(~there[..., None], -torch.inf).amax(1)
            return lowest.masked_fill(~there.any(1, keepdim=True), 0)
        asked, known = self.inner_dropout(self.reduce_clip(clip)), self.inner_dropout(self.reduce_bank(bank))
        for layer in self.layers:
            asked = layer(asked, known, there)
        return asked

    def forward(self, clip: Tensor, bank: Tensor, there: Tensor) -> Tensor:
        """Scores ``[B, classes]``.

        Args:
            clip: ``[B, D]``, features of the clip, averaged over time and space.
            bank, there: ``[B, W, D']`` and ``[B, W]``, of `FeatureBank.window`.
        """
        return self.classifier(self.dropout(torch.cat([clip, self.gathered(clip, bank, there)], 1)))
