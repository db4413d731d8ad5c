"""The base of objectives: the batch that they see, sizes of features, and the schedule of shifts."""

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from avlearn.objectives.similarity import offset_scores
from avlearn.validation import STRICT, Seconds, Share, validated

# Of options: a recipe may write 1 for 1.0; what is stored is read strictly all the same.
_OPTIONS = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, init=False)
class EmbeddedBatch:
    """Embeddings of a batch of clips on one clock: step 0 of the video coincides with step ``offset`` of the audio.

    Only ``video`` and ``audio`` have to be given. Embeddings of whole clips, ``[B, D]`` each, are clips of one step.

    Attributes:
        video: ``[B, D, T, Y, X]`` in the common space, of unit length over D.
        audio: ``[B, D, U]`` likewise, ``U >= T``.
        offset: ``[B]``, integer steps; by default 0.
        clip: ``[B]``, the number of each clip in its data set; by default its row.
        video_features: ``[B, D', T, Y, X]``, before the common space; by default ``video``.
        audio_features: ``[B, D'', U]``, likewise.
        target: what a momentum encoder gives for the same batch, without a gradient; None where the objective has no
            ``momentum``.

    Raises:
        ValueError: an embedding has other axes.

    >>> batch = EmbeddedBatch(torch.eye(4), torch.eye(4))
    >>> batch.video.shape, batch.audio.shape, batch.offset
    (torch.Size([4, 4, 1, 1, 1]), torch.Size([4, 4, 1]), tensor([0, 0, 0, 0]))
    """

    video: Tensor
    audio: Tensor
    offset: Tensor
    clip: Tensor
    video_features: Tensor
    audio_features: Tensor
    target: "EmbeddedBatch | None"

    def __init__(
        self,
        video: Tensor,
        audio: Tensor,
        offset: Tensor | None = None,
        clip: Tensor | None = None,
        video_features: Tensor | None = None,
        audio_features: Tensor | None = None,
        target: "EmbeddedBatch | None" = None,
    ) -> None:
        video = video[:, :, None, None, None] if video.ndim == 2 else video
        audio = audio[:, :, None] if audio.ndim == 2 else audio
        if video.ndim != 5 or audio.ndim != 3:
            shapes = f"{list(video.shape)} and {list(audio.shape)}"
            raise ValueError(f"a batch takes [B, D, T, Y, X] and [B, D, U], or [B, D] of whole clips, not {shapes}")
        rows = torch.arange(len(video), device=video.device)
        values = {
            "video": video,
            "audio": audio,
            "offset": torch.zeros_like(rows) if offset is None else offset,
            "clip": rows if clip is None else clip,
            "video_features": video if video_features is None else video_features,
            "audio_features": audio if audio_features is None else audio_features,
            "target": target,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)


class ObjectiveOutput(NamedTuple):
    """A loss (scalar tensor), and figures to log beside it, which have no gradient."""

    loss: Tensor
    logs: dict[str, Tensor]


@dataclass(frozen=True)
class ShiftSchedule:
    """Smallest shift of audio that counts as wrong: from far to near, evenly in ratio.

    Attributes:
        first, last: seconds at the start, and from ``until`` on.
        until: share of the training, in [0, 1].

    >>> round(ShiftSchedule(first=1.6, last=0.1, until=0.5)(0.25), 6)
    0.4
    """

    __pydantic_config__ = _OPTIONS

    first: Seconds = 0.16
    last: Seconds = 0.16
    until: Share = 0.0

    def __call__(self, progress: float) -> float:
        """Seconds, at a share of the training in [0, 1]."""
        done = min(progress / self.until, 1.0) if self.until > 0 else 1.0
        return math.exp((1 - done) * math.log(self.first) + done * math.log(self.last))


