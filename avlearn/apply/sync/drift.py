"""The course of an offset over a file: constant, with edits, or a steady drift."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from avlearn.apply.rows import Rows

_OVERLAP = 0.5  # of neighbouring windows: each brings half of its evidence anew
_TRUNCATE = 3.0  # stds from which on a window counts as mistaken, however far off it is
_STEP_COST = 8.0  # nats an edit must save: four mistaken windows cannot
_LINE_COST = 4.0  # nats a drift must save over none
_SIGNIFICANT = 4.0  # standard errors a drift must be away from none
_PAIRS = 4000  # lines through two windows that are tried


@dataclass(frozen=True)
class Course:
    """The offset of a file over time, in seconds.

    Attributes:
        offset: of the longest segment; at the start of the file where it drifts.
        values: of each segment in order; of a drift, at the start and at the end of the file.
        drift: milliseconds a minute by which it grows; None where it does not.
        steps: one dict an edit: ``time``, ``before``, ``after``.
    """

    offset: float
    values: tuple[float, ...]
    drift: float | None = None
    steps: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Timeline:
    """The offset over time, relative to one of its values: constant, in segments, or along a line.

    Attributes:
        edges: seconds between two segments, from the start of the file; empty for one segment.
        slope: seconds a second; 0.0 where the audio does not drift.
        shifts: ``[W]`` seconds that each window's offset differs by from that of the longest segment, or from
            that in the middle of the windows.
        segment: ``[W]`` number of each window's segment.
        middle: seconds, the mean of the windows' middles.
    """

    edges: tuple[float, ...]
    slope: float
    shifts: np.ndarray
    segment: np.ndarray
    middle: float

    @property
    def constant(self) -> bool:
        """Whether the offset stays as it is."""
        return not self.edges and not self.slope

    def shifts_at(self, times: np.ndarray) -> np.ndarray:
        """`shifts` at any times ``[N]``."""
        if self.slope:
            return self.slope * (times - self.middle)
        _, firsts = np.unique(self.segment, return_index=True)
        return self.shifts[firsts][np.searchsorted(self.edges, times)]

    def course(self, offset: float, end: float) -> Course:
        """How an offset changes in a file that lasts until ``end`` (seconds).

        Args:
            offset: of the longest segment, or in the middle of the windows.
            end: seconds.
        """
        if self.slope:
            start, last = (offset + self.shifts_at(np.array([0.0, end]))).tolist()
            return Course(start, (start, last), round(self.slope * 60_000, 1))
        _, firsts = np.unique(self.segment, return_index=True)
        values = (offset + self.shifts[firsts]).tolist()
        steps = [
            {"time": round(edge, 2), "before": round(before, 4), "after": round(after, 4)}
            for edge, (before, after) in zip(self.edges, pairwise(values), strict=True)
        ]
        return Course(offset, tuple(values), None, tuple(steps))


CONSTANT = Timeline((), 0.0, np.zeros(1), np.zeros(1, int), 0.0)


def fit_timeline(times: np.ndarray, offsets: np.ndarray, weights: np.ndarray, std: float) -> Timeline:
    """Choose among one offset, several with edits between them, and a steady drift.

    Each model pays for what it leaves unexplained, a square of stds that is cut off for windows that
    are mistaken, and for its parameters; the cheapest is taken, the simplest of equals.

    Args:
        times: ``[W]`` seconds, the middles of the windows.
        offsets: ``[W]`` seconds.
        weights: ``[W]`` from 0 to 1, how sure each is.
        std: seconds that a right offset is off by.
    """
    count = len(times)
    flat = Timeline((), 0.0, np.zeros(count), np.zeros(count, int), float(times.mean()) if count else 0.0)
    if count < 4:
        return flat
    levels = np.arange(offsets.min(), offsets.max() + std, std / 2)
    costs = (_cost(offset - levels, weight, std) for offset, weight in zip(offsets, weights, strict=True))
    one, segment, many = _segments(costs)
    line, slanted = _line(times, offsets, weights, std)
    if many + 1e-9 < min(one, slanted):
        return _steps(times, offsets, weights, segment)
    if slanted < one and line:
        return Timeline((), line, line * (times - flat.middle), flat.segment, flat.middle)
    return flat


def _cost(residuals: np.ndarray, weights: np.ndarray | float, std: float) -> np.ndarray:
    """Nats, up to a constant."""
    return _OVERLAP * weights * 0.5 * np.minimum((residuals / std) ** 2, _TRUNCATE**2)


def _segments(costs: Iterator[np.ndarray]) -> tuple[float, np.ndarray, float]:
    """Paths through the costs ``[L]`` of W windows.

    Returns:
        What the cheapest single level costs; of the cheapest path, numbers ``[W]`` of its segments, and what it costs.
    """
    one = next(costs)
    total = one.copy()
    jumps, bests = Rows(), [0]  # which levels are come to from another one, and from which
    jumps.append(np.zeros(total.shape, bool))
    for cost in costs:
        best = int(total.argmin())
        jump = total[best] + _STEP_COST < total
        jumps.append(jump)
        bests.append(best)
        total = np.where(jump, total[best] + _STEP_COST, total) + cost
        one += cost
    level = int(total.argmin())
    path = [level]
    for jump, best in zip(jumps.array()[:0:-1], bests[:0:-1], strict=True):
        path.append(best if jump[path[-1]] else path[-1])
    changes = np.diff(path[::-1]) != 0
    return float(one.min()), np.concatenate([[0], np.cumsum(changes)]), float(total.min())


def _steps(times: np.ndarray, offsets: np.ndarray, weights: np.ndarray, segment: np.ndarray) -> Timeline:
    numbers = range(segment.max() + 1)
    values = np.array([weighted_median(offsets[segment == s], weights[segment == s]) for s in numbers])
    longest = int(np.bincount(segment).argmax())
    edges = tuple(float(times[segment == s][-1] + times[segment == s + 1][0]) / 2 for s in numbers[:-1])
    return Timeline(edges, 0.0, values[segment] - values[longest], segment, float(times.mean()))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value that half of the weight lies below."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _pairs(count: int, apart: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of ``count`` things, so many or more apart, evenly out of all of them in order."""
    seconds = count - apart - np.arange(count - apart)  # of each first
    begins = np.concatenate([[0], np.cumsum(seconds)])
    chosen = np.linspace(0, begins[-1] - 1, min(begins[-1], most)).astype(int)
    first = np.searchsorted(begins, chosen, "right") - 1
    return first, first + apart + chosen - begins[first]


