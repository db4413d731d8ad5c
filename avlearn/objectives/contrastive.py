"""Contrastive losses on one vector a clip, or a segment: InfoNCE, GDT, Synchformer's first stage, AVTS."""

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives.gather import gather_with_gradient, other_clips, own_rows
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    aligned_audio,
    clip_vectors,
)
from avlearn.objectives.registry import register
from avlearn.validation import Positive, Seconds, Share


def cross_modal_cross_entropy(video_to_audio: Tensor, audio_to_video: Tensor) -> ObjectiveOutput:
    """Sum of both directions' cross-entropies, where a clip's own key is the right one.

    Args:
        video_to_audio: logits ``[B, G]`` of this process's videos for the audio of all processes' clips, and for any
            further audio behind it.
        audio_to_video: ``[B, G]``, the reverse.

    Returns:
        The loss; logs ``video_to_audio``, ``audio_to_video`` (the two parts) and ``retrieval`` (share of videos whose
        own audio has the highest logit).

    >>> loss, logs = cross_modal_cross_entropy(5 * torch.eye(3), 5 * torch.eye(3))
    >>> round(float(loss), 4), float(logs["retrieval"])
    (0.0268, 1.0)
    """
    own = own_rows(len(video_to_audio), video_to_audio.device)
    forward, backward = F.cross_entropy(video_to_audio, own), F.cross_entropy(audio_to_video, own)
    logs = {
        "video_to_audio": forward.detach(),
        "audio_to_video": backward.detach(),
        "retrieval": (video_to_audio.argmax(1) == own).float().mean(),
    }
    return ObjectiveOutput(forward + backward, logs)


def info_nce(
    video: Tensor, audio: Tensor, temperature: float | Tensor = 0.07, more_audio: Tensor | None = None
) -> ObjectiveOutput:
    """InfoNCE across modalities, both ways (van den Oord et al., arXiv 2018; Morgado et al., CVPR 2021).

    Negatives: the other clips of the batch, over all processes.

    Args:
        video, audio: ``[B, D]`` of any length; row i of the one goes with row i of the other.
        temperature: of the cosine similarities.
        more_audio: ``[N, D]``, which goes with none of the videos.

    Returns:
        See `cross_modal_cross_entropy`.

    >>> video = torch.eye(4)
    >>> loss, logs = info_nce(video, video + 0.1)
    >>> round(float(loss), 4)
    0.0
    >>> mismatched, _ = info_nce(video, video.roll(1, 0))
    >>> bool(mismatched > loss)
    True
    """
    video, audio = F.normalize(video, dim=1), F.normalize(audio, dim=1)
    all_audio, all_video = gather_with_gradient(audio), gather_with_gradient(video)
    if more_audio is not None:
        all_audio = torch.cat([all_audio, gather_with_gradient(F.normalize(more_audio, dim=1))])
    return cross_modal_cross_entropy(video @ all_audio.T / temperature, audio @ all_video.T / temperature)


def gdt(video: Tensor, audio: Tensor, shifted_audio: Tensor, temperature: float | Tensor = 0.07) -> ObjectiveOutput:
    """Generalized data transformations (Patrick et al., ICCV 2021), distinctive to time shift and reversal.

    Negatives: those of `info_nce`, and for videos all clips' audio at another time. For reversal, the batch holds each
    clip twice, forwards and backwards: two clips that have nothing to do with each other.

    Args:
        video, audio: ``[B, D]`` of any length.
        shifted_audio: ``[B, D]``, of the same clips at another time.
        temperature: of the cosine similarities.

    Returns:
        See `cross_modal_cross_entropy`.

    >>> video, audio = torch.eye(4)[:2], torch.eye(4)[:2]
    >>> alone, _ = gdt(video, audio, torch.eye(4)[2:])
    >>> still, _ = gdt(video, audio, audio)  # audio that is the same at another time cannot be told
    >>> bool(still > alone + 0.6)
    True
    """
    return info_nce(video, audio, temperature, shifted_audio)


def segment_info_nce(video: Tensor, audio: Tensor, length: int, temperature: float | Tensor = 0.07) -> ObjectiveOutput:
    """InfoNCE of segments: the first stage of Synchformer (Iashin et al., ICASSP 2024).

    Negatives: the clip's other segments, and all segments of other clips, over all processes.

    Args:
        video: ``[B, D, T, Y, X]``.
        audio: ``[B, D, T]``, aligned.
        length: of a segment, steps; steps that fill no segment are left out.
        temperature: of the cosine similarities.

    Returns:
        See `cross_modal_cross_entropy`.

    >>> audio = torch.eye(8).view(2, 8, 4).contiguous()
    >>> loss, logs = segment_info_nce(audio[..., None, None], audio, length=2)
    >>> float(logs["retrieval"])
    1.0
    """
    count = video.shape[2] // length
    video, audio = video[:, :, : count * length].mean((3, 4)), audio[:, :, : count * length]
    video, audio = (x.unflatten(2, (count, length)).mean(3).transpose(1, 2).flatten(0, 1) for x in (video, audio))
    return info_nce(video, audio, temperature)


