"""Figures of a recognizer, of its classes, and of its clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from avlearn.data.manifest import Row
from avlearn.evaluation.result import list_skipped
from avlearn.files import printable
from avlearn.metrics import MetricResult, table
from avlearn.metrics.labelling import (
    class_accuracy,
    class_average_precision,
    confusion,
    mean_average_precision,
    mean_class_accuracy,
    modality_confusion,
    top_k_labels,
)
from avlearn.terminal import aligned

_HARDEST = 5  # classes and pairs that people are told
_INPUTS = {"video": "video's share alone", "audio": "audio's share alone"}


@dataclass(frozen=True)
class ScoredClips:
    """Clips, and what a recognizer says of them.

    Attributes:
        rows: N clips.
        names: of the C classes.
        truth: bool ``[N, C]``.
        scores: ``[N, C]`` of the network's inputs, and of shares of them: see `score_views`.
        inputs: of the network.
        multi_label: whether several classes may hold of a clip.
        average: what the scores are.
    """

    rows: Sequence[Row]
    names: Sequence[str]
    truth: np.ndarray
    scores: dict[str, np.ndarray]
    inputs: str
    multi_label: bool
    average: str

    @property
    def own(self) -> np.ndarray:
        """Scores of the whole network."""
        return self.scores[self.inputs]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """``[N, C]``, also where logits were averaged."""
        if self.average == "probabilities":
            return self.own
        if self.multi_label:
            return np.asarray(1 / (1 + np.exp(-self.own)))
        powers = np.exp(self.own - self.own.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    @cached_property
    def answers(self) -> np.ndarray:
        """The class with the best score of each clip: ``[N]``."""
        return np.asarray(self.own.argmax(1))

    @cached_property
    def right(self) -> np.ndarray:
        """Whether that is one of the clip's labels: bool ``[N]``."""
        return np.asarray(self.truth[np.arange(len(self.truth)), self.answers])

    def hardest(self) -> np.ndarray:
        """Clips whose answer is wrong, those first whose own labels got the least: indices."""
        own = np.where(self.truth, self.probabilities, 0).max(1)
        wrong = np.flatnonzero(~self.right)
        return np.asarray(wrong[np.argsort(own[wrong], kind="stable")])


