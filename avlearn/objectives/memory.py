"""Audio-visual instance discrimination against a memory of all clips, with cross-modal agreement."""

import math

import torch
from torch import Tensor
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

MOMENTUM = 0.5


@torch.no_grad()
def clip_means(clip: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """What all processes have of their clips, one row a clip: the mean where a clip comes several times.

    Args:
        clip: ``[B]`` numbers.
        rows: ``[B, D]`` each.

    Returns:
        The numbers ``[C]``, ascending, and float32 ``[C, D]`` for each of ``rows``; the same in every process.
    """
    numbers, which, counts = gather_with_gradient(clip).unique(return_inverse=True, return_counts=True)
    means = []
    for values in rows:
        gathered = gather_with_gradient(values.detach()).float()
        sums = gathered.new_zeros(len(numbers), gathered.shape[1]).index_add_(0, which, gathered)
        means.append(sums / counts[:, None])
    return numbers, *means


class AVID(Objective):
    """Whose sound is it, of all clips of the data set? Negatives: random clips, as a memory bank keeps them.

    Cross-modal instance discrimination by noise-contrastive estimation, and from ``agreement_from`` on cross-modal
    agreement (Morgado et al., CVPR 2021): the clips that look alike *and* sound alike are positives within each
    modality. They are looked up in the banks at every step, where the paper looks them up every few epochs.

    Clips that are not trained on are not in the memory: in evaluation the negatives are the other clips of the batch,
    over all processes, under a cross-entropy.

    Args:
        schedule, setting: see `Objective`.
        temperature: the paper's is 0.07.
        negatives: drawn for each clip; the paper has 1024.
        positives: clips in agreement; the paper has 32.
        agreement_from: share of the training, in [0, 1]; at 1 there is no agreement.
        whole_sound: all of the sound is a clip's, also what goes beyond the picture, as in the paper (2 s to 0.5 s).
    """

    def __init__(
        self,
        schedule: ShiftSchedule,
        setting: Setting,
        temperature: float,
        negatives: int,
        positives: int,
        agreement_from: float,
        whole_sound: bool,
    ) -> None:
        super().__init__(schedule, setting)
        self.scale = 1.0 / temperature
        self.negatives, self.agreement_from, self.whole_sound = negatives, agreement_from, whole_sound
        self.positives = max(min(positives, setting.clips - 2), 0)  # leaves a negative beside the clip itself
        # A generator of its own: every process must start from the same banks.
        generator = torch.Generator().manual_seed(0)
        for name in ("video_bank", "audio_bank"):
            bank = torch.randn(setting.clips, setting.dim, generator=generator)
            self.register_buffer(name, F.normalize(bank, dim=1))
        self.register_buffer("log_partition", torch.tensor(math.nan))

    def forward(self, pair: Pair) -> ObjectiveOutput:
        sound = pair.audio if self.whole_sound else sound_at(pair.audio, pair.offset, pair.video.shape[2])
        video, audio = clip_embeddings(pair.video, sound)
        if not self.training:
            return self._within_batch(video, audio)
        clip = pair.clip
        agree = self.positives > 0 and self.progress >= self.agreement_from
        alike = self.agreement(clip) if agree else clip.new_empty(len(clip), 0)
        wrong = self.draw(torch.cat([clip[:, None], alike], 1))

        forward, found = self._nce(video, self.audio_bank, clip[:, None], wrong)
        backward, _ = self._nce(audio, self.video_bank, clip[:, None], wrong)
        loss = forward + backward
        logs = {"picture_to_sound": forward.detach(), "sound_to_picture": backward.detach(), "retrieval": found}
        if agree:
            looks, _ = self._nce(video, self.video_bank, alike, wrong)
            sounds, _ = self._nce(audio, self.audio_bank, alike, wrong)
            loss = loss + looks + sounds
            logs["agreement"] = (looks + sounds).detach()
        self._remember(clip, video, audio)
        return ObjectiveOutput(loss, logs)

    @torch.no_grad()
    def agreement(self, clip: Tensor) -> Tensor:
        """The other clips that are most like each in the modality in which they are less: ``[B]`` to ``[B, P]``."""
        seen, heard = (bank[clip] @ bank.T for bank in (self.video_bank, self.audio_bank))
        alike = torch.minimum(seen, heard).scatter(1, clip[:, None], -math.inf)
        return alike.topk(self.positives).indices

    def draw(self, excluded: Tensor) -> Tensor:
        """Random clips, for each row but those of ``excluded``, ``[B, E]``: ``[B, negatives]``."""
        count, width = excluded.shape
        drawn = torch.randint(self.setting.clips - width, (count, self.negatives), device=excluded.device)
        # The k-th clip that is left has k plus as many before it as are excluded among the clips up to it.
        gaps = excluded.sort(1).values - torch.arange(width, device=excluded.device)
        return drawn + (drawn[:, :, None] >= gaps[:, None]).sum(2)

    def _nce(self, queries: Tensor, bank: Tensor, right: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor]:
        """Is it the data's or a random clip? And the share of queries whose right clips beat all wrong ones.

        Args:
            queries: ``[B, D]``.
            bank: ``[clips, D]``.
            right, wrong: ``[B, P]`` and ``[B, K]`` clips.
        """
        right_scores, wrong_scores = (
            torch.einsum("bd,bkd->bk", queries, bank[clips]).float() * self.scale for clips in (right, wrong)
        )
        if self.log_partition.isnan():
            # Held fixed after the first batch, as the paper does; the mean over all processes.
            with torch.no_grad():
                self.log_partition.copy_(gather_with_gradient(wrong_scores.exp().mean()[None]).mean().log())
        noise = self.log_partition + math.log(wrong.shape[1])
        loss = F.softplus(noise - right_scores).mean(1) + F.softplus(wrong_scores - noise).sum(1)
        found = (right_scores.amin(1) > wrong_scores.amax(1)).float().mean()
        return loss.mean(), found

    def _within_batch(self, video: Tensor, audio: Tensor) -> ObjectiveOutput:
        own = own_rows(len(video), video.device)
        to_sound = video @ gather_with_gradient(audio).T * self.scale
        to_picture = audio @ gather_with_gradient(video).T * self.scale
        forward, backward = F.cross_entropy(to_sound, own), F.cross_entropy(to_picture, own)
        logs = {
            "picture_to_sound": forward.detach(),
            "sound_to_picture": backward.detach(),
            "retrieval": (to_sound.argmax(1) == own).float().mean(),
        }
        return ObjectiveOutput(forward + backward, logs)

    @torch.no_grad()
    def _remember(self, clip: Tensor, video: Tensor, audio: Tensor) -> None:
        numbers, *means = clip_means(clip, video, audio)
        for bank, new in zip((self.video_bank, self.audio_bank), means, strict=True):
            bank[numbers] = F.normalize(MOMENTUM * bank[numbers] + (1 - MOMENTUM) * new, dim=1)