@dataclass(frozen=True)
class FeatureSpec:
    """Sizes of the features and of the data set, as far as an objective needs them; by default the default model's.

    Attributes:
        step: seconds of a step.
        steps: of a video (see `EmbeddedBatch`).
        offsets: that the audio allows.
        video_channels, audio_channels: of the features, before the common space.
        dim: of the common space.
        clips: of the data set; 0 where it is not known.
    """

    __pydantic_config__ = STRICT

    step: Annotated[float, Field(gt=0, le=600)] = 0.08
    steps: Annotated[int, Field(ge=1, le=2000)] = 25
    offsets: Annotated[int, Field(ge=1, le=2000)] = 25
    video_channels: Annotated[int, Field(ge=1, le=65536)] = 128
    audio_channels: Annotated[int, Field(ge=1, le=65536)] = 128
    dim: Annotated[int, Field(ge=1, le=65536)] = 128
    clips: Annotated[int, Field(ge=0, le=2**40)] = 0


@dataclass(frozen=True)
class TrainingSetup:
    """The rest of a recipe, to which options of an objective are held.

    Attributes:
        dim: of the common space.
        context: seconds by which the audio is longer than the video, on each side.
        pretrained: whether the encoders start from a trained model.
        sharded: whether processes share the weights.
    """

    dim: int
    context: float
    pretrained: bool
    sharded: bool


@dataclass(frozen=True)
class ObjectiveOptions:
    """Options of an objective: the one declaration that recipes, model folders and the module share.

    Each objective has a subclass, whose fields are annotated with their bounds.

    Attributes:
        name: of the objective in recipes.
        shift: smallest shift of audio that counts as wrong.
        shifts_audio: whether it tells offsets of the same audio apart, and so needs more audio than video.
    """

    __pydantic_config__ = _OPTIONS

    name: str = ""
    shift: ShiftSchedule = ShiftSchedule()
    shifts_audio: ClassVar[bool] = True

    def offset_unit(self, step: float) -> float:
        """Seconds from one offset to the next, and of the unit of a batch's ``offset``; by default a step."""
        return step

    def check(self, setup: TrainingSetup) -> None:
        """Hold the options to what else is trained with.

        Raises:
            ValueError: they do not go together; the message begins with the recipe's key.
        """
        if self.shifts_audio and setup.context == 0:
            raise ValueError(f"clip.context: the objective '{self.name}' needs more audio than video")


OptionsT = TypeVar("OptionsT", bound=ObjectiveOptions)


