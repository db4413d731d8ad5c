"""Sources found within each shot of a film, and joined where the film comes back to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from avlearn.apply.file_maps import FileMaps
from avlearn.apply.shots import Shot
from avlearn.apply.sources import REACH, SoundSource, find_sources


def maps_of_shots(found: FileMaps) -> list[np.ndarray]:
    """The numbers of each shot's maps, by their windows' centres; none of a very short shot."""
    starts = np.array([shot.start for shot in found.shots[1:]])
    shot = np.searchsorted(starts, found.times, side="right")
    return [np.flatnonzero(shot == k) for k in range(len(starts) + 1)]


def part_of(found: FileMaps, numbers: np.ndarray) -> FileMaps:
    """Some of the maps of a file."""
    return replace(
        found, times=found.times[numbers], maps=found.maps[numbers], levels=found.levels[numbers], evidence=(), shots=()
    )


def along_file(source: SoundSource, numbers: np.ndarray, count: int) -> SoundSource:
    """A source that was found in some of a file's maps, as one of the whole file."""
    boxes, heights = np.full((count, 4), np.nan, np.float32), np.zeros(count, np.float32)
    boxes[numbers], heights[numbers] = source.boxes, source.heights
    return replace(source, boxes=boxes, heights=heights)


def joined(parts: Sequence[SoundSource], number: int) -> SoundSource:
    """Sources that are never there together, as one."""
    boxes, heights = parts[0].boxes.copy(), parts[0].heights.copy()
    for part in parts[1:]:
        there = np.isfinite(part.boxes[:, 0])
        boxes[there], heights[there] = part.boxes[there], part.heights[there]
    same = len(parts) == 1
    return replace(
        parts[0], id=number, boxes=boxes, heights=heights,
        loudness=parts[0].loudness if same else float("nan"), audible=parts[0].audible if same else float("nan"),
    )  # fmt: skip


def find_in_shots(found: FileMaps, most: int) -> list[SoundSource]:
    """The sources of a file's shots, those of one camera joined by their places, the strongest first.

    Args:
        found: maps along the file.
        most: how many of each shot; the strongest are taken.
    """
    shots = found.shots or (Shot(0.0, float("inf")),)
    groups: list[list[SoundSource]] = []  # of one source each
    latest: dict[int, list[int]] = {}  # of each camera: the groups of its latest shot
    for shot, numbers in zip(shots, maps_of_shots(found), strict=True):
        own = part_of(found, numbers)
        new = [
            along_file(source, numbers, len(found.times))
            for source in find_sources(own.times, own.maps, most, own.levels)
        ]
        known = latest.get(shot.camera, [])
        pairs = _nearest([groups[group][-1] for group in known], new)
        latest[shot.camera] = []
        for k, source in enumerate(new):
            group = known[pairs[k]] if k in pairs else len(groups)
            if group == len(groups):
                groups.append([])
            groups[group].append(source)
            latest[shot.camera].append(group)
        latest[shot.camera] += [group for group in known if group not in latest[shot.camera]]
    groups.sort(key=lambda group: -sum(float(source.heights.sum()) for source in group))
    return [joined(group, number + 1) for number, group in enumerate(groups)]


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


@dataclass(frozen=True)
class TrackSources:
    """What a track is of: a source, or several of different shots.

    Attributes:
        sources: never there together.
    """

    sources: tuple[SoundSource, ...]

    @property
    def whole(self) -> SoundSource:
        """All of them as one; its number is 0 where there are several."""
        return self.sources[0] if len(self.sources) == 1 else joined(self.sources, 0)


def share_tracks(sources: Sequence[SoundSource], found: FileMaps, most: int) -> list[TrackSources]:
    """Sources of a file's shots in as few tracks as may be, at most ``most``.

    A source has one track, all through the file. Those of different shots share one where there are more sources than
    tracks; the strongest of each shot are taken.

    Args:
        sources: strongest first.
        found: the maps that they were found in.
        most: tracks.
    """
    tracks: list[list[SoundSource]] = []
    shots = np.zeros((0, len(found.shots or (0,))), bool)  # in which each track has a source
    numbers = maps_of_shots(found)
    for source in sources:
        there = np.array([bool(np.isfinite(source.boxes[own, 0]).any()) for own in numbers])
        free = [k for k in range(len(tracks)) if not (shots[k] & there).any()]
        if len(tracks) < most:
            tracks.append([source])
            shots = np.concatenate([shots, there[None]])
        elif free:
            track = min(free, key=lambda k: int(shots[k].sum()))
            tracks[track].append(source)
            shots[track] |= there
    return [TrackSources(tuple(parts)) for parts in tracks]