def margin_contrastive(
    video: Tensor, audio: Tensor, wrong_audio: Tensor | None = None, margin: float = 0.99
) -> ObjectiveOutput:
    """Contrastive loss of distances (Hadsell et al., CVPR 2006), as AVTS uses it (Korbar et al., NeurIPS 2018).

    The distance of a video to its audio is to be small, that to wrong audio ``margin`` or more.

    Args:
        video, audio: ``[B, D]`` of any length; distances are between their directions.
        wrong_audio: ``[B, D]``; by default of a random other clip each, of any process.
        margin: in (0, 2).

    Returns:
        The loss; logs ``positive_distance``, ``negative_distance`` and ``accuracy`` (share of videos that are nearer to
        their audio than to the wrong one).

    >>> video = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> loss, logs = margin_contrastive(video, video)
    >>> float(loss), float(logs["accuracy"])
    (0.0, 1.0)
    """
    wrong_audio = other_clips(audio) if wrong_audio is None else wrong_audio
    video, audio, wrong = (F.normalize(x, dim=1) for x in (video, audio, wrong_audio))
    positive = (video - audio).square().sum(1)
    negative = (video - wrong).square().sum(1).clamp(min=1e-12).sqrt()
    loss = (positive + (margin - negative).clamp(min=0).square()).mean() / 2
    logs = {
        "positive_distance": positive.detach().mean().sqrt(),
        "negative_distance": negative.detach().mean(),
        "accuracy": (positive.detach().sqrt() < negative.detach()).float().mean(),
    }
    return ObjectiveOutput(loss, logs)


@dataclass(frozen=True)
class TemperatureOptions(ObjectiveOptions):
    """Options of a contrastive objective.

    Attributes:
        temperature: of similarities, at the start.
    """

    temperature: Positive = 0.07


T = TypeVar("T", bound=TemperatureOptions)


class _LearnedTemperature(Objective[T]):
    """With a learned temperature, kept within [0.001, 0.5] as Synchformer's is."""

    def __init__(self, options: T | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        self.log_scale = nn.Parameter(torch.tensor(1.0 / self.options.temperature).log())

    @property
    def scale(self) -> Tensor:
        """One over the temperature of similarities."""
        return self.log_scale.exp().clamp(2.0, 1000.0)

    def _logged(self, output: ObjectiveOutput) -> ObjectiveOutput:
        return ObjectiveOutput(output.loss, {**output.logs, "scale": self.scale.detach()})


@dataclass(frozen=True)
class InfoNCEOptions(TemperatureOptions):
    """Options of `InfoNCE`; see `TemperatureOptions`."""

    name: Literal["infonce"] = "infonce"
    shifts_audio = False


@register
class InfoNCE(_LearnedTemperature[InfoNCEOptions]):
    """`info_nce` of clips' mean embeddings, with a learned temperature; says nothing about time within a clip.

    >>> objective = InfoNCE(InfoNCEOptions(temperature=0.1))
    >>> loss, logs = objective(EmbeddedBatch(torch.eye(4), torch.eye(4)))
    >>> round(float(logs["scale"]), 3)
    10.0
    """

    Options = InfoNCEOptions

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        return self._logged(info_nce(*clip_vectors(batch), 1 / self.scale))


@dataclass(frozen=True)
class GDTOptions(TemperatureOptions):
    """Options of `GDT`; see `TemperatureOptions`."""

    name: Literal["gdt"] = "gdt"


@register
class GDT(_LearnedTemperature[GDTOptions]):
    """`gdt` of clips' mean embeddings, with a learned temperature; each clip comes forwards and backwards."""

    Options = GDTOptions

    def transform(self, video: Tensor, audio: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch, and after it the same backwards."""
        backwards = self.spec.offsets - 1 - offset
        return torch.cat([video, video.flip(2)]), torch.cat([audio, audio.flip(1)]), torch.cat([offset, backwards])

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        shifted = aligned_audio(batch.audio, self.wrong_offsets(batch), batch.video.shape[2]).mean(2)
        return self._logged(gdt(*clip_vectors(batch), shifted, 1 / self.scale))


@dataclass(frozen=True)
class SegmentsOptions(TemperatureOptions):
    """Options of `Segments`.

    Attributes:
        temperature: of similarities, at the start; 0.07 is Synchformer's.
        seconds: of a segment; Synchformer's last 0.64.
    """

    name: Literal["segments"] = "segments"
    seconds: Seconds = 0.64
    shifts_audio = False


@register
class Segments(_LearnedTemperature[SegmentsOptions]):
    """`segment_info_nce` with a learned temperature."""

    Options = SegmentsOptions

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        audio = aligned_audio(batch.audio, batch.offset, batch.video.shape[2])
        length = max(round(self.options.seconds / self.spec.step), 1)
        return self._logged(segment_info_nce(batch.video, audio, length, 1 / self.scale))


@dataclass(frozen=True)
class MarginOptions(ObjectiveOptions):
    """Options of `Margin`.

    Attributes:
        margin: of distances between vectors of unit length, in (0, 2).
        hard_share: share of the clips whose wrong audio is their own at another time; AVTS has 0.25.
        hard_from: share of the training from which on there are such clips.
    """

    name: Literal["margin"] = "margin"
    margin: Positive = 0.99
    hard_share: Share = 0.25
    hard_from: Share = 0.3


@register
class Margin(Objective[MarginOptions]):
    """`margin_contrastive` on a curriculum (AVTS: Korbar et al., NeurIPS 2018).

    Wrong audio is that of other clips (easy) and, later in the training, for some clips their own at another time; the
    schedule of shifts goes from hard to super-hard, which overlap with the right one.
    """

    Options = MarginOptions

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        options = self.options
        video, audio = clip_vectors(batch)
        shifted = aligned_audio(batch.audio, self.wrong_offsets(batch), batch.video.shape[2]).mean(2)
        easy = other_clips(audio)
        share = options.hard_share if self.progress >= options.hard_from else 0.0
        hard = torch.rand(len(video), 1, device=video.device) < share
        return margin_contrastive(video, audio, torch.where(hard, shifted, easy), options.margin)
