"""The shortcut audit: whether the offset can be told without comparing video and audio.

The true offset of a pair of windows is the place of the video's in the clip less the place of the audio's. So data
leak it where a window gives away its own place: a fade, a click, leading silence, padding, the traces of a codec. In
the evaluation the audio begins where the clip begins, and then the video's place is the offset itself; where videos
lie at one place and audio is shifted, the audio's is. (SparseSync, Iashin et al., BMVC 2022, found such traces of
codecs in LRS3.) Each test of synchronization is therefore made again with the audio alone, with the video alone, and
with a model that is given nothing to compare.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from avlearn.data.cache import ClipCache
from avlearn.errors import DataError
from avlearn.evaluation.evaluator import Subject
from avlearn.evaluation.result import list_skipped
from avlearn.evaluation.selection import held_out, searchable
from avlearn.evaluation.shortcuts import (
    audio_window_features,
    most_informative,
    predict_positions,
    video_window_features,
)
from avlearn.evaluation.sync import OffsetScorer, score_offsets, wrong_shifts
from avlearn.evaluation.windows import OFFSETS
from avlearn.metrics import MetricResult, table
from avlearn.metrics.interval import mean_interval
from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives import Objective

_ERROR = 0.01  # how often an audit of clean data may find a leak, over all its tests
_FEWEST, _FILES = 30, 5  # clips, and files that they are of: the probes are fitted on four fifths of those
_PLACES = 7  # of each clip, from which windows are cut for the probes


@dataclass(frozen=True)
class Check:
    """A test that must stay at chance.

    Attributes:
        given: what there was to tell by.
        metric: over clips, beside chance.
        p: how often chance alone does as well or better.
        leak: whether it passes for better than chance, given how many tests were made.
        hint: what differs most from place to place, for people; "" for models.
    """

    given: str
    metric: MetricResult
    p: float
    leak: bool
    hint: str

    def text(self) -> str:
        """The verdict, for people."""
        what = "aligned from shifted" if "2AFC" in self.metric.name else "the offset"
        said = f"{self.given} tells {what}: {self.metric.value:.2f} against {self.metric.prior:.2f}"
        return said + (f"; most telling: {self.hint}" if self.hint else "")


@dataclass(frozen=True)
class Audit:
    """Checks of a data set.

    Attributes:
        checks: two for each thing that may tell.
        clips: how many.
        skipped: path and reason of each clip that could not be read.
    """

    checks: list[Check]
    clips: int
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def leaks(self) -> list[Check]:
        """The checks that found one."""
        return [check for check in self.checks if check.leak]

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.audit/1``.

        ``clean``: whether no leak was found; ``clips``; ``checks``: a list of ``given``, ``figure`` (see
        `MetricResult.to_dict`), ``p``, ``leak`` and ``verdict``.
        """
        checks = [
            {
                "given": check.given,
                "figure": check.metric.to_dict(),
                "p": float(f"{check.p:.3g}"),
                "leak": check.leak,
                "verdict": check.text() if check.leak else "at chance",
            }
            for check in self.checks
        ]
        skipped = [{"path": path, "reason": reason} for path, reason in self.skipped]
        return {
            "schema": "avlearn.audit/1",
            "clean": not self.leaks,
            "clips": self.clips,
            "checks": checks,
            "skipped": skipped,
        }

    def text(self) -> str:
        """Human-readable text."""
        lines = [table([check.metric for check in self.checks]), ""]
        lines += [f"LEAK: {check.text()}" for check in self.leaks]
        if not self.leaks:
            lines.append(f"clean: of {self.clips} clips nothing tells the offset by itself")
        return "\n".join(lines) + list_skipped(self.skipped)


def audit(
    model: AudioVisual, manifests: Sequence[str | Path], seed: int = 0, *, objective: Objective[Any] | None = None
) -> Audit:
    """Look for shortcuts in the clips of manifests.

    Windows are cut as `avlearn.evaluation` cuts them, at places of 21 steps. By the audio alone and by the video
    alone a regularised logistic regression tells the places of clips that it was not fitted on, from levels and spectra
    or brightness, change and detail, and the model's features. The model scores its own offsets twice: with the
    video black, and with the audio of another clip. A leak is better than chance by a t-test over clips, at 1 % over
    all tests (Bonferroni).

    Args:
        model: from `avlearn.load`: its windows, its features, and, where it has any, its scores of offsets.
        manifests: of clips.
        seed: of the windows.
        objective: of the model's folder, where it has one.

    Raises:
        DataError: fewer than 30 clips are long enough and can be read, or they are of fewer than 5 files.
    """
    rows = searchable(held_out(manifests), model, objective)
    if len(rows) < _FEWEST:
        raise DataError(f"an audit needs {_FEWEST} clips, and {len(rows)} are long enough")
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(model, Path(folder), seed, objective)
        rows, skipped = subject.readable(rows)
        if len(rows) < _FEWEST:
            path, reason = skipped[0]
            raise DataError(f"an audit needs {_FEWEST} clips, and {len(rows)} can be read; {path}: {reason}")
        sources = {source: k for k, source in enumerate(dict.fromkeys((row.path, row.offset) for row in rows))}
        if len(sources) < _FILES:
            raise DataError(f"an audit needs clips of {_FILES} files, and there are {len(sources)}")
        group = np.array([sources[row.path, row.offset] for row in rows])
        return Audit(audit_cache(model, objective, subject.decoded(rows), group, seed), len(rows), tuple(skipped))