class Objective(nn.Module, Generic[OptionsT]):
    """A loss of a batch of embeddings, with what it learns and remembers.

    Args:
        options: an instance of ``Options``; by default one with all defaults.
        spec: of features and data.

    Attributes:
        Options: the class of its options.
        progress: share of the training that is done; whoever trains sets it.
        common_space: whether it trains embeddings of video and audio that can be compared.
        frozen: whether it leaves the encoders as they are.
        former_names: of parts, as files and checkpoints of earlier versions have them, with the names of today.
        momentum: share of itself that a momentum encoder keeps in a step, the rest being the encoders' (see
            `EmbeddedBatch.target`); None for none.
        dropout: share of the video's features that the common space does not see in training.

    Raises:
        ModelError: a number of the options or the spec is out of its bounds.
    """

    Options: ClassVar[type[ObjectiveOptions]] = ObjectiveOptions
    progress: float = 0.0
    common_space: bool = True
    frozen: bool = False
    former_names: ClassVar[dict[str, str]] = {}
    momentum: float | None = None
    dropout: float = 0.0

    def __init__(self, options: OptionsT | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__()
        self.options = cast("OptionsT", self.Options()) if options is None else options
        self.spec = FeatureSpec() if spec is None else spec
        # What could not be read back is not made.
        validated(self.Options, asdict(self.options), "objective")
        validated(FeatureSpec, asdict(self.spec), "objective")
        nn.Module.register_load_state_dict_pre_hook(self, _take_former_names)

    @property
    def scale(self) -> float | Tensor:
        """One over the temperature of similarities."""
        return 20.0

    @property
    def pool_scale(self) -> float:
        """Sharpness of the soft maximum over places."""
        return 20.0

    @property
    def offset_classes(self) -> int:
        """Number of offsets that a batch may have, each a unit (`ObjectiveOptions.offset_unit`) from the next."""
        unit = self.options.offset_unit(self.spec.step)
        return round((self.spec.offsets - 1) * self.spec.step / unit) + 1

    @classmethod
    def renamed(cls, name: str) -> str:
        """Today's name of a tensor that a file of an earlier version may name otherwise."""
        part, dot, rest = name.partition(".")
        return cls.former_names.get(part, part) + dot + rest

    def transform(self, video: Tensor, audio: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The input of the encoders in training; by default the batch as it is.

        Args:
            video: ``[B, C, T, H, W]`` in [0, 1].
            audio: ``[B, S]``.
            offset: ``[B]`` steps.
        """
        return video, audio, offset

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        """The loss of a batch."""
        raise NotImplementedError

    def offset_scores(self, batch: EmbeddedBatch, offsets: Tensor) -> Tensor:
        """Score of each video with its own audio, shifted: the higher the better.

        Args:
            batch: of one process.
            offsets: ``[O]``, steps from the true offset: 0 is the truth.

        Returns:
            ``[B, O]``; NaN where less than half of the video has audio.
        """
        rows = [
            offset_scores(
                batch.video[i : i + 1], batch.audio[i : i + 1], self.pool_scale, int(batch.offset[i]), offsets
            )
            for i in range(len(batch.video))
        ]
        return torch.cat(rows)

    @property
    def nearest(self) -> int:
        """The smallest shift that counts as wrong now, in steps."""
        return max(round(self.options.shift(self.progress) / self.spec.step), 1)

    def wrong_offsets(self, batch: EmbeddedBatch) -> Tensor:
        """A random wrong offset of each clip: ``[B]``, the right one shifted by `nearest` or more, around the end.

        (By half of the offsets, where `nearest` is more than that.)

        So every offset is as often wrong as right where right ones are drawn evenly. Were it otherwise, the audio alone
        would tell: its features are different near the ends.

        Raises:
            ValueError: the batch's audio does not allow as many offsets as the specification of features says.
        """
        offsets, allowed = self.spec.offsets, batch.audio.shape[2] - batch.video.shape[2] + 1
        if offsets > allowed:
            raise ValueError(f"the batch's audio allows {allowed} offsets: give FeatureSpec(offsets={allowed})")
        nearest = min(self.nearest, offsets // 2)
        shift = torch.randint(nearest, offsets - nearest + 1, batch.offset.shape, device=batch.offset.device)
        return (batch.offset + shift) % offsets


def _take_former_names(objective: Objective[Any], tensors: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Give the tensors that are about to be loaded the names of today."""
    for key in [key for key in tensors if key.startswith(prefix)]:
        tensors[prefix + objective.renamed(key.removeprefix(prefix))] = tensors.pop(key)


def aligned_audio(audio: Tensor, offset: Tensor, steps: int) -> Tensor:
    """The audio that goes with a video of so many steps: ``[B, D, U]`` and ``[B]`` to ``[B, D, steps]``.

    >>> aligned_audio(torch.arange(5.0).view(1, 1, 5), torch.tensor([2]), 3)
    tensor([[[2., 3., 4.]]])
    """
    index = offset[:, None] + torch.arange(steps, device=audio.device)
    return audio.gather(2, index[:, None].expand(-1, audio.shape[1], -1))


def clip_vectors(batch: EmbeddedBatch, whole_audio: bool = False) -> tuple[Tensor, Tensor]:
    """One vector a clip, of any length: means over time and space, ``[B, D]`` each.

    Args:
        batch: a batch.
        whole_audio: takes all of the audio, also what goes beyond the video.
    """
    audio = batch.audio if whole_audio else aligned_audio(batch.audio, batch.offset, batch.video.shape[2])
    return batch.video.mean((2, 3, 4)), audio.mean(2)


def zero_gradient(batch: EmbeddedBatch) -> Tensor:
    """Zero, with a gradient of zero for the common space.

    Objectives on features add it: processes that average gradients want one for every parameter.
    """
    return 0.0 * (batch.video.sum() + batch.audio.sum())
