"""Sources found within each shot of a film, and joined where the film comes back to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.sources import REACH, SoundSource, find_sources
from avlearn.apply.shots import Shot


@dataclass(frozen=True)
class FilmSource:
    """A source in some shots of a film.

    Attributes:
        id: 1 for the strongest; 0 for what was asked for by its place.
        parts: by the number of the shot, from 0: the source in the shot's maps.
    """

    id: int
    parts: Mapping[int, SoundSource]

    @property
    def strength(self) -> float:
        """Of all its parts."""
        return sum(float(part.heights.sum()) for part in self.parts.values())


@dataclass(frozen=True)
class TrackSources:
    """What a track is of: a source, or several of different shots."""

    sources: tuple[FilmSource, ...]

    @property
    def id(self) -> int:
        """The source's; 0 where there are several."""
        return self.sources[0].id if len(self.sources) == 1 else 0

    def along(self, found: FileMaps) -> SoundSource:
        """All as one source, at all of the maps."""
        count = len(found.times)
        boxes, heights = np.full((count, 4), np.nan, np.float32), np.zeros(count, np.float32)
        shots = maps_of_shots(found)
        for source in self.sources:
            for shot, part in source.parts.items():
                boxes[shots[shot]], heights[shots[shot]] = part.boxes, part.heights
        return SoundSource(self.id, boxes, heights, float("nan"), float("nan"))


def maps_of_shots(found: FileMaps) -> list[np.ndarray]:
    """The numbers of each shot's maps, by their windows' centres; none of a very short shot."""
    firsts = np.searchsorted(found.times, [shot.start for shot in found.shots[1:]])
    return np.split(np.arange(len(found.times)), firsts)


def part_of(found: FileMaps, numbers: np.ndarray) -> FileMaps:
    """Some of the maps of a file."""
    return replace(
        found, times=found.times[numbers], maps=found.maps[numbers], levels=found.levels[numbers], evidence=(), shots=()
    )


def find_in_shots(found: FileMaps, most: int) -> list[FilmSource]:
    """The sources of a film's shots, those of one camera joined by their places, the strongest first.

    Args:
        found: maps along the film.
        most: how many of each shot; the strongest are taken.
    """
    shots = found.shots or (Shot(0.0, float("inf")),)
    groups: list[dict[int, SoundSource]] = []  # of one source each
    latest: dict[int, list[int]] = {}  # of each camera: the groups that it has seen
    for shot, numbers in enumerate(maps_of_shots(found)):
        own = part_of(found, numbers)
        new = find_sources(own.times, own.maps, most, own.levels)
        known = latest.setdefault(shots[shot].camera, [])
        pairs = _nearest([groups[group][max(groups[group])] for group in known], new)
        for k, source in enumerate(new):
            if k in pairs:
                groups[known[pairs[k]]][shot] = source
            else:
                groups.append({shot: source})
        known += range(len(groups) - (len(new) - len(pairs)), len(groups))
    sources = sorted((FilmSource(0, group) for group in groups), key=lambda source: -source.strength)
    return [replace(source, id=number + 1) for number, source in enumerate(sources)]


def _nearest(before: Sequence[SoundSource], after: Sequence[SoundSource]) -> dict[int, int]:
    """Of each source after a cut back to a camera, the one before that it goes on, where one is near."""
    if not before or not after:
        return {}
    ends = np.array([_centres(source)[-1] for source in before])
    begins = np.array([_centres(source)[0] for source in after])
    far = np.abs(begins[:, None] - ends).max(-1)
    pairs = zip(*linear_sum_assignment(np.minimum(far, REACH)), strict=True)
    return {int(i): int(j) for i, j in pairs if far[i, j] < REACH}


def _centres(source: SoundSource) -> np.ndarray:
    """``[N, 2]`` at the maps in which it is there."""
    boxes = source.boxes[np.isfinite(source.boxes[:, 0])]
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def share_tracks(sources: Sequence[FilmSource], most: int) -> list[TrackSources]:
    """Sources of a film's shots in as few tracks as may be, at most ``most``.

    A source has one track, all through the film. Those of different shots share one where there are more sources than
    tracks; the strongest of each shot are taken.

    Args:
        sources: strongest first.
        most: tracks.
    """
    tracks: list[list[FilmSource]] = []
    shots: list[set[int]] = []  # in which each track has a source
    for source in sources:
        free = [k for k in range(len(tracks)) if shots[k].isdisjoint(source.parts)]
        if len(tracks) < most:
            tracks.append([source])
            shots.append(set(source.parts))
        elif free:
            track = min(free, key=lambda k: len(shots[k]))
            tracks[track].append(source)
            shots[track].update(source.parts)
    return [TrackSources(tuple(parts)) for parts in tracks]
