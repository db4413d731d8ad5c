"""The offset of a file from the curves of its windows: where it lies, how it changes, and the evidence for it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from avlearn.apply.sync.drift import Timeline, fit_timeline
from avlearn.apply.sync.offsets import OffsetCurves
from avlearn.models.audiovisual import AudioVisual
from avlearn.signal.peak import vertex

_TOGETHER = 256  # windows that are looked at at a time
_OVERLAP = 0.5  # of neighbouring windows: each brings half of its evidence anew


@dataclass(frozen=True)
class OffsetEvidence:
    """Evidence for an offset, from the windows' curves.

    Attributes:
        height: mean similarity there, above the windows' medians, -2 to 2.
        margin: log(1 + nats by which it beats the best offset that is more than two steps away); it grows with the
            number of windows.
        agreement: share of the windows, by the audio they have there, whose own best offset is within a step.
    """

    height: float
    margin: float
    agreement: float


@dataclass(frozen=True)
class Peak:
    """The best offset of a curve, its index on the grid, and the posterior's share within a step of it."""

    offset: float
    index: int
    mass: float


@dataclass(frozen=True)
class OffsetEstimate(Peak):
    """The best offset of a file, steps and drift taken out.

    Attributes:
        timeline: how the offset changes over the windows.
        scores: ``[O]`` mean similarity at each offset; NaN where too little audio overlaps.
        evidence: for the offset.
        known: bool ``[W]``, which windows have audio at some offset.
        peaks: the best offset of each of those.
    """

    timeline: Timeline
    scores: np.ndarray
    evidence: OffsetEvidence
    known: np.ndarray
    peaks: tuple[Peak, ...]


def estimate_offset(curves: OffsetCurves, model: AudioVisual) -> OffsetEstimate | None:
    """The windows' best offsets tell of edits and of a drift; with these taken out, their curves are added up.

    Returns:
        None where no window has audio at any offset.
    """
    known = np.isfinite(curves.scores).any(1)
    if not known.any():
        return None
    step = model.step
    # A mean over n steps of similarity that is random around zero tells as much as n such steps.
    nats = model.config.score_scale * step / model.config.seconds
    middles = curves.starts[known] + curves.lengths[known] / 2
    # What stands still, or was there before, is no further evidence.
    fresh = curves.fresh[known] if curves.fresh[known].any() else np.ones(known.sum())
    windows = _Windows(curves, np.flatnonzero(known))
    peaks = [_peak(row, row * count * nats, curves.offsets, step) for row, count in windows]
    own = np.array([peak.offset for peak in peaks])
    timeline = fit_timeline(middles, own, np.array([peak.mass for peak in peaks]) * fresh, step / 8)
    scores, weight, most = _added_up(windows, fresh, timeline.shifts, curves.offsets)
    peak = _peak(scores, scores * weight * nats * _OVERLAP, curves.offsets, step)
    shares = windows.steps_at(peak.index) * fresh / most
    evidence = _evidence(peak, scores, weight, own - timeline.shifts, shares, curves, model)
    return OffsetEstimate(peak.offset, peak.index, peak.mass, timeline, scores, evidence, known, tuple(peaks))


def _peak(scores: np.ndarray, logits: np.ndarray, offsets: np.ndarray, reach: float) -> Peak:
    """Where logits ``[O]`` are largest, between the grid's points by a parabola through scores ``[O]``."""
    known = np.isfinite(logits)
    logits = np.where(known, logits, -np.inf)
    mass = np.exp(logits - logits.max())
    mass /= mass.sum()
    best = int(np.argmax(logits))
    offset = float(offsets[best]) + vertex(np.where(known, scores, np.nan), best) * float(offsets[1] - offsets[0])
    return Peak(offset, best, float(mass[np.abs(offsets - offsets[best]) <= reach + 1e-6].sum()))


@dataclass(frozen=True)
class _Windows:
    """Curves of some windows, one after the other: a long file's all at once would take many times their memory.

    Attributes:
        curves: of all windows.
        numbers: ``[W]`` which ones.
    """

    curves: OffsetCurves
    numbers: np.ndarray

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each its scores ``[O]`` above their median, and the steps ``[O]`` in them."""
        for some in np.array_split(self.numbers, -(-len(self.numbers) // _TOGETHER)):
            scores = self.curves.scores[some]
            steps = np.where(np.isfinite(scores), self.curves.steps[some].astype(float), 0)
            yield from zip(scores - np.nanmedian(scores, 1, keepdims=True), steps, strict=True)

    def steps_at(self, index: int) -> np.ndarray:
        """The steps ``[W]`` at one offset."""
        scores, steps = self.curves.scores[self.numbers, index], self.curves.steps[self.numbers, index]
        return np.where(np.isfinite(scores), steps, 0)


def _added_up(
    windows: _Windows, fresh: np.ndarray, shifts: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean curve ``[O]`` of W curves, each moved back by its shift; the steps ``[O]`` in it, the most of a window.

    Steps count by the share ``[W]`` of a window that is fresh. NaN where less than half a window was heard (half of the
    most that was, in a shorter file).
    """
    total, weight, most = np.zeros(len(offsets)), np.zeros(len(offsets)), 0.0
    for (row, steps), share, shift in zip(windows, fresh, shifts, strict=True):
        count = steps * share
        most = max(most, float(count.max()))
        heard = np.interp(offsets + shift, offsets, count, left=0, right=0)
        weight += heard
        total += heard * np.interp(offsets + shift, offsets, np.nan_to_num(row))
    enough = weight >= min(most, weight.max()) / 2
    return np.where(enough, total / np.maximum(weight, 1e-9), np.nan), weight, most


def _evidence(
    peak: Peak, scores: np.ndarray, weight: np.ndarray, own: np.ndarray, shares: np.ndarray, curves: OffsetCurves,
    model: AudioVisual,
) -> OffsetEvidence:  # fmt: skip
    full = model.config.seconds / model.step
    nats = np.nan_to_num(scores * weight, nan=-np.inf) * model.config.score_scale / full * _OVERLAP
    # Where no other offset could be heard, as in a short part, the best one has beaten none: that is no evidence.
    distant = nats[(np.abs(curves.offsets - peak.offset) > 2 * model.step) & np.isfinite(nats)]
    margin = max(float(nats[peak.index] - distant.max()), 0.0) if len(distant) else 0.0
    agreeing = shares[np.abs(own - peak.offset) <= model.step].sum() / max(shares.sum(), 1e-9)
    return OffsetEvidence(
        round(float(scores[peak.index]), 4), round(float(np.log1p(margin)), 4), round(float(agreeing), 4)
    )
