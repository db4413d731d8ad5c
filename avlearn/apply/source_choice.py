"""Choice of a file's sources: by number, by half of the frame, by point or by box."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from avlearn.apply.file_maps import FileMaps
from avlearn.apply.source_weights import cells_in_box
from avlearn.apply.sources import SoundSource, find_sources
from avlearn.errors import AvlearnError

Choice = int | tuple[float, float] | tuple[float, float, float, float]
_HALVES = {"left": (0.0, 0.0, 0.5, 1.0), "right": (0.5, 0.0, 1.0, 1.0)}
MAX_SOURCES = 8


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
            f"'{text}' names no source: give left, right, x,y or x0,y0,x1,y1 in fractions of the frame, "
            "or a number that `avlearn localize --sources` prints"
        )
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (numbers[0], numbers[1], numbers[2], numbers[3])


def chosen_sources(found: FileMaps, most: int, choices: Sequence[Choice]) -> list[SoundSource]:
    """The strongest sources of a file, or those that are asked for, in that order.

    Args:
        found: maps along the file.
        most: how many of the strongest.
        choices: what is asked for instead. In a box, such as a half, the strongest source is looked for with the
            rest of the frame hidden; a point is a source whatever the maps say.

    Raises:
        AvlearnError: there is no source of that number, too many are asked for, or one of them twice.
    """
    if len(choices) > MAX_SOURCES:
        raise AvlearnError(f"{len(choices)} sources are too many: ask for {MAX_SOURCES} at most")
    if not choices:
        return find_sources(found.times, found.maps, most, found.levels)
    numbers = {source.id: source for source in find_sources(found.times, found.maps, MAX_SOURCES, found.levels)}
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
            raise AvlearnError("two of the sources that are asked for are one and the same: they would share its audio")
    return chosen


def _at_point(point: tuple[float, float], found: FileMaps) -> SoundSource:
    box = np.array([*point, *point], np.float32)
    count = len(found.times)
    return SoundSource(0, np.tile(box, (count, 1)), np.zeros(count, np.float32), float("nan"), 1.0)


def _within(box: tuple[float, float, float, float], found: FileMaps) -> SoundSource:
    inside = cells_in_box(np.array(box), found.maps.shape[1:])
    level = np.median(found.maps, axis=(1, 2), keepdims=True)
    shown = np.where(inside, found.maps, np.minimum(found.maps, level))
    strongest = find_sources(found.times, shown, 1, found.levels)
    if strongest:
        return replace(strongest[0], id=0)
    mean = np.where(inside, found.maps.mean(0), -np.inf)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    return _at_point(((column + 0.5) / mean.shape[1], (row + 0.5) / mean.shape[0]), found)
