"""SLAVC: localization and correspondence, against a copy of the towers that moves slowly."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from avlearn.objectives.contrastive import TemperatureOptions, cross_modal_cross_entropy
from avlearn.objectives.gather import gather_with_gradient
from avlearn.objectives.localization import FixedTemperature, similarity_maps, time_means
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    ObjectiveOutput,
    TrainingSetup,
)
from avlearn.objectives.registry import register
from avlearn.validation import Positive


def slavc(
    video: Tensor, audio: Tensor, target_video: Tensor, target_audio: Tensor, temperature: float = 0.03
) -> ObjectiveOutput:
    """Simultaneous localization and audio-visual correspondence (SLAVC: Mo & Morgado, NeurIPS 2022).

    Each side has two projections, the halves of D, and so there are two maps: one is a softmax over the audio at each
    place, the other over the places under each audio; where they agree, summed over places, is the probability that the
    audio is the clip's. Videos are compared with the audio of a momentum encoder, and its videos with the audio; both
    ways the audio competes, as in the authors' code. Negatives: the audio of other clips, over all processes.

    Args:
        video: ``[B, D, Y, X]`` of any length over each half of D, which is even.
        audio: ``[B, D]``.
        target_video, target_audio: of the momentum encoder, likewise.
        temperature: of the cosine similarities; the authors' code has 0.03.

    Returns:
        The loss; logs ``video_to_target``, ``target_to_audio`` (the two parts) and ``retrieval`` (share of videos whose
        own target audio is the likeliest).

    >>> audio = torch.eye(4).repeat(1, 2)
    >>> video = torch.zeros(4, 8, 3, 3)
    >>> video[:, :, 1, 2] = audio
    >>> loss, logs = slavc(video, audio, video, audio)
    >>> round(float(loss), 4), float(logs["retrieval"])  # at places that are silent, all audio is as likely
    (1.0217, 1.0)
    """
    (places, audio), (target_places, target_audio) = _halves(video, audio), _halves(target_video, target_audio)
    to_target = _log_agreement(places, gather_with_gradient(target_audio), temperature)
    of_target = _log_agreement(target_places, gather_with_gradient(audio), temperature)
    loss, logs = cross_modal_cross_entropy(to_target, of_target)
    names = {"video_to_audio": "video_to_target", "audio_to_video": "target_to_audio"}
    return ObjectiveOutput(loss, {names.get(name, name): value for name, value in logs.items()})


def _halves(video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, 2, D / 2, P]`` and ``[B, 2, D / 2]``, each half of unit length."""
    places = video.flatten(2).unflatten(1, (2, -1))
    return F.normalize(places, dim=2), F.normalize(audio.unflatten(1, (2, -1)), dim=2)


def _log_agreement(places: Tensor, audio: Tensor, temperature: float) -> Tensor:
    """Videos ``[B, 2, D / 2, P]`` under audio ``[C, 2, D / 2]``: log-probabilities ``[B, C]``."""
    which, where = (similarity_maps(places[:, k], audio[:, k]) / temperature for k in range(2))
    return torch.logsumexp(which.log_softmax(1) + where.log_softmax(2), 2)


@dataclass(frozen=True)
class SLAVCOptions(TemperatureOptions):
    """Options of `SLAVC`.

    Attributes:
        temperature: of similarities; the authors' code has 0.03.
        momentum: of the momentum encoder, in [0, 1); theirs is 0.999.
        dropout: of the video's features, in [0, 1); theirs is 0.9, of 512 channels.
    """

    name: Literal["slavc"] = "slavc"
    temperature: Positive = 0.03
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.9
    shifts_audio = False

    def check(self, setup: TrainingSetup) -> None:
        super().check(setup)
        if setup.sharded:
            raise ValueError("trainer.strategy: the towers' copy of the objective 'slavc' is not shared out; take ddp")
        if setup.dim % 2:
            raise ValueError(f"model.dim: {setup.dim} does not split into the two halves of the objective 'slavc'")


@register
class SLAVC(FixedTemperature[SLAVCOptions]):
    """`slavc` of clips' means over time, against a copy of the towers that follows them by ``momentum``.

    The two projections are the halves of the common space, each of unit length; ``spec.dim`` is even. Whoever compares
    places with audio in all of that space, as the readouts do, weighs the two maps by the lengths of the halves, where
    the authors take the mean.
    """

    Options = SLAVCOptions

    def __init__(self, options: SLAVCOptions | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        self.momentum, self.dropout = self.options.momentum, self.options.dropout

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        if batch.target is None:
            raise ValueError("SLAVC compares with a momentum encoder: the batch has no target")
        return slavc(*time_means(batch), *time_means(batch.target), self.options.temperature)
