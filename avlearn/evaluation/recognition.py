"""Few-shot recognition: a linear classifier on frozen features, fitted on a few labelled clips of each class."""

import numpy as np
import torch

from avlearn.apply.embed import pooled_features
from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.evaluation.clip_features import ClipFeatures
from avlearn.evaluation.evaluator import CandidateClips, Evaluator
from avlearn.evaluation.linear_probe import probe_features
from avlearn.evaluation.result import EvaluatorResult
from avlearn.evaluation.selection import solos
from avlearn.evaluation.separation import require_solos
from avlearn.evaluation.untrained import untrained
from avlearn.evaluation.windows import BATCH
from avlearn.metrics import MetricResult
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input

_FEWEST = 40  # clips


class RecognitionEvaluator(Evaluator):
    """Recognition by a linear classifier on frozen features, on clips with one source alone."""

    task = "recognition"

    def choose(self, listed: CandidateClips) -> list[Row]:
        rows = solos(listed.rows)
        require_solos(rows, _FEWEST)
        return rows

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        subject, labels = self.subject, [row.labels[0] for row in rows]
        return EvaluatorResult(recognition_metrics(subject.model, subject.decoded(rows), labels, subject.seed))


@torch.inference_mode()
def cached_features(model: AudioVisual, cache: ClipCache, labels: np.ndarray) -> ClipFeatures:
    """Features of recognition of decoded clips."""
    video, audio = [], []
    for first in range(0, len(cache.video), BATCH):
        frames = torch.from_numpy(np.array(cache.video[first : first + BATCH])).to(model.device)
        samples = torch.from_numpy(np.array(cache.audio[first : first + BATCH])).to(model.device)
        features, heard = model.video_features(frames_to_input(frames)), model.audio_features(samples)
        steps = min(features.shape[2], heard.shape[2])
        seen, said = pooled_features(model, features[:, :, :steps], heard[:, :, :steps])
        video.append(seen.cpu().numpy())
        audio.append(said.cpu().numpy())
    return ClipFeatures(np.concatenate(video), np.concatenate(audio), labels)


def recognition_metrics(model: AudioVisual, cache: ClipCache, labels: list[str], seed: int) -> list[MetricResult]:
    """Five labelled clips a class to learn from, as many to choose the regularisation, the rest to test.

    Args:
        model: the towers.
        cache: decoded clips with one source each.
        labels: of the clips.
        seed: of the split.

    Returns:
        Metrics beside those of the same network untrained; none where there are too few clips.
    """
    names = sorted(set(labels))
    targets = np.array([names.index(label) for label in labels])
    order = np.random.default_rng(seed).permutation(len(targets))
    parts: list[list[int]] = [[], [], []]
    for k in range(len(names)):
        own = [i for i in order if targets[i] == k]
        for part, chosen in zip(parts, (own[:5], own[5:10], own[10:]), strict=True):
            part += chosen
    if not all(parts) or len(parts[2]) < 5 * len(names):
        return []  # too few to say anything
    reference: dict[str, float] = {}
    for network in (untrained(model), model):
        features = cached_features(network, cache, targets)
        train, val, test = (features.take(np.array(part)) for part in parts)
        metrics, _ = probe_features(train, val, test, reference, ", 5 shots")
        if network is not model:
            reference = {f.name.split(", ")[1]: f.value for f in metrics if f.name.startswith("top-1")}
    return [f for f in metrics if f.name.startswith("top-1")]
