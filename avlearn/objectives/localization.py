"""Losses of audio-visual localization: EZ-VSL, FNAC, LVS's tri-map, AVOL-Net.

They see a still image and one vector of audio: all steps of a clip are averaged before a place is compared with it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives.contrastive import TemperatureOptions, cross_modal_cross_entropy
from avlearn.objectives.gather import gather_with_gradient, other_clips, own_rows, transposed_rows
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    aligned_audio,
)
from avlearn.objectives.registry import register
from avlearn.validation import Positive, Share, Weight

T = TypeVar("T", bound=TemperatureOptions)
Similarity = Annotated[float, Field(ge=-1, le=1)]


def time_means(batch: EmbeddedBatch) -> tuple[Tensor, Tensor]:
    """Means over the video's steps: ``[B, D, Y, X]`` of the video and ``[B, D]`` of the audio that goes with it."""
    return batch.video.mean(2), aligned_audio(batch.audio, batch.offset, batch.video.shape[2]).mean(2)


def similarity_maps(video: Tensor, audio: Tensor) -> Tensor:
    """Similarity of every video's places to every audio: ``[B, D, P]`` and ``[C, D]`` to ``[B, C, P]``.

    In [-1, 1] where both are of unit length over D.

    >>> similarity_maps(torch.eye(2)[None], torch.eye(2))
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    return torch.einsum("bdp,cd->bcp", video, audio)


def _unit(video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, D, P]`` and ``[B, D]`` of unit length over D."""
    return F.normalize(video.flatten(2), dim=1), F.normalize(audio, dim=1)


