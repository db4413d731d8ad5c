"""The dense loss: a softmax over the audio of all clips at all offsets."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives.gather import gather_with_gradient, own_rows, transposed_rows
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
)
from avlearn.objectives.registry import register
from avlearn.objectives.similarity import pair_scores
from avlearn.validation import Positive


def dense_info_nce(
    video: Tensor,
    audio: Tensor,
    offset: Tensor,
    temperature: float | Tensor = 0.05,
    pool_scale: float = 20.0,
    nearest: int = 1,
) -> ObjectiveOutput:
    """Cross-entropy over the audio of all clips at all offsets, and of each audio over the videos of all clips.

    Negatives: the other times of the same clip (hard: same scene, same timbre) and every time of the other clips, over
    all processes. Of the kind of the dense losses of Harwath et al. (ECCV 2018) and LVS (Chen et al., CVPR 2021), with
    offsets within the clip as negatives after Korbar et al. (NeurIPS 2018).

    Args:
        video: ``[B, D, T, Y, X]``, of unit length over D.
        audio: ``[B, D, U]`` likewise, ``U >= T``; there are ``U - T + 1`` offsets.
        offset: ``[B]`` steps into the audio at which the video begins.
        temperature: of the softmax.
        pool_scale: sharpness of the soft maximum over places.
        nearest: smallest shift, in steps, that counts as wrong; nearer ones are neither positive nor negative.

    Returns:
        The loss; logs ``video_to_audio``, ``audio_to_video`` (the two parts), ``offset_within_1`` (share of clips whose
        best offset is at most a step off) and ``retrieval`` (share of audio whose own video scores highest).

    >>> audio = torch.eye(12).view(2, 6, 12)  # every step sounds unlike all others
    >>> audio = audio.transpose(1, 2).contiguous()
    >>> video = audio[:, :, 1:4, None, None]
    >>> loss, logs = dense_info_nce(video, audio, torch.tensor([1, 1]))
    >>> float(logs["offset_within_1"]), float(logs["retrieval"])
    (1.0, 1.0)
    >>> wrong, _ = dense_info_nce(video, audio, torch.tensor([3, 3]))
    >>> bool(wrong > loss)
    True
    """
    own, rows = own_rows(len(video), video.device), torch.arange(len(video), device=video.device)
    logits = pair_scores(video, gather_with_gradient(audio), pool_scale) / temperature  # [B, G, O]
    offsets = logits.shape[2]
    shift = (torch.arange(offsets, device=video.device) - offset[:, None]).abs()
    too_near = torch.zeros_like(logits, dtype=torch.bool)
    too_near[rows, own] = (shift > 0) & (shift < nearest)
    forward = F.cross_entropy(logits.masked_fill(too_near, float("-inf")).flatten(1), own * offsets + offset)

    # Each audio as it is aligned with its own video: its column at its own offset.
    right = gather_with_gradient(offset).expand(len(video), -1)
    reverse = transposed_rows(logits.gather(2, right[..., None])[..., 0])  # [B, G]
    backward = F.cross_entropy(reverse, own)
    with torch.no_grad():
        logs = {
            "video_to_audio": forward.detach(),
            "audio_to_video": backward.detach(),
            "offset_within_1": ((logits[rows, own].argmax(1) - offset).abs() <= 1).float().mean(),
            "retrieval": (reverse.argmax(1) == own).float().mean(),
        }
    return ObjectiveOutput(forward + backward, logs)


@dataclass(frozen=True)
class DenseOptions(ObjectiveOptions):
    """Options of `Dense`.

    Attributes:
        temperature: of the softmax over offsets and clips, at the start.
        pool_scale: sharpness of the soft maximum over places.
        learn_temperature: whether training adjusts the temperature.
    """

    name: Literal["dense"] = "dense"
    temperature: Positive = 0.05
    pool_scale: Positive = 20.0
    learn_temperature: bool = True


@register
class Dense(Objective[DenseOptions]):
    """`dense_info_nce` with a learned temperature, and a smallest shift that follows the schedule."""

    Options = DenseOptions

    def __init__(self, options: DenseOptions | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        start = torch.tensor(1.0 / self.options.temperature).log()
        self.log_scale = nn.Parameter(start, requires_grad=self.options.learn_temperature)

    @property
    def scale(self) -> Tensor:
        """One over the temperature of similarities."""
        return self.log_scale.exp()

    @property
    def pool_scale(self) -> float:
        """Sharpness of the soft maximum over places."""
        return self.options.pool_scale

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        tensors = batch.video, batch.audio, batch.offset
        loss, logs = dense_info_nce(*tensors, 1 / self.scale, self.pool_scale, self.nearest)
        return ObjectiveOutput(loss, {**logs, "scale": self.scale.detach()})
