"""Which sources are wanted, where they are over time, and what is seen there."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.apply.maps import FileMaps
from avlearn.apply.sources import Source, find_sources
from avlearn.errors import AvlearnError
from avlearn.objectives.similarity import peak_weights

Choice = int | tuple[float, float] | tuple[float, float, float, float]
_HALVES = {"left": (0.0, 0.0, 0.5, 1.0), "right": (0.5, 0.0, 1.0, 1.0)}
MOST = 8  # sources that are told apart
_FADE = 0.08  # seconds in which sources fade out where the picture ends


def parse_choice(text: str) -> Choice:
    """A source as the command line names it: its number, ``left``, ``right``, a point, or a box.

    Raises:
        AvlearnError: it is none of these.
    """
    if text in _HALVES:
        return _HALVES[text]
    if text.isdecimal():
        return int(text)
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    ordered = len(numbers) == 2 or (len(numbers) == 4 and numbers[0] < numbers[2] and numbers[1] < numbers[3])
    if not ordered or not all(0 <= number <= 1 for number in numbers):
        raise AvlearnError(
            f"'{text}' names no source: give left, right, x,y or x0,y0,x1,y1 in fractions of the picture, "
            "or a number that `avlearn localize --sources` prints"
        )
    return numbers


def chosen_sources(found: FileMaps, most: int, choices: Sequence[Choice]) -> list[Source]:
    """The strongest sources of a file, or those that are asked for, in that order.

    Args:
        found: maps along the file.
        most: how many of the strongest.
        choices: what is asked for instead. In a box, such as a half, the strongest source is looked for with the
            rest of the picture hidden; a point is a source whatever the maps say.

    Raises:
        AvlearnError: there is no source of that number, too many are asked for, or one of them twice.
    """
    if len(choices) > MOST:
        raise AvlearnError(f"{len(choices)} sources are too many: ask for {MOST} at most")
    if not choices:
        return find_sources(found.times, found.maps, most, found.levels)
    numbers = {source.id: source for source in find_sources(found.times, found.maps, MOST, found.levels)}
    chosen = []
    for choice in choices:
        if isinstance(choice, int):
            if choice not in numbers:
                known = ", ".join(map(str, numbers)) or "none"
                raise AvlearnError(f"there is no source {choice}: there are {known}")
            chosen.append(numbers[choice])
        else:
            chosen.append(_at_point(choice, found) if len(choice) == 2 else _within(choice, found))
    for first, second in combinations(chosen, 2):
        if np.array_equal(first.boxes, second.boxes, equal_nan=True):
            raise AvlearnError("two of the sources that are asked for are one and the same: they would share its sound")
    return chosen


def _at_point(point: tuple[float, float], found: FileMaps) -> Source:
    box = np.array([*point, *point], np.float32)
    count = len(found.times)
    return Source(0, np.tile(box, (count, 1)), np.zeros(count, np.float32), float("nan"), 1.0)


def _within(box: tuple[float, float, float, float], found: FileMaps) -> Source:
    inside = _cells(np.array(box), found.maps.shape[1:])
    level = np.median(found.maps, axis=(1, 2), keepdims=True)
    shown = np.where(inside, found.maps, np.minimum(found.maps, level))
    strongest = find_sources(found.times, shown, 1, found.levels)
    if strongest:
        return replace(strongest[0], id=0)
    mean = np.where(inside, found.maps.mean(0), -np.inf)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    return _at_point(((column + 0.5) / mean.shape[1], (row + 0.5) / mean.shape[0]), found)


def _cells(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Cells of a map whose centres a box holds, or the one that its centre lies in: bool ``[Y, X]``."""
    rows, columns = ((np.arange(side) + 0.5) / side for side in shape)
    inside = ((rows >= box[1]) & (rows <= box[3]))[:, None] & ((columns >= box[0]) & (columns <= box[2]))
    if not inside.any():
        centre = (box[1] + box[3]) / 2, (box[0] + box[2]) / 2
        inside[tuple(min(int(at * side), side - 1) for at, side in zip(centre, shape, strict=True))] = True
    return inside


