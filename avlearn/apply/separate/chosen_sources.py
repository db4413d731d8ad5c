"""The sources of a file that are separated: the strongest, or those that are asked for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.shot_sources import (
    FilmSource,
    TrackSources,
    find_in_shots,
    maps_of_shots,
    part_of,
    share_tracks,
)
from avlearn.apply.localize.source_weights import cells_in_box
from avlearn.apply.localize.sources import APART, SoundSource, find_sources
from avlearn.apply.source_choice import MAX_SOURCES, Box, Choice, Face, Point, When, no_such_face
from avlearn.errors import AvlearnError


@dataclass(frozen=True)
class Looks:
    """What is looked up in a file where a choice needs it.

    Attributes:
        spans: how well each place fits the audio of some spans: ``[Y, X]``; None where nothing sounds there.
        faces: boxes of each face, by its number, at the times of the maps: ``[N, 4]`` as fractions of the frame, NaN
            where it is not there.
    """

    spans: Callable[[When], np.ndarray | None]
    faces: Callable[[], dict[int, np.ndarray]]


def chosen_sources(
    found: FileMaps, most: int, choices: Sequence[Choice], looks: Looks
) -> tuple[list[TrackSources], list[TrackSources]]:
    """The strongest sources of a file, or those that are asked for, in that order; none of a silent one.

    Args:
        found: maps along the file.
        most: how many of the strongest.
        choices: what is asked for instead. In a box, such as a half, the strongest source of each shot is looked for
            with the rest of the frame hidden; a point is a source whatever the maps say. Of spans, it is the source
            whose place fits the audio best then.
        looks: of the file.

    Returns:
        The sources; and others, the strongest of those that nobody asked for, so that there are ``most`` in all. What
        is known of them keeps their sound out of the tracks.

    Raises:
        AvlearnError: what is asked for is not there, or one of them is asked for twice.
    """
    if not found.heard:
        return [], []
    every = find_in_shots(found, MAX_SOURCES)
    if not choices:
        return share_tracks(every, most), []
    chosen = [_chosen(choice, found, every, looks) for choice in choices]
    for first, second in combinations([TrackSources((source,)).along(found) for source in chosen], 2):
        if np.array_equal(first.boxes, second.boxes, equal_nan=True):
            raise AvlearnError("two of the sources that are asked for are one and the same: they would share its audio")
    others = [source for source in every if not any(_is_near(source, other) for other in chosen)]
    return [TrackSources((source,)) for source in chosen], share_tracks(others, most - len(chosen))


def _is_near(one: FilmSource, other: FilmSource) -> bool:
    """Whether two sources touch, or nearly, where both are there."""
    gaps = [_gaps(part.boxes, other.parts[shot].boxes) for shot, part in one.parts.items() if shot in other.parts]
    known = np.concatenate([gap[np.isfinite(gap)] for gap in gaps]) if gaps else np.zeros(0)
    return bool(len(known) and np.median(known) < APART / 2)


def _gaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Between boxes ``[N, 4]``: 0 and less where they touch."""
    gaps: np.ndarray = np.maximum(boxes[:, :2] - others[:, 2:], others[:, :2] - boxes[:, 2:]).max(1)
    return gaps


def _chosen(choice: Choice, found: FileMaps, every: Sequence[FilmSource], looks: Looks) -> FilmSource:
    if isinstance(choice, int):
        for source in every:
            if source.id == choice:
                return source
        known = ", ".join(str(source.id) for source in every) or "none"
        raise AvlearnError(f"there is no source {choice}: there are {known}")
    if isinstance(choice, Face):
        faces = looks.faces()
        if choice.number not in faces:
            raise no_such_face(choice.number, len(faces))
        return _of_face(choice, faces[choice.number], found)
    if isinstance(choice, When):
        return _in_spans(choice, found, every, looks)
    shots = {shot: part_of(found, own) for shot, own in enumerate(maps_of_shots(found)) if len(own)}
    return FilmSource(
        0,
        {
            shot: _at_point(choice, len(own.times)) if len(choice) == 2 else _within(choice, own)
            for shot, own in shots.items()
        },
    )


def _of_face(face: Face, boxes: np.ndarray, found: FileMaps) -> FilmSource:
    shots = {shot: boxes[own] for shot, own in enumerate(maps_of_shots(found)) if np.isfinite(boxes[own, 0]).any()}
    if not shots:
        raise AvlearnError(f"{face} is there too briefly to be heard")
    return FilmSource(0, {shot: _placed(own) for shot, own in shots.items()})


def _placed(boxes: np.ndarray) -> SoundSource:
    """A source of known boxes ``[N, 4]``."""
    return SoundSource(0, boxes.astype(np.float32), np.zeros(len(boxes), np.float32), float("nan"), 1.0)


def _at_point(point: Point, count: int) -> SoundSource:
    return _placed(np.tile(np.array([*point, *point]), (count, 1)))


def _within(box: Box, found: FileMaps) -> SoundSource:
    inside = cells_in_box(np.array(box), found.maps.shape[1:])
    level = np.median(found.maps, axis=(1, 2), keepdims=True)
    shown = np.where(inside, found.maps, np.minimum(found.maps, level))
    strongest = find_sources(found.times, shown, 1, found.levels)
    if strongest:
        return replace(strongest[0], id=0)
    return _at_point(_peak(np.where(inside, found.maps.mean(0), -np.inf)), len(found.times))


def _peak(heat: np.ndarray) -> Point:
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    return (float(column) + 0.5) / heat.shape[1], (float(row) + 0.5) / heat.shape[0]


def _in_spans(when: When, found: FileMaps, every: Sequence[FilmSource], looks: Looks) -> FilmSource:
    """The source of the shots of these spans that lies nearest to the place which fits the audio best then.

    Where none is near, it is that place in these shots.
    """
    heat = looks.spans(when)
    if heat is None:
        raise AvlearnError(f"{when}: nothing sounds then")
    place = _peak(heat)
    shots = {
        shot: len(own)
        for shot, (own, span) in enumerate(zip(maps_of_shots(found), found.shots, strict=True))
        if len(own) and any(begin < span.end and end > span.start for begin, end in when.spans)
    }
    if not shots:
        raise AvlearnError(f"{when}: the shot is too short to find a source in it")
    far, k = min(((_distance(place, source, shots), k) for k, source in enumerate(every)), default=(np.inf, 0))
    return every[k] if far < APART else FilmSource(0, {shot: _at_point(place, count) for shot, count in shots.items()})


def _distance(point: Point, source: FilmSource, shots: Iterable[int]) -> float:
    """From a point to a source's box, the median over the maps of shots; infinite where it is in none of them."""
    boxes = [source.parts[shot].boxes for shot in shots if shot in source.parts]
    if not boxes:
        return float("inf")
    there = np.concatenate(boxes)
    there = there[np.isfinite(there[:, 0])]
    return float(np.median(np.maximum(there[:, :2] - point, point - there[:, 2:]).max(1).clip(0)))
