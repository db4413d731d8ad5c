"""Separation of mixtures of clips, led by the video of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.separate.masks import separate_window
from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.data.mixing import MixtureList
from avlearn.evaluation.evaluator import NO_COMMON_SPACE, CandidateClips, Evaluator, NotMeasurableError
from avlearn.evaluation.result import EvaluatorResult
from avlearn.evaluation.selection import solos
from avlearn.metrics import MetricResult
from avlearn.metrics.bss_eval import bss_eval_metrics
from avlearn.metrics.separation import best_order_improvement, separation
from avlearn.models.audiovisual import AudioVisual
from avlearn.signal import Stft
from avlearn.tasks.separate.module import SeenClips

NO_SEPARATOR = "the model has no separator"
_FEWEST = 16  # clips


class SeparationEvaluator(Evaluator):
    """Separation of mixtures of clips with one source alone."""

    task = "separation"

    def choose(self, listed: CandidateClips) -> list[Row]:
        model = self.subject.model
        if model.separator is None:
            raise NotMeasurableError(NO_SEPARATOR)
        if not self.subject.common_space and model.separator.config.query == "place":
            raise NotMeasurableError(NO_COMMON_SPACE)
        # Of real clips nothing is known: as in their training, each counts as one source.
        rows = solos(listed.rows) or [row for row in listed.rows if row.labels and not row.truth]
        require_solos(rows, _FEWEST)
        return rows

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        subject = self.subject
        cache = subject.decoded(rows)
        metrics, mixtures = separation_metrics(subject.model, cache, rows, subject.seed, subject.baseline)
        return EvaluatorResult(metrics, mixtures=mixtures)


def require_solos(rows: Sequence[Row], fewest: int) -> None:
    """Raise NotMeasurableError for fewer clips with one source alone."""
    if len(rows) < fewest:
        raise NotMeasurableError(f"{len(rows)} clips have one source alone, and {fewest} are needed")


@dataclass(frozen=True)
class Mixtures:
    """Audio of M mixtures, and what is seen of each.

    Attributes:
        references: float32 ``[M, K, S]``.
        queries: ``[M, K, D, T]``.
        digest: SHA-256 of the list.
    """

    references: np.ndarray
    queries: np.ndarray
    digest: str


def make_mixtures(clips: SeenClips, listed: MixtureList, names: Sequence[str]) -> Mixtures:
    """The mixtures of a list, cut from clips of these names."""
    free = clips.features.shape[2] - clips.steps
    references, queries = [], []
    for row, gains, starts in zip(listed.clips, listed.gains, listed.starts, strict=True):
        cuts = [clips.cut(int(clip), int(start * (free + 1))) for clip, start in zip(row, starts, strict=True)]
        references.append(np.stack([audio * gain for (audio, _), gain in zip(cuts, gains, strict=True)]))
        queries.append(np.stack([features for _, features in cuts]))
    return Mixtures(np.stack(references), np.stack(queries), listed.digest(names))


def separate_mixtures(model: AudioVisual, mixture: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """What each of ``queries [M, K, D, T]`` gets of ``mixture [M, S]``: ``[M, K, S]``."""
    rate = model.config.sample_rate
    found = []
    for mixed, seen in zip(mixture, queries, strict=True):
        audio, features = (torch.from_numpy(values)[None].to(model.device) for values in (mixed, seen))
        found.append(separate_window(model, audio, rate, features)[:, 0].cpu().numpy())
    return np.stack(found)


def separation_metrics(
    model: AudioVisual,
    cache: ClipCache,
    rows: list[Row],
    seed: int,
    baseline: AudioVisual | None = None,
) -> tuple[list[MetricResult], list[str]]:
    """Metrics of separation, for mixtures of different classes, with one of two off the screen, and of one class.

    Args:
        model: one with a separator.
        cache: decoded clips with one source each.
        rows: of the clips.
        seed: of the mixtures.
        baseline: a separator that sees nothing; its tracks are put in the order that fits the truth best.

    Returns:
        The metrics, and digests of the lists of mixtures.
    """
    labels = [row.labels[0] for row in rows]
    names = [f"{row.name} {row.hash}" for row in rows]
    hot = torch.zeros(len(labels), 1, dtype=torch.bool)
    clips = SeenClips(model, cache, hot, model.config.seconds)
    metrics, digests = [], []
    for name, same in (("different classes", False), ("same class", True)):
        listed = MixtureList.of(labels, model.require_separator().config.sources, same, seed)
        if not len(listed.clips):
            continue
        mixtures = make_mixtures(clips, listed, names)
        digests.append(mixtures.digest)
        metrics += _metrics(model, mixtures, name, baseline)
        if not same:
            metrics += _onscreen(model, mixtures)
    return metrics, digests


def _metrics(model: AudioVisual, mixtures: Mixtures, name: str, baseline: AudioVisual | None) -> list[MetricResult]:
    truth = mixtures.references
    mixture = truth.sum(1)
    best = ideal_mask_tracks(model, truth)
    metrics = []
    if model.require_separator().config.conditioning == "none":
        metrics.append(
            best_order_improvement(separate_mixtures(model, mixture, mixtures.queries), truth, mixture, name)
        )
    else:
        tracks = separate_mixtures(model, mixture, mixtures.queries)
        metrics += separation(tracks, truth, best["phase-sensitive"], name)
        metrics += bss_eval_metrics(tracks, truth, name)
    for kind in ("binary", "ratio"):
        metrics += separation(best[kind], truth, None, f"{name}, ideal {kind} masks")[:1]
    if baseline is not None:
        found = best_order_improvement(separate_mixtures(baseline, mixture, mixtures.queries), truth, mixture, name)
        metrics.append(found)
    return metrics


def _onscreen(model: AudioVisual, mixtures: Mixtures) -> list[MetricResult]:
    """The first of each mixture is seen, the rest is off the screen."""
    if model.require_separator().config.conditioning == "none":
        return []
    truth = np.stack([mixtures.references[:, 0], mixtures.references[:, 1:].sum(1)], 1)
    mixture = truth.sum(1)
    seen = separate_mixtures(model, mixture, mixtures.queries[:, :1])
    tracks = np.concatenate([seen, mixture[:, None] - seen], 1)
    return separation(tracks, truth, ideal_mask_tracks(model, truth)["phase-sensitive"], "on and off screen")


def ideal_mask_tracks(model: AudioVisual, references: np.ndarray) -> dict[str, np.ndarray]:
    """What masks of the model's own transform give at best, with the mixture's phase.

    Args:
        model: whose transform it is.
        references: ``[M, K, S]``.

    Returns:
        By kind of mask, ``[M, K, S]``.
    """
    settings = model.require_separator().config
    stft = Stft(model.config.sample_rate, settings.window, settings.hop)
    found: dict[str, list[Tensor]] = {"binary": [], "ratio": [], "phase-sensitive": []}
    for sources in torch.from_numpy(references):
        spectra, mixture = stft(sources), stft(sources.sum(0, keepdim=True))
        loud = spectra.abs()
        masks = {
            "binary": (loud >= loud.amax(0)).to(loud),
            "ratio": loud / loud.sum(0).clamp(min=1e-8),
            "phase-sensitive": ((spectra / (mixture + 1e-12)).real).clamp(0, 1),
        }
        for kind, mask in masks.items():
            found[kind].append(stft.inverse(mask * mixture, sources.shape[1]))
    return {kind: torch.stack(tracks).numpy() for kind, tracks in found.items()}