@dataclass(frozen=True)
class RecognitionResult:
    """Figures of a recognizer on clips.

    Attributes:
        clips: and their scores.
        views: as `parse_views` reads them.
        items: SHA-256 of the list of clips.
        fold: whose test it is, or None.
        skipped: path and reason of each clip that is in no figure.
    """

    clips: ScoredClips
    views: str
    items: str
    fold: int | None = None
    skipped: Sequence[tuple[str, str]] = ()

    @cached_property
    def figures(self) -> list[MetricResult]:
        """With their references. Of a network of video and audio also what each does alone."""
        clips = self.clips
        found: list[MetricResult] = []
        for kind, scores in clips.scores.items():
            name = _INPUTS[kind] if kind != clips.inputs else ""
            found += [mean_average_precision(scores, clips.truth, name)] if clips.multi_label else []
            found.append(top_k_labels(scores, clips.truth, 1, name))
            if not name:
                found += [top_k_labels(scores, clips.truth, 5)] if len(clips.names) > 5 else []
                found.append(mean_class_accuracy(scores, clips.truth))
        return found + (modality_confusion(clips.scores, clips.truth) if len(clips.scores) == 3 else [])

    @cached_property
    def confusion(self) -> np.ndarray:
        """Of `avlearn.metrics.labelling.confusion`."""
        return confusion(self.clips.own, self.clips.truth)

    @cached_property
    def classes(self) -> list[dict[str, Any]]:
        """Of each class that occurs: ``label``, ``n``, ``top1``, ``ap`` of multi-label networks, and ``taken_for``."""
        clips = self.clips
        shares, precision = class_accuracy(clips.own, clips.truth), None
        if clips.multi_label:
            precision = class_average_precision(clips.own, clips.truth)
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        return [
            {"label": clips.names[k], "n": int(clips.truth[:, k].sum()), "top1": round(float(shares[k]), 5)}
            | ({} if precision is None else {"ap": round(float(precision[k]), 5)})
            | {"taken_for": clips.names[int(wrong[k].argmax())] if wrong[k].any() else None}
            for k in np.flatnonzero(clips.truth.any(0)).tolist()
        ]

    @cached_property
    def confused(self) -> list[dict[str, Any]]:
        """Pairs of a ``label`` and what was ``answered`` in its stead, ``n`` times, the most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        pairs = sorted(zip(*np.nonzero(wrong), strict=True), key=lambda pair: -wrong[pair])
        names = self.clips.names
        return [{"label": names[a], "answered": names[b], "n": int(wrong[a, b])} for a, b in pairs]

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.recognition/1``.

        ``items``: SHA-256 of the list of clips. ``views``, ``average``, ``inputs``, ``fold``: how it was measured.
        ``figures``: a list of `MetricResult.to_dict`. ``classes``, ``confused``: as the attributes. ``clips``: a list
        of ``path``, ``labels``, ``answered``, ``probability`` of that, and ``right``. ``skipped``: a list of ``path``
        and ``reason``.
        """
        clips = self.clips
        best = clips.probabilities[np.arange(len(clips.answers)), clips.answers]
        return {
            "schema": "avlearn.recognition/1",
            "items": self.items,
            "views": self.views,
            "average": clips.average,
            "inputs": clips.inputs,
            "fold": self.fold,
            "figures": [figure.to_dict() for figure in self.figures],
            "classes": self.classes,
            "confused": self.confused,
            "clips": [
                {
                    "path": str(row.source), "labels": list(row.labels), "answered": clips.names[answer],
                    "probability": round(float(said), 5), "right": bool(right),
                }
                for row, answer, said, right in zip(clips.rows, clips.answers, best, clips.right, strict=True)
            ],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }  # fmt: skip

    def text(self) -> str:
        """Human-readable text."""
        parts = [table(self.figures)]
        pairs = [[pair["label"], pair["answered"], str(pair["n"])] for pair in self.confused[:_HARDEST]]
        if pairs:
            parts.append(aligned(("label", "answered instead", "clips"), [[*map(printable, row)] for row in pairs]))
        fold = "" if self.fold is None else f", fold {self.fold}"
        said = f"views: {self.views}, mean of {self.clips.average}{fold}"
        return "\n\n".join(parts) + f"\n{said}\nclips: sha256 {self.items[:16]}" + list_skipped(self.skipped)


@dataclass(frozen=True)
class FoldsResult:
    """Figures of several folds, each by a model that was trained on that fold."""

    folds: Sequence[RecognitionResult]

    @property
    def figures(self) -> list[MetricResult]:
        """Means over folds of those that all folds have; the number of clips is that of all."""
        each = [{figure.name: figure for figure in fold.figures} for fold in self.folds]
        return [
            _mean([figures[name] for figures in each])
            for name in each[0]
            if all(name in figures for figures in each)
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.recognition_folds/1``: ``figures``, and ``folds``, a list of
        `RecognitionResult.to_dict`."""
        return {
            "schema": "avlearn.recognition_folds/1",
            "figures": [figure.to_dict() for figure in self.figures],
            "folds": [fold.to_dict() for fold in self.folds],
        }

    def text(self) -> str:
        """Human-readable text."""
        each = "\n\n".join(f"fold {fold.fold}\n{fold.text()}" for fold in self.folds)
        return f"mean of {len(self.folds)} folds\n{table(self.figures)}\n\n{each}"


def _mean(figures: Sequence[MetricResult]) -> MetricResult:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    first = figures[0]
    return MetricResult(
        first.task, first.name, float(np.mean([figure.value for figure in figures])),
        mean([figure.chance for figure in figures]), mean([figure.prior for figure in figures]), first.prior_name,
        first.oracle, sum(figure.n for figure in figures), first.unit, first.higher_is_better,
    )  # fmt: skip
