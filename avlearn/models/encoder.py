"""The interface that every encoder has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avlearn.errors import ModelError
from avlearn.models.registry import CHANNELS, Takes

if TYPE_CHECKING:  # importers are for encoders
    from avlearn.models.weights.importers import Report

T = TypeVar("T")


@dataclass(frozen=True)
class FeatureInfo:
    """Where features lie: channels, the input frames and pixels (rows, columns) of one step, the stage's name."""

    channels: int
    stride: tuple[int, int, int]  # t, y, x; audio: spectrogram frames, bins (all of them: 0), 0
    name: str = "features"


class BuildConfig(TypedDict):
    """The name and options that `create_model` makes an encoder of."""

    name: str
    num_classes: int | None
    options: Mapping[str, object]


class Encoder(nn.Module):
    """A network from one tensor to features, with a linear classifier that can be put on and taken off.

    Input is in [0, 1]; what a network was trained on besides (mean and std) it takes care of itself.

    ``config`` holds what `create_model` made it of, ``loaded`` what became of its weight file.

    Subclasses set ``feature_info`` and ``stage_info``, and give `stages` (or, where data takes another course than from
    stage to stage, override `forward_stages` and `forward_features`, beginning with `prepared`).

    Args:
        mean, std: of the channels, subtracted and divided by first.
        dropout: before the classifier.

    Attributes:
        axes: of an input, after the batch.
        in_chans: of an input; None: not checked.
        frame_multiple, least_frames: what the number of frames (of a video, or of a spectrogram) has to be.
        least_side: of a video's rows and columns, and of a spectrogram's bins.
        bins: of a spectrogram, where only so many fit.
        head_parts: modules that `forward_features` has no use for, only the classifier.
        flow_method: how the optical flow that it sees is made of frames: a key of `avlearn.signal.flow.METHODS`.
    """

    mean: Tensor | None
    std: Tensor | None
    axes: tuple[str, ...] = ("C", "T", "H", "W")
    in_chans: int | None = None
    frame_multiple: int = 1
    least_frames: int = 1
    least_side: int = 1
    bins: int | None = None
    head_parts: tuple[str, ...] = ()
    flow_method: str = "lucas_kanade"
    feature_info: FeatureInfo
    stage_info: tuple[FeatureInfo, ...] = ()
    config: BuildConfig
    loaded: "Report | None" = None

    def __init__(self, mean: Sequence[float] = (), std: Sequence[float] = (), dropout: float = 0.0) -> None:
        super().__init__()
        self.in_chans = len(mean) or self.in_chans
        self.register_buffer("mean", torch.tensor(mean) if mean else None, persistent=False)
        self.register_buffer("std", torch.tensor(std) if std else None, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Identity()
        self.grad_checkpointing = False

    @property
    def num_features(self) -> int:
        """Channels of the features."""
        return self.feature_info.channels

    @property
    def takes(self) -> Takes:
        """What a video encoder sees, by its channels: frames, or their flow along x and y, or both, frames first.

        Flow is in [0, 1], 0.5 where nothing moves; more than two channels of it, always even, are stacks of the flows
        from several frames on. `avlearn.models.inputs.encoder_input` makes it all of frames.
        """
        if self.in_chans == CHANNELS["video+flow"]:
            return "video+flow"
        return "flow" if self.in_chans and self.in_chans % 2 == 0 else "video"

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put a new linear classifier on top, or take it off (None or, as in timm, 0)."""
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def as_tower(self) -> Self:
        """Take off the classifier and all that only it reads: every parameter that is left gets a gradient."""
        self.reset_classifier(None)
        for name in self.head_parts:
            setattr(self, name, nn.Identity())
        return self

    @property
    def removed_parts(self) -> list[str]:
        """Of ``head_parts``, those that are taken off."""
        return [name for name in self.head_parts if isinstance(getattr(self, name), nn.Identity)]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        # Weights of a whole network fit a tower.
        off = tuple(f"{prefix}{name}." for name in self.removed_parts)
        for key in [key for key in state_dict if key.startswith(off)]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def to(self, *args: Any, memory_format: torch.memory_format | None = None, **kwargs: Any) -> Self:
        """As `torch.nn.Module.to`; of weights over images only, ``channels_last_3d`` changes nothing."""
        if memory_format != torch.channels_last_3d:
            return super().to(*args, **kwargs | ({"memory_format": memory_format} if memory_format else {}))
        for parameter in super().to(*args, **kwargs).parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=memory_format)
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: compute what lies within a stage again in the backward pass."""
        self.grad_checkpointing = enable

    def stages(self) -> Sequence[tuple[str, Callable[[Tensor], Tensor]]]:
        """Names and modules in the order of the data; names are those of ``stage_info``."""
        raise NotImplementedError

    def frames_for(self, count: int) -> int:
        """The smallest number of frames, of ``count`` or more, that the network takes."""
        return -(-max(count, self.least_frames) // self.frame_multiple) * self.frame_multiple

    def check(self, x: Tensor) -> None:
        """Raise ModelError where the network cannot take an input, in words."""
        name, shape = type(self).__name__, list(x.shape)
        if x.ndim != len(self.axes) + 1:
            image = "; of an image, x[:, :, None] is a clip of one frame" if x.ndim == 4 and "T" in self.axes else ""
            raise ModelError(f"{name} takes [B, {', '.join(self.axes)}], not {shape}{image}")
        if self.in_chans not in (None, shape[1]):
            raise ModelError(f"{name} takes {self.in_chans} channels, not {shape[1]} (of {shape})")
        sides = dict(zip(self.axes, shape[1:], strict=True))
        if self.bins not in (None, sides.get("F")):
            raise ModelError(f"{name} takes spectrograms of {self.bins} bins, not {sides['F']}")
        frames = sides.get("T", sides.get("N", 0))
        if frames != self.frames_for(frames):
            least = self.frames_for(1)
            needs = f"at least {least}" if frames < least else f"a multiple of {self.frame_multiple}"
            raise ModelError(f"{name}: frames are {needs}, not {frames}; the last one may be repeated")
        if min(sides.get(side, self.least_side) for side in "HWF") < self.least_side:
            what = "spectrograms of at least {} bins" if "F" in sides else "frames of at least {} pixels a side"
            raise ModelError(f"{name} takes {what.format(self.least_side)}, not {shape[2 + ('T' in sides) :]}")
        weights = next(self.parameters()).dtype
        if x.dtype != weights and not (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
            raise ModelError(f"{name}: the input is {x.dtype}, the weights are {weights}".replace("torch.", ""))

    def normalized(self, x: Tensor) -> Tensor:
        """``[B, C, ...]`` in [0, 1] as the network was trained on it."""
        if self.mean is None or self.std is None:
            return x
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - self.mean.view(shape)) / self.std.view(shape)

    def prepared(self, x: Tensor) -> Tensor:
        """The input as the first stage takes it, once it is checked."""
        self.check(x)
        return self.normalized(x)

    def run(self, stage: Callable[..., T], *inputs: object) -> T:
        """A stage, checkpointed where that is wanted."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, *inputs, use_reentrant=False)
        return stage(*inputs)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """Output of each stage by its name, each like that of `forward_features`."""
        found = {}
        x = self.prepared(x)
        for name, stage in self.stages():
            found[name] = x = self.run(stage, x)
        return found

    def forward_features(self, x: Tensor) -> Tensor:
        """Video ``[B, C, T, H, W]`` to ``[B, D, T', Y, X]``; audio ``[B, 1, F, N]`` to ``[B, D, U]``."""
        x = self.prepared(x)
        for _, stage in self.stages():
            x = self.run(stage, x)
        return x

    def forward_head(self, features: Tensor) -> Tensor:
        """Features averaged over time and space, then classified: ``[B, num_classes]`` (or ``[B, D]``)."""
        return self.classifier(self.dropout(features.flatten(2).mean(-1)))

    def forward(self, x: Tensor) -> Tensor:
        """Input to class scores (or pooled features where there is no classifier)."""
        return self.forward_head(self.forward_features(x))


def pooled(features: Tensor) -> Tensor:
    """The mean over time and space: ``[B, D, ...]`` to float ``[B, D]``."""
    return features.flatten(2).mean(2).float() if features.ndim > 2 else features.float()