class Seen:
    """Features of a whole picture, in a file without a name: memory does not grow with the length.

    Args:
        folder: whose disk holds it: 16 kB a step for 8 x 8 places of 128 features.
    """

    def __init__(self, folder: Path):
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this
        self.steps = 0
        self.shape: tuple[int, ...] = ()  # D, Y, X

    def append(self, features: Tensor) -> None:
        """Add steps: ``[D, T, Y, X]``."""
        steps = features.transpose(0, 1)
        self.shape = tuple(steps.shape[1:])
        self.file.write(steps.to("cpu", torch.float16).contiguous().numpy().tobytes())
        self.steps += len(steps)

    def read(self, first: int, count: int) -> Tensor:
        """Steps ``first .. first + count`` as ``[1, D, T, Y, X]``; past either end, the step there."""
        begin = max(min(first, self.steps - 1), 0)
        size = 2 * int(np.prod(self.shape))
        self.file.seek(begin * size)
        data = np.frombuffer(self.file.read(count * size), np.float16).reshape(-1, *self.shape)
        steps = torch.from_numpy(data.astype(np.float32))
        steps = steps[torch.arange(first - begin, first - begin + count).clamp(0, len(steps) - 1)]
        return steps.transpose(0, 1)[None]

    def close(self) -> None:
        """Give the disk its room back."""
        self.file.close()


@dataclass(frozen=True)
class Places:
    """How much each cell of the picture belongs to each source, over time.

    Attributes:
        times: ``[N]`` seconds.
        weights: float32 ``[K, N, Y, X]``, each sums to one; a source that is away keeps its last place.
        there: float32 ``[K, N]``, 1 where the source is in the picture.
        end: seconds at which the picture ends.
    """

    times: np.ndarray
    weights: np.ndarray
    there: np.ndarray
    end: float

    def weights_at(self, instants: np.ndarray) -> Tensor:
        """Linear between the times that are known: ``[K, T, Y, X]``."""
        after = np.searchsorted(self.times, instants).clip(1, max(len(self.times) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(self.times) - 1)
        apart = np.maximum(self.times[after] - self.times[before], 1e-9)
        share = ((instants - self.times[before]) / apart).clip(0, 1)[:, None, None].astype(np.float32)
        return torch.from_numpy(self.weights[:, before] * (1 - share) + self.weights[:, after] * share)

    def presence_at(self, instants: np.ndarray) -> np.ndarray:
        """How much each source is in the picture, in [0, 1]: float32 ``[K, T]``; none is once the picture has ended."""
        shown = np.stack([np.interp(instants, self.times, there) for there in self.there])
        return (shown * ((self.end - instants) / _FADE).clip(0, 1)).astype(np.float32)


def follow(sources: Sequence[Source], found: FileMaps, shape: tuple[int, int], scale: float, end: float) -> Places:
    """The places of sources, of the kind that the separator is asked with in training (see `peak_weights`).

    Args:
        sources: K of them.
        found: the maps that they were found in.
        shape: Y, X of the features.
        scale: sharpness of the weights.
        end: seconds at which the picture ends.
    """
    maps = F.adaptive_avg_pool2d(torch.from_numpy(found.maps), shape)
    count = len(found.times)
    weights = np.zeros((len(sources), count, *shape), np.float32)
    there = np.zeros((len(sources), count), np.float32)
    for k, source in enumerate(sources):
        known = np.flatnonzero(np.isfinite(source.boxes[:, 0]))
        there[k, known] = 1
        inside = torch.from_numpy(np.stack([_cells(source.boxes[n], shape) for n in known]))
        own = maps[known]
        flat = own.masked_fill(~inside, float("-inf")).flatten(1).argmax(1)
        peaks = torch.stack([flat // shape[1], flat % shape[1]], 1)
        last = np.searchsorted(known, np.arange(count), side="right") - 1
        weights[k] = peak_weights(own, peaks, scale).numpy()[last.clip(0)]
    return Places(found.times, weights, there, end)
