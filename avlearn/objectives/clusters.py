"""Classification of clips into clusters that their own features make: pseudo-labels."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import RecipeError
from avlearn.objectives.memory import clip_means
from avlearn.objectives.objective import Objective, ObjectiveOutput, Pair, Setting, ShiftSchedule, sound_at

SHARPNESS = 10.0  # of log-probabilities before the equipartition: half of SeLaVi's lambda of 20
TOLERANCE = 1e-3  # relative, of the sizes of clusters
MOST_ROUNDS = 1000


def sinkhorn(scores: Tensor) -> Tensor:
    """The equipartition that is nearest to ``exp(scores)``, by Sinkhorn-Knopp (Cuturi, NeurIPS 2013).

    Args:
        scores: ``[N, K]``, logarithms.

    Returns:
        float64 ``[N, K]``: rows sum to ``1 / N``, columns to ``1 / K`` (relative error at most `TOLERANCE`, or what
        `MOST_ROUNDS` rounds reach).
    """
    n, k = scores.shape
    plan = scores.double()
    for _ in range(MOST_ROUNDS):
        plan = plan - plan.logsumexp(0, keepdim=True) - math.log(k)
        plan = plan - plan.logsumexp(1, keepdim=True) - math.log(n)
        if (plan.logsumexp(0).exp() * k - 1).abs().max() <= TOLERANCE:
            break
    return plan.exp()


class Clusters(Objective):
    """Which cluster is it in? A linear head for each modality, pseudo-labels from banks of features; no negatives.

    - ``kmeans``: pictures are told the cluster of their sound and sounds that of their picture, as in XDC (Alwassel et
      al., NeurIPS 2020). Each k-means starts from the centres of the one before, so that clusters keep their numbers
      and the heads their sense; XDC begins both anew.
    - ``sinkhorn``: one labelling for both, the likeliest under both heads of which all clusters are equally large, as
      in SeLaVi (Asano et al., NeurIPS 2020), with one head a modality instead of ten.

    A clip's features are those with which it was last trained on. A clip that has not been seen at any assignment has a
    random label, fixed by its number and balanced over clusters: both papers instead run the untrained towers over all
    clips before the first step. Clips that are not trained on have no labels: in evaluation they are, for ``kmeans``,
    the nearest centres of the other modality; for ``sinkhorn``, what the other modality's head holds likeliest.

    Args:
        schedule, setting: see `Objective`.
        assign: how labels are made.
        clusters: their number, at most that of the clips.
        every: so many training steps labels are made anew from the clips seen so far; an epoch's steps or more.

    Raises:
        RecipeError: there are more clusters than clips.
    """

    common_space = False

    def __init__(
        self,
        schedule: ShiftSchedule,
        setting: Setting,
        assign: Literal["kmeans", "sinkhorn"],
        clusters: int,
        every: int,
    ) -> None:
        super().__init__(schedule, setting)
        if clusters > setting.clips:
            raise RecipeError(f"objective.clusters: {clusters} clusters of {setting.clips} clips; at most one a clip")
        self.assign, self.clusters, self.every = assign, clusters, every
        random = torch.randperm(setting.clips, generator=torch.Generator().manual_seed(0)) % clusters
        for name, channels in (("video", setting.video_channels), ("audio", setting.audio_channels)):
            self.add_module(f"{name}_head", nn.Linear(channels, clusters))
            self.register_buffer(f"{name}_bank", torch.zeros(setting.clips, channels))
            self.register_buffer(f"{name}_centres", torch.zeros(clusters, channels))
            self.register_buffer(f"{name}_labels", random.clone())
        self.register_buffer("seen", torch.zeros(setting.clips, dtype=torch.bool))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, pair: Pair) -> ObjectiveOutput:
        video = pair.video_features.mean((2, 3, 4))
        audio = sound_at(pair.audio_features, pair.offset, pair.video_features.shape[2]).mean(2)
        if self.training:
            if self.steps % self.every == 0 and self.seen.sum() >= self.clusters:
                self.make_labels()
            video_labels, audio_labels = self.video_labels[pair.clip], self.audio_labels[pair.clip]
            self._remember(pair.clip, video, audio)
        else:
            video_labels, audio_labels = self.predicted_labels(video, audio)
        video_logits, audio_logits = self.video_head(video), self.audio_head(audio)
        picture, sound = F.cross_entropy(video_logits, video_labels), F.cross_entropy(audio_logits, audio_labels)
        logs = {
            "picture": picture.detach(),
            "sound": sound.detach(),
            "picture_right": (video_logits.argmax(1) == video_labels).float().mean(),
            "sound_right": (audio_logits.argmax(1) == audio_labels).float().mean(),
        }
        # The common space takes no part, but processes that average gradients want one for every parameter.
        unused = 0.0 * (pair.video.sum() + pair.audio.sum())
        return ObjectiveOutput(picture + sound + unused, logs)

    @torch.no_grad()
    def make_labels(self) -> None:
        """New labels for all clips that have been seen."""
        video, audio = self.video_bank[self.seen], self.audio_bank[self.seen]
        if self.assign == "kmeans":
            self.audio_labels[self.seen] = self._kmeans(video, self.video_centres)
            self.video_labels[self.seen] = self._kmeans(audio, self.audio_centres)
        else:
            scores = self.video_head(video).log_softmax(1) + self.audio_head(audio).log_softmax(1)
            labels = sinkhorn(scores * SHARPNESS).argmax(1)
            self.video_labels[self.seen] = self.audio_labels[self.seen] = labels

    @torch.no_grad()
    def predicted_labels(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Labels for pictures and for sounds of clips that have none: ``[B, D']``, ``[B, D'']`` to ``[B]`` each."""
        if self.assign == "sinkhorn":
            return self.audio_head(audio).argmax(1), self.video_head(video).argmax(1)
        heard = torch.cdist(F.normalize(audio.float(), dim=1), self.audio_centres)
        seen = torch.cdist(F.normalize(video.float(), dim=1), self.video_centres)
        return heard.argmin(1), seen.argmin(1)

    def _kmeans(self, features: Tensor, centres: Tensor) -> Tensor:
        """Clusters of the directions of ``[N, D']``, from ``centres`` on, which become the new ones: ``[N]``."""
        # Slow to import, and only needed here.
        from sklearn.cluster import KMeans

        start = centres.cpu().numpy() if centres.any() else "k-means++"
        directions = F.normalize(features, dim=1).cpu().numpy()
        found = KMeans(self.clusters, init=start, n_init=1, random_state=0).fit(directions)
        centres.copy_(torch.from_numpy(found.cluster_centers_))
        return torch.from_numpy(found.labels_).to(features.device, torch.long)

    @torch.no_grad()
    def _remember(self, clip: Tensor, video: Tensor, audio: Tensor) -> None:
        numbers, seen, heard = clip_means(clip, video, audio)
        self.video_bank[numbers], self.audio_bank[numbers] = seen, heard
        self.seen[numbers] = True
        self.steps += 1
