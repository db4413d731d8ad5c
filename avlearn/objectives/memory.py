"""Audio-visual instance discrimination against a memory of all clips, with cross-modal agreement (AVID)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import RecipeError
from avlearn.objectives.contrastive import info_nce
from avlearn.objectives.gather import gather_with_gradient
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    clip_vectors,
)
from avlearn.objectives.registry import register
from avlearn.validation import Count, Positive, Share

MOMENTUM = 0.5  # of the memory bank


def avid(
    video: Tensor,
    audio: Tensor,
    video_bank: Tensor,
    audio_bank: Tensor,
    clip: Tensor,
    negatives: Tensor,
    positives: Tensor | None = None,
    temperature: float = 0.07,
    log_partition: Tensor | None = None,
) -> ObjectiveOutput:
    """Cross-modal instance discrimination by noise-contrastive estimation (AVID: Morgado et al., CVPR 2021).

    Each video is told from random clips by its own audio in a memory bank, and each audio by its video. With
    ``positives``, cross-modal agreement is added: within each modality, clips that look alike *and* sound alike.

    Args:
        video, audio: ``[B, D]`` of any length.
        video_bank, audio_bank: ``[N, D]`` of unit length, what is remembered of all clips.
        clip: ``[B]``, the clips' rows in the banks.
        negatives: ``[B, K]`` rows.
        positives: ``[B, P]`` rows.
        temperature: of the cosine similarities; the paper's is 0.07.
        log_partition: scalar, logarithm of the normalizer; by default that of this batch. The paper keeps that of the
            first batch.

    Returns:
        The loss; logs ``video_to_audio``, ``audio_to_video``, ``retrieval`` (share of videos whose own audio beats all
        negatives) and, with positives, ``agreement``.

    >>> bank = torch.eye(4)
    >>> clip, negatives = torch.tensor([0, 1]), torch.tensor([[2, 3], [2, 3]])
    >>> loss, logs = avid(bank[:2], bank[:2], bank, bank, clip, negatives)
    >>> float(logs["retrieval"])
    1.0
    """
    video, audio = F.normalize(video, dim=1), F.normalize(audio, dim=1)
    if log_partition is None:
        log_partition = estimated_log_partition(video, audio_bank, negatives, temperature)

    def nce(queries: Tensor, bank: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return _noise_contrastive(queries, bank, right, negatives, temperature, log_partition)

    forward, found = nce(video, audio_bank, clip[:, None])
    backward, _ = nce(audio, video_bank, clip[:, None])
    logs = {"video_to_audio": forward.detach(), "audio_to_video": backward.detach(), "retrieval": found}
    if positives is None:
        return ObjectiveOutput(forward + backward, logs)
    within_video, _ = nce(video, video_bank, positives)
    within_audio, _ = nce(audio, audio_bank, positives)
    logs["agreement"] = (within_video + within_audio).detach()
    return ObjectiveOutput(forward + backward + within_video + within_audio, logs)


def _scores(queries: Tensor, bank: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """``[B, D]`` against ``rows [B, K]`` of a bank: float32 ``[B, K]``."""
    return torch.einsum("bd,bkd->bk", queries, bank[rows]).float() / temperature


@torch.no_grad()
def estimated_log_partition(queries: Tensor, bank: Tensor, negatives: Tensor, temperature: float = 0.07) -> Tensor:
    """Logarithm of the mean density of negatives, over all processes: a scalar (Mnih & Teh, ICML 2012).

    Args:
        queries: ``[B, D]`` of unit length.
        bank: ``[N, D]`` likewise.
        negatives: ``[B, K]`` rows of the bank.
        temperature: of the cosine similarities.

    >>> bank = torch.eye(3)
    >>> float(estimated_log_partition(bank[:1], bank, torch.tensor([[1, 2]])))
    0.0
    """
    density = _scores(queries, bank, negatives, temperature).exp().mean()
    return gather_with_gradient(density[None]).mean().log()


def _noise_contrastive(
    queries: Tensor, bank: Tensor, right: Tensor, wrong: Tensor, temperature: float, log_partition: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of telling ``right [B, P]`` from ``wrong [B, K]`` rows; share of queries whose right beat all wrong ones."""
    right_scores, wrong_scores = (_scores(queries, bank, rows, temperature) for rows in (right, wrong))
    noise = log_partition + math.log(wrong.shape[1])
    loss = F.softplus(noise - right_scores).mean(1) + F.softplus(wrong_scores - noise).sum(1)
    found = (right_scores.amin(1) > wrong_scores.amax(1)).float().mean()
    return loss.mean(), found


