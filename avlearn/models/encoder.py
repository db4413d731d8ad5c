"""The interface that every encoder has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avlearn.models.importers import Report


@dataclass(frozen=True)
class FeatureInfo:
    """Where features lie: channels, the input frames and pixels (rows, columns) of one step, the stage's name."""

    channels: int
    stride: tuple[int, int, int]  # t, y, x; audio: spectrogram frames, bins (all of them: 0), 0
    name: str = "features"


class Encoder(nn.Module):
    """A network from one tensor to features, with a linear classifier that can be put on and taken off.

    Input is in [0, 1]; what a network was trained on besides (mean and deviation) it takes care of itself.

    ``config`` holds what `create_model` made it of, ``loaded`` what became of its weight file.

    Subclasses set ``feature_info`` and ``stage_info``, and give `stages` (or, where data takes another course than from
    stage to stage, override `forward_stages` and `forward_features`).

    Args:
        mean, std: of the channels, subtracted and divided by first.
        dropout: before the classifier.
    """

    feature_info: FeatureInfo
    stage_info: tuple[FeatureInfo, ...] = ()
    config: Mapping[str, object]
    loaded: Report | None = None

    def __init__(self, mean: Sequence[float] = (), std: Sequence[float] = (), dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean) if mean else None, persistent=False)
        self.register_buffer("std", torch.tensor(std) if std else None, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Identity()
        self.grad_checkpointing = False

    @property
    def num_features(self) -> int:
        """Channels of the features."""
        return self.feature_info.channels

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put a new linear classifier on top, or take it off (None)."""
        self.classifier = nn.Identity() if num_classes is None else nn.Linear(self.num_features, num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: compute what lies within a stage again in the backward pass."""
        self.grad_checkpointing = enable

    def stages(self) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        """Names and modules in the order of the data; names are those of ``stage_info``."""
        raise NotImplementedError

    def normalized(self, x: Tensor) -> Tensor:
        """``[B, C, ...]`` in [0, 1] as the network was trained on it."""
        if self.mean is None:
            return x
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - self.mean.view(shape)) / self.std.view(shape)

    def run(self, stage: Callable[..., Tensor], *x: Tensor) -> Tensor:
        """A stage, checkpointed where that is wanted."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, *x, use_reentrant=False)
        return stage(*x)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """Output of each stage by its name, each like that of `forward_features`."""
        found = {}
        x = self.normalized(x)
        for name, stage in self.stages():
            found[name] = x = self.run(stage, x)
        return found

    def forward_features(self, x: Tensor) -> Tensor:
        """Video ``[B, C, T, H, W]`` to ``[B, D, T', Y, X]``; audio ``[B, 1, F, N]`` to ``[B, D, U]``."""
        x = self.normalized(x)
        for _, stage in self.stages():
            x = self.run(stage, x)
        return x

    def forward_head(self, features: Tensor) -> Tensor:
        """Features averaged over time and space, then classified: ``[B, num_classes]`` (or ``[B, D]``)."""
        return self.classifier(self.dropout(features.flatten(2).mean(-1)))

    def forward(self, x: Tensor) -> Tensor:
        """Input to class scores (or pooled features where there is no classifier)."""
        return self.forward_head(self.forward_features(x))
