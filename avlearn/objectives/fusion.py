"""Early fusion: a network that sees video and audio at once and tells aligned from shifted (Owens & Efros)."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    ShiftSchedule,
    aligned_audio,
    zero_gradient,
)
from avlearn.objectives.registry import register
from avlearn.validation import Share, Width

FAR = ShiftSchedule(first=0.96, last=0.96)
SLOW = 4  # of so many frames one is shown at first


def shift_bce(aligned: Tensor, shifted: Tensor) -> ObjectiveOutput:
    """Binary cross-entropy of aligned against shifted (Owens & Efros, ECCV 2018).

    Negatives: the clip's own audio at another time, and no other clips.

    Args:
        aligned: logits ``[B]`` of videos with their audio.
        shifted: logits ``[B]`` of videos with audio of another time.

    Returns:
        The loss; logs ``accuracy`` (share of the 2B pairs on the right side of zero).

    >>> loss, logs = shift_bce(torch.tensor([2.0, 3.0]), torch.tensor([-2.0, 1.0]))
    >>> round(float(loss), 4), float(logs["accuracy"])
    (0.4039, 0.75)
    """
    logits = torch.cat([aligned, shifted])
    targets = (torch.arange(len(logits), device=logits.device) < len(aligned)).to(logits)
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    return ObjectiveOutput(loss, {"accuracy": ((logits > 0) == targets.bool()).float().mean()})


@dataclass(frozen=True)
class ShiftBCEOptions(ObjectiveOptions):
    """Options of `ShiftBCE`.

    Attributes:
        width: channels of the network.
        slow_until: share of the training, in [0, 1], in which the video shows every fourth frame only.
    """

    name: Literal["shift_bce"] = "shift_bce"
    shift: ShiftSchedule = FAR
    width: Width = 64
    slow_until: Share = 0.05


@register
class ShiftBCE(Objective[ShiftBCEOptions]):
    """`shift_bce` of an early-fusion network (Owens & Efros, ECCV 2018).

    The audio is laid over all places of the video, a small 3-D convolutional network looks at both, and one logit,
    averaged over time and places, says whether they are aligned. Each clip is trained on twice, aligned and shifted.
    Frames are fewer at first and all of them later, as in the paper; the network is smaller, and its norms are over
    each clip alone.
    """

    Options = ShiftBCEOptions
    common_space = False
    former_names: ClassVar[dict[str, str]] = {"picture": "video_input", "sound": "audio_input"}

    def __init__(self, options: ShiftBCEOptions | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        width = self.options.width
        # A 1x1x1 convolution of concatenated channels is the sum of one of each part: nothing needs to be tiled.
        self.video_input = nn.Conv3d(self.spec.video_channels, width, 1)
        self.audio_input = nn.Conv1d(self.spec.audio_channels, width, 1, bias=False)
        self.trunk = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(1, width),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(1, width),
            nn.ReLU(),
        )
        self.last = nn.Conv3d(width, 1, 1)

    def transform(self, video: Tensor, audio: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch; until ``slow_until`` each frame is the last of those that are shown."""
        if self.progress < self.options.slow_until:
            video = video[:, :, torch.arange(video.shape[2], device=video.device) // SLOW * SLOW]
        return video, audio, offset

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        video = self.video_input(batch.video_features)
        offsets = torch.cat([batch.offset, self.wrong_offsets(batch)])
        logits = self._maps(video.repeat(2, 1, 1, 1, 1), batch.audio_features.repeat(2, 1, 1), offsets).mean((1, 2))
        loss, logs = shift_bce(*logits.chunk(2))
        return ObjectiveOutput(loss + zero_gradient(batch), logs)

    def cam(self, batch: EmbeddedBatch) -> Tensor:
        """Class activation map (Zhou et al., CVPR 2016) of being aligned at the true offset: ``[B, Y, X]`` logits.

        Averaged over time; its mean over places is the logit.
        """
        return self._maps(self.video_input(batch.video_features), batch.audio_features, batch.offset)

    def offset_scores(self, batch: EmbeddedBatch, offsets: Tensor) -> Tensor:
        """The logit of being aligned at each shifted offset.

        Args:
            batch: of one process.
            offsets: ``[O]``, steps from the true offset: 0 is the truth.

        Returns:
            ``[B, O]``; NaN where part of the video has no audio.
        """
        video, last = self.video_input(batch.video_features), batch.audio.shape[2] - batch.video.shape[2]
        scores = []
        for shift in offsets:
            at = batch.offset + shift
            logits = self._maps(video, batch.audio_features, at.clamp(0, last)).mean((1, 2))
            scores.append(logits.masked_fill((at < 0) | (at > last), float("nan")))
        return torch.stack(scores, 1)

    def _maps(self, video: Tensor, audio: Tensor, offset: Tensor) -> Tensor:
        """``[B, width, T, Y, X]`` and features ``[B, D'', U]`` at offsets ``[B]`` to logits ``[B, Y, X]``."""
        audio = self.audio_input(aligned_audio(audio, offset, video.shape[2]))
        logits: Tensor = self.last(self.trunk(video + audio[..., None, None]))
        return logits[:, 0].mean(1)


class TowerFeatures(Protocol):
    """The two-tower model, as far as it is needed here."""

    def video_features(self, video: Tensor) -> Tensor: ...
    def audio_features(self, audio: Tensor) -> Tensor: ...
    def project_video(self, features: Tensor) -> Tensor: ...
    def project_audio(self, features: Tensor) -> Tensor: ...


def cam(objective: ShiftBCE, model: TowerFeatures, frames: Tensor, audio: Tensor, offset: int = 0) -> Tensor:
    """The class activation map of a model that this objective trained (Owens & Efros, ECCV 2018).

    The mean of a video's map and its mirror image's, mirrored back: a sideways drift of the cells cancels.

    Args:
        objective: of the model's folder.
        model: its towers.
        frames: ``[B, 3, T, H, W]`` in [0, 1].
        audio: ``[B, S]``; of one video, several may be compared.
        offset: steps into the audio at which the video begins.

    Returns:
        ``[B, Y, X]``, logits: above zero where video and audio are aligned.
    """
    heard = model.audio_features(audio)
    at = torch.full((len(heard),), offset, device=heard.device)

    def found(frames: Tensor) -> Tensor:
        seen = model.video_features(frames)
        return objective.cam(
            EmbeddedBatch(
                model.project_video(seen), model.project_audio(heard), at, torch.arange(len(seen)), seen, heard
            )
        )

    return (found(frames) + found(frames.flip(-1)).flip(-1)) / 2
