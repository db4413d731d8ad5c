"""How the offset of lips changes over a file: windows of all faces, as those of `avlearn.apply.sync.offsets`."""

import numpy as np

from avlearn.apply.sync.drift import CONSTANT, Timeline, fit_timeline, weighted_median
from avlearn.apply.sync.lip_curves import RATIO, LipCurves, judge_lips, lip_curves
from avlearn.models.speech_sync import MOUTHS, VOICES

_HOP = 1.5  # seconds; a window is of two, so that neighbours overlap by half
_MOST = 600  # hops, of 0.1 MB each: those of a long film are longer
_DRAWS = 64  # of exchanged blocks: many windows are held at once
_STD = 0.02  # seconds that the offset of a window of one speaker is off by: 17 ms on sentences of GRID
_FEWEST = 12  # windows, of 20 s: in fewer a line through chance is no evidence

# Below either no change is told: on news clips from everywhere, each off by its own, staircases look like a drift.
_SURE = 0.6  # mean confidence of the windows
_AGREE, _NEAR = 0.9, 0.06  # share of what is sure that lies within so many seconds of the timeline


class LipWindows:
    """What the lips of all faces tell in each stretch of a file."""

    def __init__(self, lags: np.ndarray, duration: float) -> None:
        """Of ``lags`` as of `lip_curves`, in a file of so many seconds."""
        self._lags, self._hop = lags, max(_HOP, duration / _MOST)
        self._hops: dict[int, tuple[LipCurves, float]] = {}  # their curves, and seconds times crops

    def add(self, similarity: np.ndarray, before: int, start: float) -> None:
        """Adds a track.

        Args:
            similarity, before: as of `lip_curves`.
            start: seconds of its first crop.
        """
        middles = start + (np.arange(len(similarity)) + 0.5) / MOUTHS
        hops = (middles / self._hop).astype(int)
        for hop in np.unique(hops):
            rows = np.flatnonzero(hops == hop)
            first = int(rows[0])
            curves = lip_curves(similarity[rows], before + RATIO * first, self._lags, hop, _DRAWS)
            seconds = float(middles[rows].sum())
            if hop in self._hops:
                others, sooner = self._hops[hop]
                curves, seconds = curves + others, seconds + sooner
            self._hops[hop] = curves, seconds

    def timeline(self) -> Timeline:
        """How the offset changes: that of each window counts as much as it is sure.

        Constant where too few are sure, or they do not agree on how it changes.
        """
        judged = []
        for hop in sorted(self._hops):
            if hop + 1 in self._hops:
                (curves, seconds), (others, later) = self._hops[hop], self._hops[hop + 1]
                both = curves + others
                judged.append(((seconds + later) / both.crops, *judge_lips(both, self._lags)))
        times, offsets, weights = np.array(judged).reshape(-1, 3).T
        found = fit_timeline(times, offsets, weights, _STD)
        if found.constant or len(times) < _FEWEST:
            return CONSTANT
        apart = offsets - found.shifts
        near = np.abs(apart - weighted_median(apart, weights)) <= _NEAR
        told = weights.mean() >= _SURE and weights[near].sum() >= _AGREE * weights.sum()
        return found if told else CONSTANT

    def aligned(self, timeline: Timeline) -> LipCurves:
        """The sum of all, each moved back by as much as its offset differs."""
        total: LipCurves | None = None
        for curves, seconds in self._hops.values():
            (shift,) = timeline.shifts_at(np.array([seconds / curves.crops]))
            moved = curves.moved(round(shift * VOICES))
            total = moved if total is None else total + moved
        assert total is not None
        return total
