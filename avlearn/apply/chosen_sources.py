"""The sources of a file that are separated: the strongest, or those that are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from avlearn.apply.file_maps import FileMaps
from avlearn.apply.shot_sources import TrackSources, along_file, find_in_shots, maps_of_shots, part_of, share_tracks
from avlearn.apply.source_choice import MAX_SOURCES, Box, Choice, Face, Point, When, no_such_face
from avlearn.apply.source_weights import cells_in_box
from avlearn.apply.sources import APART, SoundSource, find_sources
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
        return share_tracks(every, found, most), []
    chosen = [_chosen(choice, found, every, looks) for choice in choices]
    for first, second in combinations([track.whole for track in chosen], 2):
        if np.array_equal(first.boxes, second.boxes, equal_nan=True):
            raise AvlearnError("two of the sources that are asked for are one and the same: they would share its audio")
    others = [source for source in every if not any(_is_near(source, track.whole) for track in chosen)]
    return chosen, share_tracks(others, found, most - len(chosen))


def _is_near(one: SoundSource, other: SoundSource) -> bool:
    """Whether two sources touch, or nearly, where both are there."""
    gaps = np.maximum(one.boxes[:, :2] - other.boxes[:, 2:], other.boxes[:, :2] - one.boxes[:, 2:]).max(1)
    gaps = gaps[np.isfinite(gaps)]
    return bool(len(gaps) and np.median(gaps) < APART / 2)


def _chosen(choice: Choice, found: FileMaps, every: Sequence[SoundSource], looks: Looks) -> TrackSources:
    if isinstance(choice, int):
        for source in every:
            if source.id == choice:
                return TrackSources((source,))
        known = ", ".join(str(source.id) for source in every) or "none"
        raise AvlearnError(f"there is no source {choice}: there are {known}")
    if isinstance(choice, Face):
        faces = looks.faces()
        if choice.number not in faces:
            raise no_such_face(choice.number, len(faces))
        boxes = faces[choice.number]
        if not np.isfinite(boxes[:, 0]).any():
            raise AvlearnError(f"face {choice.number} is there too briefly to be heard")
        return TrackSources((_placed(boxes),))
    if isinstance(choice, When):
        return TrackSources((_in_spans(choice, found, every, looks),))
    if len(choice) == 2:
        return TrackSources((_at_point(choice, found),))
    parts = [
        along_file(_within(choice, part_of(found, own)), own, len(found.times))
        for own in maps_of_shots(found)
        if len(own)
    ]
    return TrackSources(tuple(parts))


def _placed(boxes: np.ndarray) -> SoundSource:
    """A source of known boxes ``[N, 4]``."""
    return SoundSource(0, boxes.astype(np.float32), np.zeros(len(boxes), np.float32), float("nan"), 1.0)


def _at_point(point: Point, found: FileMaps) -> SoundSource:
    return _placed(np.tile(np.array([*point, *point]), (len(found.times), 1)))


def _within(box: Box, found: FileMaps) -> SoundSource:
    inside = cells_in_box(np.array(box), found.maps.shape[1:])
    level = np.median(found.maps, axis=(1, 2), keepdims=True)
    shown = np.where(inside, found.maps, np.minimum(found.maps, level))
    strongest = find_sources(found.times, shown, 1, found.levels)
    if strongest:
        return replace(strongest[0], id=0)
    return _at_point(_peak(np.where(inside, found.maps.mean(0), -np.inf)), found)


def _peak(heat: np.ndarray) -> Point:
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    return (float(column) + 0.5) / heat.shape[1], (float(row) + 0.5) / heat.shape[0]


def _in_spans(when: When, found: FileMaps, every: Sequence[SoundSource], looks: Looks) -> SoundSource:
    """The source of the shots of these spans that lies nearest to the place which fits the audio best then.

    Where none is near, it is that place in these shots.
    """
    heat = looks.spans(when)
    if heat is None:
        raise AvlearnError(f"{when}: nothing sounds then")
    place = _peak(heat)
    shots = [own for own, shot in zip(maps_of_shots(found), found.shots, strict=True)
             if any(begin < shot.end and end > shot.start for begin, end in when.spans)]  # fmt: skip
    own = np.concatenate(shots)
    near = [(_distance(place, source.boxes[own]), k) for k, source in enumerate(every)]
    far, k = min(near, default=(np.inf, 0))
    if far < APART:
        return every[k]
    return along_file(_at_point(place, part_of(found, own)), own, len(found.times))


def _distance(point: Point, boxes: np.ndarray) -> float:
    """From a point to a source's box, the median over the maps in which it is there; infinite where it never is."""
    there = boxes[np.isfinite(boxes[:, 0])]
    if not len(there):
        return float("inf")
    return float(np.median(np.maximum(there[:, :2] - point, point - there[:, 2:]).max(1).clip(0)))