def audit_cache(
    model: AudioVisual, objective: Objective[Any] | None, cache: ClipCache, group: np.ndarray, seed: int
) -> list[Check]:
    """The checks of decoded clips; ``group [N]`` says which file each clip is of."""
    scored: list[tuple[str, str, np.ndarray, np.ndarray, np.ndarray, float]] = []
    rng = np.random.default_rng(seed)
    count = len(cache.video)
    # Places of a clip that are evenly apart, so that all are as frequent.
    place = (rng.integers(OFFSETS, size=(count, 1)) + np.arange(_PLACES) * (OFFSETS // _PLACES)) % OFFSETS
    clip, place = np.repeat(np.arange(count), _PLACES), place.flatten()
    start = (clip % 2) / cache.fps + place * model.step
    for given, features_of in (
        ("the audio alone", audio_window_features),
        ("the video alone", video_window_features),
    ):
        features = features_of(model, cache, clip, start)
        hint = most_informative(features, place)
        scored.append((given, hint, predict_positions(features, place, group[clip]), place, group[clip], model.step))
    if model.config.common_space or objective is not None:
        scorer = OffsetScorer(model, objective)
        lead = rng.integers(scorer.offsets, size=count)
        cut = scorer.cut(lead)
        blank = score_offsets(scorer, cache, cut, blank=True)
        scored.append(("the model with black frames", "", blank, lead, group, scorer.unit))
        cut = replace(cut, audio_clips=(np.arange(count) + count // 2) % count)
        scored.append(
            ("the model with another clip's audio", "", score_offsets(scorer, cache, cut), lead, group, scorer.unit)
        )
    checks = []
    for given, hint, scores, truth, groups, unit in scored:
        for name, hits, chance, best, prior in (
            _two_afc(scores, truth, unit),
            _within_one(scores, truth, unit),
        ):
            clips = np.bincount(groups, hits) / np.bincount(groups)
            p = _by_chance(clips, best)
            metric = MetricResult(
                given, name, float(clips.mean()), chance, best, prior, None, len(clips), interval=mean_interval(clips)
            )
            checks.append(Check(given, metric, p, p * 2 * len(scored) < _ERROR, hint))
    return checks


def _two_afc(scores: np.ndarray, truth: np.ndarray, unit: float) -> tuple[str, np.ndarray, float, float, str]:
    """How often the right offset scores above the wrong ones, ``[M]``, with its references."""
    own = np.arange(len(truth))
    right = scores[own, truth]
    wins = [
        (right > wrong) + 0.5 * (right == wrong)
        for shift in wrong_shifts(scores.shape[1], unit)
        for wrong in [scores[own, (truth + shift) % scores.shape[1]]]
    ]
    return "aligned over shifted (2AFC)", np.mean(wins, 0), 0.5, 0.5, "always the same"


def _within_one(scores: np.ndarray, truth: np.ndarray, unit: float) -> tuple[str, np.ndarray, float, float, str]:
    """Whether the best offset is within one of the right one, ``[M]``, with its references."""
    offsets = scores.shape[1]
    hits = np.abs(scores.argmax(1) - truth) <= 1
    near = np.abs(np.arange(offsets)[:, None] - np.arange(offsets)) <= 1  # truths are drawn evenly
    name = f"offset within {unit * 1000:.0f} ms of {offsets}"
    return name, hits.astype(float), float(near.mean()), float(near.mean(1).max()), "always the same"


def _by_chance(values: np.ndarray, reference: float) -> float:
    """How often independent values ``[N]`` of that mean have one as high as these, by Student's t."""
    spread = values.std(ddof=1) / np.sqrt(len(values))
    if spread == 0:
        return float(values.mean() <= reference)
    return float(t.sf((values.mean() - reference) / spread, len(values) - 1))
