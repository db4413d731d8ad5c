"""Synchronization and retrieval of a model: metrics on held-out windows at known offsets."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.windows import check_finite
from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.errors import ModelError
from avlearn.evaluation.evaluator import CandidateClips, Evaluator, NotMeasurableError
from avlearn.evaluation.result import ClassMetrics, EvaluatorResult
from avlearn.evaluation.selection import one_of_two, solos
from avlearn.evaluation.windows import BATCH, OFFSETS, WindowCuts, cut_windows, off_grid, on_grid
from avlearn.metrics import MetricResult
from avlearn.metrics.retrieval import recall_at
from avlearn.metrics.sync import (
    SYNCHFORMER,
    auc,
    best_threshold,
    binary_accuracy,
    median_offset_error_ms,
    offset_within,
    synchformer_accuracy,
    two_afc,
)
from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives import EmbeddedBatch, Objective
from avlearn.objectives.similarity import offset_scores, pair_scores
from avlearn.signal.peak import vertex

_APART = 0.5  # seconds by which a shifted pair is off at least
_FINE = 0.01  # seconds: true offsets off the grid of the steps are multiples of this
_RETRIEVAL = 100  # clips in a gallery
_FEWEST = 3  # clips: the threshold is set on a third of them
_CLASS = 10  # clips that a class needs for metrics of its own


class SyncEvaluator(Evaluator):
    """Synchronization and retrieval, on clips that nothing is said of (of a world, those not made for another task)."""

    task = "sync"

    def choose(self, listed: CandidateClips) -> list[Row]:
        if not (self.subject.common_space or self.subject.objective):
            raise NotMeasurableError("the model has neither a common space nor an objective in its folder")
        if not listed.rows:
            raise NotMeasurableError(f"no clip lasts the {listed.needed:.2f} s that the search for an offset needs")
        others = {*one_of_two(listed.rows, self.subject.model), *solos(listed.rows)}
        rows = [row for row in listed.rows if row not in others] or listed.rows
        if len(rows) < _FEWEST:
            raise NotMeasurableError(f"too few clips can be used: {len(rows)}, and {_FEWEST} are needed")
        return rows

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        subject = self.subject
        cache = subject.decoded(rows)
        return EvaluatorResult(
            *sync_metrics(subject.model, subject.objective, cache, [r.labels for r in rows], subject.seed)
        )


class OffsetScorer:
    """Scores of videos with their audio at every offset, by what a model has for that.

    That is its objective's own score, where there is one that scores offsets by a network of its own; else the dense
    score of the common space.

    Args:
        model: the towers.
        objective: of the model's folder, or None.

    Attributes:
        unit: seconds from one offset to the next: a step of the model, or what the objective's classes are apart.
        offsets: among which one is sought.
        margin: offsets on each side beyond those, which the objective knows too.
        room: seconds by which the audio is longer than the video.

    Raises:
        ModelError: there is neither an objective nor a common space.
    """

    def __init__(self, model: AudioVisual, objective: Objective[Any] | None):
        if objective is None and not model.config.common_space:
            raise ModelError(
                "this model's objective taught it no common space of video and audio, and its folder holds no "
                "objective that could score offsets: nothing about it can be said of synchronization"
            )
        self.model, self.objective = model, objective and objective.to(model.device)
        if objective is None:
            known, self.room = OFFSETS, (OFFSETS - 1) * model.step
        else:
            spec = objective.spec
            known, self.room = objective.offset_classes, (spec.offsets - 1) * spec.step
        self.unit = self.room / (known - 1)
        self.offsets = min(OFFSETS, known)
        self.margin = (known - self.offsets) // 2

    def batches(self, cache: ClipCache, cut: WindowCuts, *, blank: bool = False) -> Iterator[EmbeddedBatch]:
        """Embedded batches of clips; ``blank``: with black frames."""
        for video, audio in cut_windows(self.model, cache, cut):
            seen = self.model.video_features(torch.zeros_like(video) if blank else video)
            heard = self.model.audio_features(audio)
            none = torch.zeros(len(video), dtype=torch.long, device=video.device)
            placed = (
                check_finite(self.model.project_video(seen), "the video"),
                check_finite(self.model.project_audio(heard), "the audio"),
            )
            yield EmbeddedBatch(*placed, none, none, seen, heard)

    def of(self, batch: EmbeddedBatch, steps: Tensor) -> Tensor:
        """Scores ``[B, O]`` of videos that begin ``steps [O]``, in units, into their audio."""
        if self.objective is not None:
            return self.objective.offset_scores(batch, steps)
        return offset_scores(batch.video, batch.audio, self.model.config.pool_scale, 0, steps)

    def chances(self, scorer: np.ndarray) -> np.ndarray:
        """Log-probabilities ``[N, O]`` of offsets.

        Similarity is not comparable between clips (a still moment scores low everywhere); the probability that a
        clip's own curve gives to an offset is.
        """
        scale = self.model.config.score_scale if self.objective is None else 1.0
        return (torch.from_numpy(scorer) * scale).log_softmax(1).numpy()

    def grid(self) -> np.ndarray:
        """Seconds by which the audio leads, ``[O]``.

        The audio of offset o begins o steps before the video: seen from the middle of the range, the audio leads by
        what is left.
        """
        return (self.offsets // 2 - np.arange(self.offsets)) * self.unit

    def cut(self, lead: np.ndarray) -> WindowCuts:
        """Windows whose videos have the offsets ``lead [N]``, among those that are sought, from their audio."""
        return on_grid(self.model, (lead + self.margin) * self.unit, self.room)


@torch.inference_mode()
def score_offsets(scorer: OffsetScorer, cache: ClipCache, cut: WindowCuts, *, blank: bool = False) -> np.ndarray:
    """Scores ``[N, O]`` of the offsets that are sought."""
    steps = torch.arange(scorer.offsets, device=scorer.model.device) + scorer.margin
    return torch.cat([scorer.of(batch, steps) for batch in scorer.batches(cache, cut, blank=blank)]).cpu().numpy()


def wrong_shifts(offsets: int, unit: float) -> np.ndarray:
    """Units, around the end of the range, by which a wrong offset may be off: half a second at least, both ways."""
    nearest = min(round(np.ceil(_APART / unit - 1e-6)), offsets // 2)
    return np.arange(nearest, offsets - nearest + 1)


def shifted(lead: np.ndarray, offsets: int, unit: float, rng: np.random.Generator) -> np.ndarray:
    """A wrong offset for each right one, ``[N]``.

    Every offset is wrong as often as right. Were it otherwise, whoever says "the middle", and looks at nothing, would
    pass for better than chance.
    """
    return (lead + rng.choice(wrong_shifts(offsets, unit), len(lead))) % offsets


def sync_metrics(
    model: AudioVisual, objective: Objective[Any] | None, cache: ClipCache, labels: list[tuple[str, ...]], seed: int
) -> tuple[list[MetricResult], list[ClassMetrics]]:
    """Metrics of synchronization and retrieval, and the main ones of each class.

    Args:
        model: the towers.
        objective: of the model's folder, or None.
        cache: decoded clips.
        labels: of the clips.
        seed: of the offsets.

    Raises:
        ModelError: see `OffsetScorer`.
    """
    scorer = OffsetScorer(model, objective)
    rng = np.random.default_rng(seed)
    lead = rng.integers(0, scorer.offsets, len(cache.video))
    scores, pairs = _read(scorer, cache, lead)
    grid = scorer.grid()
    chances = scorer.chances(scores)
    rows = np.arange(len(lead))
    right, wrong = chances[rows, lead], chances[rows, shifted(lead, scorer.offsets, scorer.unit, rng)]
    held = len(lead) // 3
    threshold = best_threshold(right[:held], wrong[:held])
    predicted, true = grid[scores.argmax(1)], grid[lead]
    metrics = [
        two_afc(right, wrong),
        binary_accuracy(right[held:], wrong[held:], threshold),
        auc(right[held:], wrong[held:]),
        *(offset_within(predicted, true, k * scorer.unit, grid) for k in range(3)),
        *_off_grid(scorer, cache, seed),
        *_synchformer(scorer, cache, seed),
    ]
    if model.config.common_space:
        begin = np.round((lead + scorer.margin) * scorer.unit / model.step).astype(int)
        metrics += _retrieval(model, pairs, begin)
    classes = []
    for label in sorted({name for names in labels for name in names}):
        own = np.array([k for k, names in enumerate(labels) if label in names])
        if len(own) >= _CLASS:
            within = offset_within(predicted[own], true[own], scorer.unit, grid)
            classes.append(ClassMetrics(label, two_afc(right[own], wrong[own]), within))
    return metrics, classes


@torch.inference_mode()
def _read(scorer: OffsetScorer, cache: ClipCache, lead: np.ndarray) -> tuple[np.ndarray, list[tuple[Tensor, Tensor]]]:
    """Scores ``[N, O]``, and of the first clips ``V [D, T, Y, X]`` and ``A [D, U]``, for a gallery."""
    steps = torch.arange(scorer.offsets, device=scorer.model.device) + scorer.margin
    kept: list[tuple[Tensor, Tensor]] = []
    scores = []
    for batch in scorer.batches(cache, scorer.cut(lead)):
        scores.append(scorer.of(batch, steps))
        kept += list(zip(batch.video, batch.audio, strict=True))[: _RETRIEVAL - len(kept)]
    return torch.cat(scores).cpu().numpy(), kept


def _off_grid(scorer: OffsetScorer, cache: ClipCache, seed: int) -> list[MetricResult]:
    """The median error where true offsets lie anywhere: by the best step, and between the steps."""
    step, reach = scorer.unit, scorer.offsets // 2
    limit = int(reach * step / _FINE + 1e-6)
    lead = np.random.default_rng([seed, 1]).integers(-limit, limit + 1, len(cache.video)) * _FINE
    cut = off_grid(scorer.model, lead + (reach + scorer.margin) * step, scorer.room)
    scores = score_offsets(scorer, cache, cut)
    grid = scorer.grid()
    nearest = grid[np.abs(grid[None] + lead[:, None]).argmin(1)]
    best = grid[scores.argmax(1)]
    fine = best - np.array([vertex(row, int(row.argmax())) for row in scores]) * step
    return [
        median_offset_error_ms(best, -lead, grid, f", steps of {step * 1000:.0f} ms", nearest),
        median_offset_error_ms(fine, -lead, grid, ", between steps"),
    ]


def _synchformer(scorer: OffsetScorer, cache: ClipCache, seed: int) -> list[MetricResult]:
    """Accuracy on the grid of Synchformer, by windows of the model's length; nothing where clips are too short."""
    classes, step = SYNCHFORMER, scorer.unit
    reach = round(np.ceil(classes.max() / step - 1e-6))
    room = max(2 * reach * step, scorer.room)
    fixed = scorer.objective is not None and scorer.room < room
    if fixed or cache.seconds < scorer.model.config.seconds + room + 1 / cache.fps:
        return []
    true = classes[np.random.default_rng([seed, 2]).integers(0, len(classes), len(cache.video))]
    cut = off_grid(scorer.model, room / 2 - true, room)
    begin = round(room / 2 / step)
    steps = torch.arange(begin - reach, begin + reach + 1, device=scorer.model.device)
    with torch.inference_mode():
        scores = torch.cat([scorer.of(batch, steps) for batch in scorer.batches(cache, cut)]).cpu().numpy()
    best = scores.argmax(1)
    fine = best + np.array([vertex(row, int(k)) for row, k in zip(scores, best, strict=True)])
    return synchformer_accuracy((reach - fine) * step, true)


@torch.inference_mode()
def _retrieval(model: AudioVisual, pairs: list[tuple[Tensor, Tensor]], begin: np.ndarray) -> list[MetricResult]:
    """Recall of videos that begin ``begin`` steps into their audio."""
    frames = pairs[0][0].shape[1]
    video = torch.stack([seen for seen, _ in pairs])
    audio = torch.stack([heard[:, o : o + frames] for (_, heard), o in zip(pairs, begin, strict=False)])

    def blocks() -> Iterator[np.ndarray]:
        for rows in video.split(BATCH):
            yield pair_scores(rows, audio, model.config.pool_scale)[..., 0].cpu().numpy()

    return recall_at(blocks, (1, 5, 10))
