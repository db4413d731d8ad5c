"""Contrastive objectives on one vector a clip, or a segment: InfoNCE, GDT, Synchformer's first stage, AVTS."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives.objective import (
    Objective,
    ObjectiveOutput,
    Pair,
    Setting,
    ShiftSchedule,
    clip_embeddings,
    gather_with_gradient,
    own_rows,
    sound_at,
)


def _nce(queries: Tensor, keys: Tensor, scale: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of ``[B, D]`` against ``[G, D]``, whose ``own`` rows are right; and the share that is found."""
    logits = queries @ keys.T * scale
    return F.cross_entropy(logits, own), (logits.argmax(1) == own).float().mean()


class _Scaled(Objective):
    """With a learned temperature, kept within [0.001, 0.5] as Synchformer's is."""

    def __init__(self, schedule: ShiftSchedule, setting: Setting, temperature: float) -> None:
        super().__init__(schedule, setting)
        self.log_scale = nn.Parameter(torch.tensor(1.0 / temperature).log())

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(2.0, 1000.0)

    def _both_ways(self, video: Tensor, audio: Tensor, more_audio: Tensor | None = None) -> ObjectiveOutput:
        """Pictures ``[B, D]`` against all sounds, those of ``more_audio`` all wrong, and sounds against pictures."""
        own = own_rows(len(video), video.device)
        sounds, pictures = gather_with_gradient(audio), gather_with_gradient(video)
        if more_audio is not None:
            sounds = torch.cat([sounds, gather_with_gradient(more_audio)])
        forward, found = _nce(video, sounds, self.scale, own)
        backward, _ = _nce(audio, pictures, self.scale, own)
        logs = {
            "picture_to_sound": forward.detach(),
            "sound_to_picture": backward.detach(),
            "retrieval": found,
            "scale": self.scale.detach(),
        }
        return ObjectiveOutput(forward + backward, logs)


class InfoNCE(_Scaled):
    """Whose sound is it? Negatives: the other clips of the batch, over all processes (van den Oord et al., 2018).

    Cross-modal as in Morgado et al. (CVPR 2021) without a memory; says nothing about time within a clip.
    """

    def forward(self, pair: Pair) -> ObjectiveOutput:
        video, audio = clip_embeddings(pair.video, sound_at(pair.audio, pair.offset, pair.video.shape[2]))
        return self._both_ways(video, audio)


class GDT(_Scaled):
    """InfoNCE whose negatives are also the clip's own sound at another time, and played backwards.

    Generalized data transformations (Patrick et al., ICCV 2021) in the variant that is distinctive to time shift and
    reversal: a clip and its reversal are two clips that have nothing to do with each other.
    """

    def transform(self, video: Tensor, audio: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The batch, and after it the same backwards."""
        backwards = self.setting.offsets - 1 - offset
        return torch.cat([video, video.flip(2)]), torch.cat([audio, audio.flip(1)]), torch.cat([offset, backwards])

    def forward(self, pair: Pair) -> ObjectiveOutput:
        steps = pair.video.shape[2]
        video, audio = clip_embeddings(pair.video, sound_at(pair.audio, pair.offset, steps))
        shifted = sound_at(pair.audio, self.wrong_offsets(pair), steps)
        return self._both_ways(video, audio, F.normalize(shifted.mean(2), dim=1))


class Segments(_Scaled):
    """Which of all segments of the batch sounds like this one looks? Negatives: other times and other clips.

    The first stage of Synchformer (Iashin et al., ICASSP 2024).

    Args:
        schedule, setting, temperature: see `Objective`; 0.07 is Synchformer's.
        seconds: of a segment; Synchformer's last 0.64.
    """

    def __init__(self, schedule: ShiftSchedule, setting: Setting, temperature: float, seconds: float) -> None:
        super().__init__(schedule, setting, temperature)
        self.length = max(round(seconds / setting.step), 1)

    def forward(self, pair: Pair) -> ObjectiveOutput:
        count = pair.video.shape[2] // self.length
        steps = count * self.length
        video = pair.video[:, :, :steps].mean((3, 4)).unflatten(2, (count, self.length)).mean(3)
        audio = sound_at(pair.audio, pair.offset, steps).unflatten(2, (count, self.length)).mean(3)
        video, audio = (F.normalize(x, dim=1).transpose(1, 2).flatten(0, 1) for x in (video, audio))
        return self._both_ways(video, audio)


class Margin(Objective):
    """Distances: of a picture to its sound small, to a wrong one beyond a margin.

    AVTS (Korbar et al., NeurIPS 2018). Wrong sounds are those of other clips (easy) and, for ``hard_share`` of the
    clips once ``hard_from`` of the training is over, the clip's own at another time; the schedule of shifts takes them
    from hard to super-hard, which overlap with the right one.

    Args:
        schedule, setting: see `Objective`.
        margin: of distances between vectors of unit length, in (0, 2).
        hard_share, hard_from: in [0, 1]; AVTS has 0.25.
    """

    def __init__(
        self, schedule: ShiftSchedule, setting: Setting, margin: float, hard_share: float, hard_from: float
    ) -> None:
        super().__init__(schedule, setting)
        self.margin, self.hard_share, self.hard_from = margin, hard_share, hard_from

    def forward(self, pair: Pair) -> ObjectiveOutput:
        steps = pair.video.shape[2]
        video, audio = clip_embeddings(pair.video, sound_at(pair.audio, pair.offset, steps))
        shifted = F.normalize(sound_at(pair.audio, self.wrong_offsets(pair), steps).mean(2), dim=1)
        sounds, own = gather_with_gradient(audio), own_rows(len(video), video.device)
        # Any of the other clips, of all processes; a clip that is alone has itself.
        others = (own + torch.randint(1, max(len(sounds), 2), own.shape, device=own.device)) % len(sounds)
        share = self.hard_share if self.progress >= self.hard_from else 0.0
        hard = torch.rand(len(video), 1, device=video.device) < share
        wrong = torch.where(hard, shifted, sounds[others])
        right_distance = (video - audio).square().sum(1)
        wrong_distance = (video - wrong).square().sum(1).clamp(min=1e-12).sqrt()
        loss = (right_distance + (self.margin - wrong_distance).clamp(min=0).square()).mean() / 2
        nearer = (right_distance.sqrt() < wrong_distance).float().mean()
        logs = {"right": right_distance.detach().mean().sqrt(), "wrong": wrong_distance.detach().mean()}
        return ObjectiveOutput(loss, {**logs, "told_apart": nearer.detach()})
