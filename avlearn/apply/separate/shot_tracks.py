"""Which source is in which track, shot by shot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.shot_sources import TrackSources


@dataclass(frozen=True)
class TrackedSource:
    """A source in a shot.

    Attributes:
        track: the name of the track that holds its sound.
        id: its number in the whole film; None where a place was asked for.
        place: x and y as fractions of the frame, the median over the shot.
        present: share of the shot for which it is there.
    """

    track: str
    id: int | None
    place: tuple[float, float]
    present: float


@dataclass(frozen=True)
class ShotTracks:
    """A shot of a film, and the sources in it.

    Attributes:
        start, end: seconds from the first frame.
        camera: shots of one camera have the same (see `avlearn.apply.shots.Shot`).
        sources: those that have a track.
    """

    start: float
    end: float
    camera: int
    sources: tuple[TrackedSource, ...]

    def text(self, number: int) -> str:
        """Human-readable text."""
        who = [
            f"{source.track} {'' if source.id is None else f'(--source {source.id}) '}"
            f"at {source.place[0]:.0%} across, {source.place[1]:.0%} down"
            for source in self.sources
        ]
        return f"  shot {number}, {self.start:.1f}-{self.end:.1f} s: {'; '.join(who) or 'no source stands out'}"


def shot_tracks(found: FileMaps, chosen: Sequence[TrackSources], names: Sequence[str]) -> tuple[ShotTracks, ...]:
    """The shots of a film with their sources.

    Args:
        found: maps along the film.
        chosen: K sources.
        names: of the tracks; where there are fewer than sources, all are in the first.
    """
    written = len(names) > len(chosen)
    shots = [
        {
            shot: TrackedSource(name, source.id or None, place_of(part.boxes), presence_of(part.boxes))
            for source in track.sources
            for shot, part in source.parts.items()
        }
        for name, track in zip(names if written else [names[0]] * len(chosen), chosen, strict=False)
    ]
    return tuple(
        ShotTracks(
            round(shot.start, 3), round(shot.end, 3), shot.camera,
            tuple(track[number] for track in shots if number in track),
        )
        for number, shot in enumerate(found.shots)
    )  # fmt: skip


def place_of(boxes: np.ndarray) -> tuple[float, float]:
    """The median centre of boxes ``[N, 4]``, NaN where they are not there."""
    x0, y0, x1, y1 = (float(edge) for edge in np.nanmedian(boxes, 0))
    return round((x0 + x1) / 2, 3), round((y0 + y1) / 2, 3)


def presence_of(boxes: np.ndarray) -> float:
    """The share of boxes ``[N, 4]`` that are there."""
    return round(float(np.isfinite(boxes[:, 0]).mean()), 3)