def _best_places(places: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities by the best place, of videos to all audio and of audio to all videos: ``[B, G]`` each."""
    to_audio = similarity_maps(places, gather_with_gradient(audio)).amax(2)
    return to_audio, transposed_rows(to_audio)


def mil_infonce(video: Tensor, audio: Tensor, temperature: float = 0.03) -> ObjectiveOutput:
    """Multiple-instance InfoNCE: of a video's places the best counts (EZ-VSL: Mo & Morgado, ECCV 2022).

    Negatives: the other clips of the batch, over all processes; both directions.

    Args:
        video: ``[B, D, Y, X]`` of any length over D.
        audio: ``[B, D]``.
        temperature: of the cosine similarities; the paper's is 0.03.

    Returns:
        See `avlearn.objectives.contrastive.cross_modal_cross_entropy`.

    >>> audio = torch.eye(4)
    >>> video = torch.zeros(4, 4, 3, 3)
    >>> video[:, :, 1, 2] = audio  # one place sounds, the others show nothing
    >>> loss, logs = mil_infonce(video, audio)
    >>> round(float(loss), 4), float(logs["retrieval"])
    (0.0, 1.0)
    """
    to_audio, to_video = _best_places(*_unit(video, audio))
    return cross_modal_cross_entropy(to_audio / temperature, to_video / temperature)


def fnac(
    video: Tensor,
    audio: Tensor,
    temperature: float = 0.03,
    suppression: float = 100.0,
    enhancement: float = 100.0,
    foreground: float = 0.6,
) -> ObjectiveOutput:
    """`mil_infonce` that is aware of false negatives: clips that sound or look alike (FNAC: Sun et al., CVPR 2023).

    False-negative suppression: over all clips, a video is to fit the audio as its own audio, and as the whole image,
    fits those of its modality. True-negative enhancement: the regions that sound are to be as alike as their audio.
    Each by the mean absolute difference of softmaxes over the clips, which falls with their number: the authors' code
    has 128.

    Args:
        video: ``[B, D, Y, X]`` of any length over D.
        audio: ``[B, D]``.
        temperature: of the cosine similarities.
        suppression, enhancement: weights; the paper has 100 for each of the three terms.
        foreground: see `foreground_mask`.

    Returns:
        The loss; the logs of `mil_infonce`, and ``suppression``, ``enhancement`` (before their weights).

    >>> audio = torch.eye(4)
    >>> video = torch.zeros(4, 4, 3, 3)
    >>> video[:, :, 1, 2] = audio
    >>> loss, logs = fnac(video, audio)
    >>> float(logs["retrieval"]), bool(logs["suppression"] > 0)
    (1.0, True)
    """
    places, audio = _unit(video, audio)
    to_audio, to_video = _best_places(places, audio)
    whole = places.mean(2)
    sounding = (places * foreground_mask(places, audio, foreground, temperature)[:, None]).mean(2)
    similarities = (to_audio, *(x @ gather_with_gradient(x).T for x in (audio, whole, sounding)))
    across, audio_alike, video_alike, sounding_alike = ((x / temperature).softmax(1) for x in similarities)
    suppressed = F.l1_loss(across, audio_alike) + F.l1_loss(across, video_alike)
    enhanced = F.l1_loss(sounding_alike, audio_alike)
    output = cross_modal_cross_entropy(to_audio / temperature, to_video / temperature)
    loss = output.loss + suppression * suppressed + enhancement * enhanced
    return ObjectiveOutput(loss, {**output.logs, "suppression": suppressed.detach(), "enhancement": enhanced.detach()})


@torch.no_grad()
def foreground_mask(places: Tensor, audio: Tensor, foreground: float = 0.6, temperature: float = 0.03) -> Tensor:
    """Which places sound: those above a share of the way from a map's lowest to its highest similarity.

    Args:
        places: ``[B, D, P]``, of unit length over D.
        audio: ``[B, D]`` likewise.
        foreground: the share, in [0, 1].
        temperature: of the similarities.

    Returns:
        bool ``[B, P]``.

    >>> foreground_mask(torch.eye(3)[None], torch.tensor([[0.0, 1.0, 0.0]]))
    tensor([[False,  True, False]])
    """
    own = torch.einsum("bdp,bd->bp", places, audio) / temperature
    low, high = own.aminmax(dim=1, keepdim=True)
    return (own - low) / (high - low + 1e-5) > foreground


def trimap(
    video: Tensor,
    audio: Tensor,
    temperature: float = 0.07,
    positive: float = 0.65,
    negative: float = 0.4,
    sharpness: float = 0.03,
) -> ObjectiveOutput:
    """InfoNCE over the places that sound, with hard negatives among the others (LVS: Chen et al., CVPR 2021).

    Negatives: the audio of other clips, over all processes; and the places of the clip's own video that do not sound.
    Those in between are neither.

    Args:
        video: ``[B, D, Y, X]`` of any length over D.
        audio: ``[B, D]``.
        temperature: of the cosine similarities; the authors' code has 0.07.
        positive, negative: similarity from which on, and up to which, a place sounds and does not.
        sharpness: width of the sigmoids at the two, in similarity; the paper has 0.03.

    Returns:
        The loss; logs ``retrieval`` (share of videos whose own audio fits best).

    >>> audio = torch.eye(4)
    >>> video = torch.zeros(4, 4, 3, 3)
    >>> video[:, :, 1, 2] = audio
    >>> loss, logs = trimap(video, audio)
    >>> round(float(loss), 4), float(logs["retrieval"])
    (0.0, 1.0)
    """
    places, audio = _unit(video, audio)
    own, rows = own_rows(len(audio), audio.device), torch.arange(len(audio), device=audio.device)
    every = similarity_maps(places, gather_with_gradient(audio))  # [B, G, P]
    sounding = _mean_where(every, every - positive, sharpness)
    right = every[rows, own]
    silent = _mean_where(right, negative - right, sharpness)
    loss = F.cross_entropy(torch.cat([sounding, silent[:, None]], 1) / temperature, own)
    return ObjectiveOutput(loss, {"retrieval": (sounding.argmax(1) == own).float().mean()})


def _mean_where(similarity: Tensor, excess: Tensor, sharpness: float) -> Tensor:
    """Mean over the places whose ``excess`` is above zero, softly: ``[..., P]`` each to ``[...]``."""
    # A softmax of logarithms: where no place has it, the sigmoids' sum is too small to divide by.
    weights = F.logsigmoid(excess / sharpness).softmax(-1)
    return (weights * similarity).sum(-1)


def correspondence(
    video: Tensor,
    audio: Tensor,
    wrong_audio: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    bias: float | Tensor = 0.0,
) -> ObjectiveOutput:
    """Binary correspondence by the best place (AVOL-Net: Arandjelovic & Zisserman, ECCV 2018).

    Negatives: the audio of one other clip, of any process. The paper's vectors have any length; here they have unit
    length, so that the scale has to start higher.

    Args:
        video: ``[B, D, Y, X]`` of any length over D.
        audio: ``[B, D]``.
        wrong_audio: ``[B, D]``; by default of a random other clip each.
        temperature: of the cosine similarities.
        bias: added to the logits.

    Returns:
        The loss; logs ``accuracy`` (share of videos whose own audio fits better than the wrong one).

    >>> audio = torch.eye(4)
    >>> video = torch.zeros(4, 4, 3, 3)
    >>> video[:, :, 1, 2] = audio
    >>> loss, logs = correspondence(video, audio, bias=-5.0)
    >>> round(float(loss), 4), float(logs["accuracy"])
    (0.0067, 1.0)
    """
    wrong_audio = other_clips(audio) if wrong_audio is None else wrong_audio
    places, audio = _unit(video, audio)
    right, wrong = (
        torch.einsum("bdp,bd->bp", places, x).amax(1) / temperature + bias
        for x in (audio, F.normalize(wrong_audio, dim=1))
    )
    loss = (F.softplus(-right) + F.softplus(wrong)).mean() / 2
    return ObjectiveOutput(loss, {"accuracy": (right > wrong).float().mean()})


class FixedTemperature(Objective[T]):
    """With a temperature that is not learned, and is also how sharply places are pooled."""

    @property
    def scale(self) -> float:
        """One over the temperature of similarities."""
        return 1.0 / self.options.temperature

    @property
    def pool_scale(self) -> float:
        """Sharpness of the soft maximum over places."""
        return 1.0 / self.options.temperature


@dataclass(frozen=True)
class MILInfoNCEOptions(TemperatureOptions):
    """Options of `MILInfoNCE`: see `mil_infonce`."""

    name: Literal["mil_infonce"] = "mil_infonce"
    temperature: Positive = 0.03
    shifts_audio = False


@register
class MILInfoNCE(FixedTemperature[MILInfoNCEOptions]):
    """`mil_infonce` of clips' means over time."""

    Options = MILInfoNCEOptions

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        return mil_infonce(*time_means(batch), self.options.temperature)


@dataclass(frozen=True)
class FNACOptions(TemperatureOptions):
    """Options of `FNAC`: see `fnac`."""

    name: Literal["fnac"] = "fnac"
    temperature: Positive = 0.03
    suppression: Weight = 100.0
    enhancement: Weight = 100.0
    foreground: Share = 0.6
    shifts_audio = False


@register
class FNAC(FixedTemperature[FNACOptions]):
    """`fnac` of clips' means over time."""

    Options = FNACOptions

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        o = self.options
        return fnac(*time_means(batch), o.temperature, o.suppression, o.enhancement, o.foreground)


@dataclass(frozen=True)
class TriMapOptions(TemperatureOptions):
    """Options of `TriMap`: see `trimap`."""

    name: Literal["trimap"] = "trimap"
    temperature: Positive = 0.07
    positive: Similarity = 0.65
    negative: Similarity = 0.4
    sharpness: Positive = 0.03
    shifts_audio = False


@register
class TriMap(FixedTemperature[TriMapOptions]):
    """`trimap` of clips' means over time."""

    Options = TriMapOptions

    @property
    def pool_scale(self) -> float:
        """Sharpness of the soft maximum over places."""
        return 1.0 / self.options.sharpness

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        o = self.options
        return trimap(*time_means(batch), o.temperature, o.positive, o.negative, o.sharpness)


@dataclass(frozen=True)
class CorrespondenceOptions(ObjectiveOptions):
    """Options of `Correspondence`.

    Attributes:
        temperature: of similarities, at the start.
    """

    name: Literal["correspondence"] = "correspondence"
    temperature: Positive = 0.1
    shifts_audio = False


@register
class Correspondence(Objective[CorrespondenceOptions]):
    """`correspondence` of clips' means over time, with a learned temperature and bias."""

    Options = CorrespondenceOptions

    def __init__(self, options: CorrespondenceOptions | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        self.log_scale = nn.Parameter(torch.tensor(1.0 / self.options.temperature).log())
        self.bias = nn.Parameter(torch.tensor(0.0))

    @property
    def scale(self) -> Tensor:
        """One over the temperature of similarities."""
        return self.log_scale.exp()

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        loss, logs = correspondence(*time_means(batch), temperature=1 / self.scale, bias=self.bias)
        return ObjectiveOutput(loss, {**logs, "scale": self.scale.detach()})
