"""The dense objective: which clip's sound, and at which offset, belongs to this picture?"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives.objective import (
    Objective,
    ObjectiveOutput,
    Pair,
    Setting,
    ShiftSchedule,
    gather_with_gradient,
    own_rows,
)
from avlearn.objectives.similarity import pair_scores


class Dense(Objective):
    """Cross-entropy over all sounds of the batch at all offsets, and back from sound to picture.

    Negatives: the other times of the same clip (hard: same scene, same timbre) and every time of the
    other clips, over all processes. Offsets nearer to the true one than the smallest shift are neither positive nor
    negative. Of the kind of the dense objectives of Harwath et al. (ECCV 2018) and LVS (Chen et al.,
    CVPR 2021), with offsets in the clip as negatives after Korbar et al. (NeurIPS 2018).

    Args:
        schedule, setting: see `Objective`.
        temperature: of the softmax over offsets and clips, at the start.
        pool_scale: sharpness of the soft maximum over places.
        learn_temperature: whether training adjusts the temperature.
    """

    def __init__(
        self, schedule: ShiftSchedule, setting: Setting, temperature: float, pool_scale: float, learn_temperature: bool
    ) -> None:
        super().__init__(schedule, setting)
        self.pool_scale = pool_scale
        start = torch.tensor(1.0 / temperature).log()
        self.log_scale = nn.Parameter(start, requires_grad=learn_temperature)

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def forward(self, pair: Pair) -> ObjectiveOutput:
        """The loss of a batch."""
        video, offset = pair.video, pair.offset
        all_audio, all_video = gather_with_gradient(pair.audio), gather_with_gradient(video)
        all_offset = gather_with_gradient(offset)
        own = own_rows(len(video), video.device)

        scores = pair_scores(all_video, all_audio, self.pool_scale)  # [G, G, O]
        logits = scores * self.scale
        offsets = logits.shape[2]

        shift = (torch.arange(offsets, device=video.device) - offset[:, None]).abs()
        rows = torch.arange(len(video), device=video.device)
        too_near = torch.zeros_like(logits[own], dtype=torch.bool)
        too_near[rows, own] = (shift > 0) & (shift < self.nearest)
        forward_logits = logits[own].masked_fill(too_near, float("-inf"))
        picture_to_sound = F.cross_entropy(forward_logits.flatten(1), own * offsets + offset)

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
                "scale": self.scale.detach(),
            }
        return ObjectiveOutput(picture_to_sound + sound_to_picture, logs)