@torch.no_grad()
def clip_means(clip: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    """What all processes have of their clips, one row a clip: the mean where a clip comes several times.

    Args:
        clip: ``[B]`` numbers.
        rows: ``[B, D]`` each.

    Returns:
        The numbers ``[C]``, ascending, and float32 ``[C, D]`` for each of ``rows``; the same in every process.

    >>> clip_means(torch.tensor([4, 1, 4]), torch.tensor([[1.0], [2.0], [6.0]]))
    (tensor([1, 4]), tensor([[2.0000],
            [3.5000]]))
    """
    numbers, which, counts = gather_with_gradient(clip).unique(return_inverse=True, return_counts=True)
    means = []
    for values in rows:
        gathered = gather_with_gradient(values.detach()).float()
        sums = gathered.new_zeros(len(numbers), gathered.shape[1]).index_add_(0, which, gathered)
        means.append(sums / counts[:, None])
    return numbers, *means


@dataclass(frozen=True)
class AVIDOptions(ObjectiveOptions):
    """Options of `AVID`.

    Attributes:
        temperature: the paper's is 0.07.
        negatives: drawn for each clip; the paper has 1024.
        positives: clips in agreement; the paper has 32.
        agreement_from: share of the training, in [0, 1]; at 1 there is no agreement.
        whole_sound: all of the audio is a clip's, also what goes beyond the video, as in the paper (2 s to 0.5 s).
    """

    name: Literal["avid"] = "avid"
    temperature: Positive = 0.07
    negatives: Count = 1024
    positives: Count = 32
    agreement_from: Share = 0.5
    whole_sound: bool = False
    shifts_audio = False


@register
class AVID(Objective[AVIDOptions]):
    """`avid` with its memory banks, and from ``agreement_from`` on with cross-modal agreement.

    Clips in agreement are looked up in the banks at every step, where the paper looks them up every few epochs.

    Clips that are not trained on are not in the memory: in evaluation the loss is `info_nce` within the batch.

    Raises:
        RecipeError: ``spec.clips`` are fewer than two: there are no negatives.
    """

    Options = AVIDOptions
    video_bank: Tensor
    audio_bank: Tensor
    log_partition: Tensor

    def __init__(self, options: AVIDOptions | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        clips = self.spec.clips
        if clips < 2:
            raise RecipeError(f"objective: 'avid' remembers all clips of the training, of which there are {clips}")
        self.positives = max(min(self.options.positives, clips - 2), 0)  # leaves a negative beside the clip itself
        # A generator of its own: every process must start from the same banks.
        generator = torch.Generator().manual_seed(0)
        for name in ("video_bank", "audio_bank"):
            bank = torch.randn(clips, self.spec.dim, generator=generator)
            self.register_buffer(name, F.normalize(bank, dim=1))
        self.register_buffer("log_partition", torch.tensor(math.nan))

    @property
    def scale(self) -> float:
        """One over the temperature of similarities."""
        return 1.0 / self.options.temperature

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        video, audio = clip_vectors(batch, self.options.whole_sound)
        if not self.training:
            return info_nce(video, audio, self.options.temperature)
        agree = self.positives > 0 and self.progress >= self.options.agreement_from
        alike = self.agreement(batch.clip) if agree else None
        excluded = batch.clip[:, None] if alike is None else torch.cat([batch.clip[:, None], alike], 1)
        negatives = self.draw(excluded)
        unit = F.normalize(video, dim=1), F.normalize(audio, dim=1)
        if self.log_partition.isnan():
            # Held fixed after the first batch, as in the paper.
            density = unit[0], self.audio_bank, negatives, self.options.temperature
            self.log_partition.copy_(estimated_log_partition(*density))
        output = avid(
            video, audio, self.video_bank, self.audio_bank, batch.clip, negatives, alike, self.options.temperature,
            self.log_partition,
        )  # fmt: skip
        self._remember(batch.clip, *unit)
        return output

    @torch.no_grad()
    def agreement(self, clip: Tensor) -> Tensor:
        """The other clips that are most like each in the modality in which they are less: ``[B]`` to ``[B, P]``."""
        by_video, by_audio = (bank[clip] @ bank.T for bank in (self.video_bank, self.audio_bank))
        alike = torch.minimum(by_video, by_audio).scatter(1, clip[:, None], -math.inf)
        return alike.topk(self.positives).indices

    def draw(self, excluded: Tensor) -> Tensor:
        """Random clips, for each row but those of ``excluded``, ``[B, E]``: ``[B, negatives]``."""
        count, width = excluded.shape
        drawn = torch.randint(self.spec.clips - width, (count, self.options.negatives), device=excluded.device)
        # The k-th clip that is left has k plus as many before it as are excluded among the clips up to it.
        gaps = excluded.sort(1).values - torch.arange(width, device=excluded.device)
        return drawn + (drawn[:, :, None] >= gaps[:, None]).sum(2)

    @torch.no_grad()
    def _remember(self, clip: Tensor, video: Tensor, audio: Tensor) -> None:
        numbers, *means = clip_means(clip, video, audio)
        for bank, new in zip((self.video_bank, self.audio_bank), means, strict=True):
            bank[numbers] = F.normalize(MOMENTUM * bank[numbers] + (1 - MOMENTUM) * new, dim=1)
