"""Classification of clips into clusters that their own features make: pseudo-labels (XDC, SeLaVi)."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import RecipeError
from avlearn.objectives.memory import clip_means
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    aligned_audio,
    zero_gradient,
)
from avlearn.objectives.registry import register
from avlearn.validation import Steps

SHARPNESS = 10.0  # of log-probabilities before the equipartition: half of SeLaVi's lambda of 20
TOLERANCE = 1e-3  # relative, of the sizes of clusters
MOST_ROUNDS = 1000


def cluster_classification(
    video_logits: Tensor, audio_logits: Tensor, video_labels: Tensor, audio_labels: Tensor
) -> ObjectiveOutput:
    """Cross-entropy of both modalities' clusters (XDC: Alwassel et al.; SeLaVi: Asano et al.; both NeurIPS 2020).

    There are no negatives: what is right comes from pseudo-labels.

    Args:
        video_logits, audio_logits: ``[B, K]`` for K clusters.
        video_labels, audio_labels: ``[B]``.

    Returns:
        The loss; logs ``video_loss``, ``audio_loss`` (the two parts), ``video_accuracy``, ``audio_accuracy``.

    >>> logits, labels = 5 * torch.eye(3), torch.arange(3)
    >>> loss, logs = cluster_classification(logits, logits, labels, labels)
    >>> round(float(loss), 4), float(logs["video_accuracy"])
    (0.0268, 1.0)
    """
    video, audio = F.cross_entropy(video_logits, video_labels), F.cross_entropy(audio_logits, audio_labels)
    logs = {
        "video_loss": video.detach(),
        "audio_loss": audio.detach(),
        "video_accuracy": (video_logits.argmax(1) == video_labels).float().mean(),
        "audio_accuracy": (audio_logits.argmax(1) == audio_labels).float().mean(),
    }
    return ObjectiveOutput(video + audio, logs)


def sinkhorn(scores: Tensor) -> Tensor:
    """The equipartition that is nearest to ``exp(scores)``, by Sinkhorn-Knopp (Cuturi, NeurIPS 2013).

    Args:
        scores: ``[N, K]``, logarithms.

    Returns:
        float64 ``[N, K]``: rows sum to ``1 / N``, columns to ``1 / K`` (relative error at most `TOLERANCE`, or what
        `MOST_ROUNDS` rounds reach).

    >>> sinkhorn(torch.tensor([[9.0, 0.0], [9.0, 8.0]])).argmax(1)  # equally many of each
    tensor([0, 1])
    """
    n, k = scores.shape
    plan = scores.double()
    for _ in range(MOST_ROUNDS):
        plan = plan - plan.logsumexp(0, keepdim=True) - math.log(k)
        plan = plan - plan.logsumexp(1, keepdim=True) - math.log(n)
        if (plan.logsumexp(0).exp() * k - 1).abs().max() <= TOLERANCE:
            break
    return plan.exp()


@dataclass(frozen=True)
class ClustersOptions(ObjectiveOptions):
    """Options of `Clusters`.

    Attributes:
        assign: how labels are made.
        clusters: their number, at most that of the clips.
        every: so many training steps labels are made anew from the clips seen so far; an epoch's steps or more.
    """

    name: Literal["clusters"] = "clusters"
    assign: Literal["kmeans", "sinkhorn"] = "kmeans"
    clusters: Annotated[int, Field(ge=2, le=10**5)] = 64
    every: Steps = 100
    shifts_audio = False


@register
class Clusters(Objective[ClustersOptions]):
    """`cluster_classification` with a linear head for each modality, and pseudo-labels from banks of features.

    - ``kmeans``: videos are told the cluster of their audio and audio that of its video, as in XDC. Each k-means starts
      from the centres of the one before, so that clusters keep their numbers and the heads their sense; XDC begins both
      anew.
    - ``sinkhorn``: one labelling for both, the likeliest under both heads of which all clusters are equally large, as
      in SeLaVi, with one head a modality instead of ten.

    A clip's features are those with which it was last trained on. A clip that has not been seen at any assignment has a
    random label, fixed by its number and balanced over clusters: both papers instead run the untrained towers over all
    clips before the first step. Clips that are not trained on have no labels: in evaluation they are, for ``kmeans``,
    the nearest centres of the other modality; for ``sinkhorn``, what the other modality's head holds likeliest.

    Raises:
        RecipeError: there are more clusters than clips.
    """

    Options = ClustersOptions
    common_space = False
    video_head: nn.Linear
    audio_head: nn.Linear
    video_bank: Tensor
    audio_bank: Tensor
    video_centres: Tensor
    audio_centres: Tensor
    video_labels: Tensor
    audio_labels: Tensor
    seen: Tensor
    steps: Tensor

    def __init__(self, options: ClustersOptions | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        count, clips = self.options.clusters, self.spec.clips
        if count > clips:
            raise RecipeError(f"objective.clusters: {count} clusters of {clips} clips; at most one a clip")
        random = torch.randperm(clips, generator=torch.Generator().manual_seed(0)) % count
        for name, channels in (("video", self.spec.video_channels), ("audio", self.spec.audio_channels)):
            self.add_module(f"{name}_head", nn.Linear(channels, count))
            self.register_buffer(f"{name}_bank", torch.zeros(clips, channels))
            self.register_buffer(f"{name}_centres", torch.zeros(count, channels))
            self.register_buffer(f"{name}_labels", random.clone())
        self.register_buffer("seen", torch.zeros(clips, dtype=torch.bool))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        video = batch.video_features.mean((2, 3, 4))
        audio = aligned_audio(batch.audio_features, batch.offset, batch.video_features.shape[2]).mean(2)
        if self.training:
            if self.steps % self.options.every == 0 and self.seen.sum() >= self.options.clusters:
                self.make_labels()
            video_labels, audio_labels = self.video_labels[batch.clip], self.audio_labels[batch.clip]
            self._remember(batch.clip, video, audio)
        else:
            video_labels, audio_labels = self.predicted_labels(video, audio)
        loss, logs = cluster_classification(self.video_head(video), self.audio_head(audio), video_labels, audio_labels)
        return ObjectiveOutput(loss + zero_gradient(batch), logs)

    @torch.no_grad()
    def make_labels(self) -> None:
        """New labels for all clips that have been seen."""
        video, audio = self.video_bank[self.seen], self.audio_bank[self.seen]
        if self.options.assign == "kmeans":
            self.audio_labels[self.seen] = self._kmeans(video, self.video_centres)
            self.video_labels[self.seen] = self._kmeans(audio, self.audio_centres)
        else:
            scores = self.video_head(video).log_softmax(1) + self.audio_head(audio).log_softmax(1)
            labels = sinkhorn(scores * SHARPNESS).argmax(1)
            self.video_labels[self.seen] = self.audio_labels[self.seen] = labels

    @torch.no_grad()
    def predicted_labels(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Labels for videos and for audio of clips that have none: ``[B, D']``, ``[B, D'']`` to ``[B]`` each."""
        if self.options.assign == "sinkhorn":
            return self.audio_head(audio).argmax(1), self.video_head(video).argmax(1)
        from_audio = torch.cdist(F.normalize(audio.float(), dim=1), self.audio_centres)
        from_video = torch.cdist(F.normalize(video.float(), dim=1), self.video_centres)
        return from_audio.argmin(1), from_video.argmin(1)

    def _kmeans(self, features: Tensor, centres: Tensor) -> Tensor:
        """Clusters of the directions of ``[N, D']``, from ``centres`` on, which become the new ones: ``[N]``."""
        # Slow to import, and only needed here.
        from sklearn.cluster import KMeans

        start = centres.cpu().numpy() if centres.any() else "k-means++"
        directions = F.normalize(features, dim=1).cpu().numpy()
        found = KMeans(self.options.clusters, init=start, n_init=1, random_state=0).fit(directions)
        centres.copy_(torch.from_numpy(found.cluster_centers_))
        return torch.from_numpy(found.labels_).to(features.device, torch.long)

    @torch.no_grad()
    def _remember(self, clip: Tensor, video: Tensor, audio: Tensor) -> None:
        numbers, video, audio = clip_means(clip, video, audio)
        self.video_bank[numbers], self.audio_bank[numbers] = video, audio
        self.seen[numbers] = True
        self.steps += 1
