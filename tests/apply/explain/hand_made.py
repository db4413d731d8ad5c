"""Networks whose reasons are known: what they look at, and listen to, is written down."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.apply.explain.network import Canvas, ExplainedNetwork
from avlearn.models.audio.stages import AudioEncoder
from avlearn.models.encoder import Encoder, FeatureInfo


class Colours(Encoder):
    """Means of the colours, or of flow, of 8 x 8 pixels, ``[B, C, T, H / 8, W / 8]``; ``seen`` weighs places."""

    def __init__(self, seen: Tensor | None = None, in_chans: int = 3):
        super().__init__()
        self.in_chans, self.seen = in_chans, seen
        self.feature_info = FeatureInfo(in_chans, (1, 8, 8))
        self.one = nn.Parameter(torch.ones(()))

    def forward_features(self, x: Tensor) -> Tensor:
        features = F.avg_pool3d(self.prepared(x), (1, 8, 8)) * self.one
        return features if self.seen is None else features * self.seen


class Changes(Colours):
    """The same, and how much they change from each frame to the next: six channels."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(6, (1, 8, 8))

    def forward_features(self, x: Tensor) -> Tensor:
        means = super().forward_features(x)
        return torch.cat([means, F.pad(means.diff(dim=2).abs(), (0, 0, 0, 0, 1, 0))], 1)


class Bands(AudioEncoder):
    """How loud the lower and the upper half of the bands are: two channels of cells of 4 bands and 4 frames."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(2, (4, 0, 0))
        self.one = nn.Parameter(torch.ones(()))

    def halves(self, x: Tensor) -> Tensor:
        cells = F.avg_pool2d(x, 4) * self.one
        lower = (torch.arange(cells.shape[2]) < cells.shape[2] / 2).float().view(1, 1, -1, 1)
        return torch.cat([cells * lower, cells * (1 - lower)], 1)

    def stages(self) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        return [("halves", self.halves), ("sum", lambda x: x.sum(2, keepdim=True))]


def classifying(encoder: Encoder, weights: Tensor, labels: tuple[str, ...], shape: tuple[int, ...]) -> ExplainedNetwork:
    """The encoder with a linear classifier ``[classes, D]``."""
    encoder.reset_classifier(len(labels))
    encoder.classifier.load_state_dict({"weight": weights, "bias": torch.zeros(len(labels))})
    encoder.eval().requires_grad_(False)
    kind = "video" if len(shape) == 4 else "audio"
    return ExplainedNetwork(
        "hand-made", None, {kind: encoder}, {kind: Canvas(shape, 12.5)}, labels,
        lambda _, features: encoder.forward_head(features), lambda _, given: encoder(given),
    )  # fmt: skip