def _line(times: np.ndarray, offsets: np.ndarray, weights: np.ndarray, std: float) -> tuple[float, float]:
    """Slope of the best line by weighted least squares, 0.0 where it is not significant, and its cost."""
    # Of lines through two windows that lie far apart, the cheapest is near enough to tell who is mistaken.
    first, second = _pairs(len(times), max(len(times) // 3, 1), _PAIRS)
    slopes = (offsets[second] - offsets[first]) / (times[second] - times[first])
    costs = [
        _cost(offsets - offsets[i] - slope * (times - times[i]), weights, std).sum()
        for i, slope in zip(first, slopes, strict=True)
    ]
    best = int(np.argmin(costs))
    residuals = offsets - offsets[first[best]] - slopes[best] * (times - times[first[best]])
    w = weights * (np.abs(residuals) < _TRUNCATE * std)
    free = _OVERLAP * w.sum() - 2
    if free < 1:
        return 0.0, np.inf
    t = times - np.average(times, weights=w)
    y = offsets - np.average(offsets, weights=w)
    spread = (w * t**2).sum()
    slope = float((w * t * y).sum() / spread)
    residuals = y - slope * t
    error = np.sqrt((w * residuals**2).sum() / (free * spread))
    if abs(slope) < _SIGNIFICANT * error:
        return 0.0, np.inf
    return slope, float(_cost(residuals, weights, std).sum()) + _LINE_COST
