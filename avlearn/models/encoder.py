"""The interface that every encoder has."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class FeatureInfo:
    """Where an encoder's features lie: channels, and the input frames/pixels (rows, columns) of one step."""

    channels: int
    stride: tuple[int, int, int]  # t, y, x; audio: spectrogram frames, bins (all of them: 0), 0


class Encoder(nn.Module):
    """A network from one tensor to features, with a linear classifier that can be put on and taken off.

    Subclasses set ``feature_info`` and implement `forward_features`.
    """

    feature_info: FeatureInfo

    def __init__(self) -> None:
        super().__init__()
        self.classifier: nn.Module = nn.Identity()

    @property
    def num_features(self) -> int:
        """Channels of the features."""
        return self.feature_info.channels

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put a new linear classifier on top, or take it off (None)."""
        self.classifier = nn.Identity() if num_classes is None else nn.Linear(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Video ``[B, 3, T, H, W]`` to ``[B, D, T', Y, X]``; audio ``[B, 1, F, N]`` to ``[B, D, U]``."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """Features averaged over time and space, then classified: ``[B, num_classes]`` (or ``[B, D]``)."""
        return self.classifier(features.flatten(2).mean(-1))

    def forward(self, x: Tensor) -> Tensor:
        """Input to class scores (or pooled features where there is no classifier)."""
        return self.forward_head(self.forward_features(x))
