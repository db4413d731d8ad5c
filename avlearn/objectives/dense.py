"""The dense objective: which clip's sound, and at which offset, belongs to this picture?"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from avlearn.objectives.similarity import pair_scores


@dataclass(frozen=True)
class ObjectiveOutput:
    """A loss (scalar tensor) and figures to log beside it."""

    loss: Tensor
    logs: dict[str, Tensor]


def gather_with_gradient(x: Tensor) -> Tensor:
    """Concatenate ``[B, ...]`` of all processes along B, in rank order; gradients flow back to each."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    return torch.cat(all_gather(x.contiguous()))


class Dense(nn.Module):
    """Cross-entropy over all sounds of the batch at all offsets, and back from sound to picture.

    Negatives: the other times of the same clip (hard: same scene, same timbre) and every time of the
    other clips, over all processes. The two neighbours of the true offset are neither positive nor
    negative. Of the kind of the dense objectives of Harwath et al. (ECCV 2018) and LVS (Chen et al.,
    CVPR 2021), with offsets in the clip as negatives after Korbar et al. (NeurIPS 2018).

    Args:
        temperature: of the softmax over offsets and clips, at the start.
        pool_scale: sharpness of the soft maximum over places.
        learn_temperature: whether training adjusts the temperature.
    """

    def __init__(self, temperature: float, pool_scale: float, learn_temperature: bool):
        super().__init__()
        self.pool_scale = pool_scale
        start = torch.tensor(1.0 / temperature).log()
        self.log_scale = nn.Parameter(start, requires_grad=learn_temperature)

    def forward(self, video: Tensor, audio: Tensor, offset: Tensor) -> ObjectiveOutput:
        """The loss of a batch.

        Args:
            video: ``[B, D, T, Y, X]`` of unit length over D.
            audio: ``[B, D, U]`` of unit length over D, ``U > T``.
            offset: ``[B]`` integer; picture step 0 coincides with sound step ``offset``.
        """
        all_audio, all_video = gather_with_gradient(audio), gather_with_gradient(video)
        all_offset = gather_with_gradient(offset)
        rank = dist.get_rank() if len(all_audio) > len(audio) else 0
        own = torch.arange(len(video), device=video.device) + rank * len(video)

        scores = pair_scores(all_video, all_audio, self.pool_scale)  # [G, G, O]
        logits = scores * self.log_scale.exp()
        offsets = logits.shape[2]

        forward_logits = logits[own].clone()
        for neighbour in (-1, 1):
            at = offset + neighbour
            inside = (at >= 0) & (at < offsets)
            rows = torch.arange(len(video), device=video.device)[inside]
            forward_logits[rows, own[inside], at[inside]] = float("-inf")
        target = own * offsets + offset
        picture_to_sound = F.cross_entropy(forward_logits.flatten(1), target)

        # The sound of clip c at its true offset against every picture.
        backward_logits = logits[:, own, all_offset[own]].T  # [B, G]
        sound_to_picture = F.cross_entropy(backward_logits, own)

        with torch.no_grad():
            within = logits[own, own].argmax(1)
            logs = {
                "picture_to_sound": picture_to_sound.detach(),
                "sound_to_picture": sound_to_picture.detach(),
                "offset_within_1": ((within - offset).abs() <= 1).float().mean(),
                "retrieval": (backward_logits.argmax(1) == own).float().mean(),
                "scale": self.log_scale.detach().exp(),
            }
        return ObjectiveOutput(picture_to_sound + sound_to_picture, logs)
