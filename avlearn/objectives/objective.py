"""What every objective has: a batch as the towers give it, negatives of all processes, a schedule of shifts."""

import math
from dataclasses import asdict, dataclass
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from avlearn.objectives.similarity import offset_scores
from avlearn.validation import STRICT, validated


@dataclass(frozen=True)
class Pair:
    """A batch as the towers give it, on one clock: step 0 of the picture coincides with step ``offset`` of the sound.

    Attributes:
        video: ``[B, D, T, Y, X]`` in the common space, of unit length over D.
        audio: ``[B, D, U]`` likewise, ``U > T``.
        offset: ``[B]``, integer steps.
        clip: ``[B]``, the number of each clip in its data set.
        video_features: ``[B, D', T, Y, X]``, before the common space.
        audio_features: ``[B, D'', U]``, likewise.
        target: what a slowly moving copy of the towers gives for the same batch, without a gradient; None where the
            objective has no ``momentum``.
    """

    video: Tensor
    audio: Tensor
    offset: Tensor
    clip: Tensor
    video_features: Tensor
    audio_features: Tensor
    target: "Pair | None" = None


class ObjectiveOutput(NamedTuple):
    """A loss (scalar tensor), and figures to log beside it, which have no gradient."""

    loss: Tensor
    logs: dict[str, Tensor]


@dataclass(frozen=True)
class ShiftSchedule:
    """How near to the truth a shifted sound may be to count as wrong: from far to near, evenly in ratio.

    Attributes:
        first, last: smallest shift in seconds at the start, and from ``until`` on.
        until: share of the training.
    """

    __pydantic_config__ = STRICT

    first: Annotated[float, Field(gt=0, le=600)]
    last: Annotated[float, Field(gt=0, le=600)]
    until: Annotated[float, Field(ge=0, le=1)]

    def __call__(self, progress: float) -> float:
        """Seconds, at a share of the training in [0, 1]."""
        done = min(progress / self.until, 1.0) if self.until > 0 else 1.0
        return math.exp((1 - done) * math.log(self.first) + done * math.log(self.last))


@dataclass(frozen=True)
class Setting:
    """What an objective has to do with.

    Attributes:
        step: seconds of a step.
        steps: of a picture (see `Pair`).
        offsets: that the sound allows.
        video_channels, audio_channels: of the features, before the common space.
        dim: of the common space.
        clips: of the data set.
    """

    __pydantic_config__ = STRICT

    step: Annotated[float, Field(gt=0, le=600)]
    steps: Annotated[int, Field(ge=1, le=2000)]
    offsets: Annotated[int, Field(ge=1, le=2000)]
    video_channels: Annotated[int, Field(ge=1, le=65536)]
    audio_channels: Annotated[int, Field(ge=1, le=65536)]
    dim: Annotated[int, Field(ge=1, le=65536)]
    clips: Annotated[int, Field(ge=0, le=2**40)]


class Objective(nn.Module):
    """Features to a loss.

    Args:
        schedule: of the smallest shift that counts as wrong.
        setting: of towers and data.

    Attributes:
        progress: share of the training that is done; whoever trains sets it.
        pool_scale: sharpness of the soft maximum over places.
        scale: one over the temperature of similarities.
        common_space: whether it teaches the towers to meet there, which all that compares them needs.
        frozen: whether it leaves them as they are.
        momentum: share of itself that a copy of the towers keeps in a step, the rest being the towers' (see
            `Pair.target`); None for no copy.
        dropout: share of the picture's features that the common space does not see in training.

    Raises:
        ModelError: a number of the schedule or the setting is out of its bounds.
    """

    progress: float = 0.0
    pool_scale: float = 20.0
    scale: float | Tensor = 20.0
    common_space: bool = True
    frozen: bool = False
    momentum: float | None = None
    dropout: float = 0.0

    def __init__(self, schedule: ShiftSchedule, setting: Setting) -> None:
        super().__init__()
        # What could not be read back is not made.
        validated(ShiftSchedule, asdict(schedule), "objective.shift")
        validated(Setting, asdict(setting), "objective")
        self.schedule, self.setting = schedule, setting

    def transform(self, video: Tensor, audio: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the towers are to see of a batch that is trained on; here: all as it is.

        Args:
            video: ``[B, C, T, H, W]`` in [0, 1].
            audio: ``[B, S]``.
            offset: ``[B]`` steps.
        """
        return video, audio, offset

    def forward(self, pair: Pair) -> ObjectiveOutput:
        """The loss of a batch."""
        raise NotImplementedError

    def offset_scores(self, pair: Pair, offsets: Tensor) -> Tensor:
        """How well each picture goes with its own sound, shifted: the higher the better.

        Args:
            pair: of one process.
            offsets: ``[O]``, steps from the true offset: 0 is the truth.

        Returns:
            ``[B, O]``; NaN where less than half of the picture has sound.
        """
        rows = [
            offset_scores(pair.video[i : i + 1], pair.audio[i : i + 1], self.pool_scale, int(pair.offset[i]), offsets)
            for i in range(len(pair.video))
        ]
        return torch.cat(rows)

    @property
    def nearest(self) -> int:
        """The smallest shift that counts as wrong now, in steps."""
        return max(round(self.schedule(self.progress) / self.setting.step), 1)

    def wrong_offsets(self, pair: Pair) -> Tensor:
        """A wrong offset of each clip: ``[B]``, the right one shifted by the smallest shift at least, around the end.

        (By half of the offsets, where the smallest shift is longer than that.)

        So every offset is as often wrong as right where right ones are drawn evenly. Were it otherwise, the sound alone
        would tell: its features are different near the ends.
        """
        offsets = self.setting.offsets
        nearest = min(self.nearest, offsets // 2)
        shift = torch.randint(nearest, offsets - nearest + 1, pair.offset.shape, device=pair.offset.device)
        return (pair.offset + shift) % offsets


def aligned_audio(audio: Tensor, offset: Tensor, steps: int) -> Tensor:
    """The audio that goes with a video of so many steps: ``[B, D, U]`` and ``[B]`` to ``[B, D, steps]``.

    >>> aligned_audio(torch.arange(5.0).view(1, 1, 5), torch.tensor([2]), 3)
    tensor([[[2., 3., 4.]]])
    """
    index = offset[:, None] + torch.arange(steps, device=audio.device)
    return audio.gather(2, index[:, None].expand(-1, audio.shape[1], -1))


def clip_vectors(pair: Pair, whole_audio: bool = False) -> tuple[Tensor, Tensor]:
    """One vector a clip, of any length: means over time and space, ``[B, D]`` each.

    Args:
        pair: a batch.
        whole_audio: takes all of the audio, also what goes beyond the video.
    """
    audio = pair.audio if whole_audio else aligned_audio(pair.audio, pair.offset, pair.video.shape[2])
    return pair.video.mean((2, 3, 4)), audio.mean(2)


def unused(pair: Pair) -> Tensor:
    """Zero, with a gradient of zero for the common space.

    Objectives on features add it: processes that average gradients want one for every parameter.
    """
    return 0.0 * (pair.video.sum() + pair.audio.sum())
