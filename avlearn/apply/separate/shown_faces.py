"""What released separators of voices are shown of each source: a face, upright, and its mouth."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.faces import FaceTrack, View, face_tracks
from avlearn.apply.faces.tracks import FPS
from avlearn.apply.source_choice import Box, Choice, Face, NoSuchFaceError, Point, When, check_choices, no_such_face
from avlearn.apply.windows import probe_both
from avlearn.errors import AvlearnError
from avlearn.media.source import Source

_SIDE, _MOUTH = 210, 96  # pixels: of the head, and of the mouth in it as lip readers crop it
_HEAD = View(side=_SIDE, extent=3.0, below=-0.35, grey=False, upright=True)
_LEAST = 0.5  # share of a look's instants at which a face has to be there


@dataclass(frozen=True)
class _Part:
    """A track on disk: its first frame, how many, where its mouths lie, and a picture of the head."""

    first: int
    count: int
    offset: int
    head: np.ndarray


class ShownFaces:
    """The faces that are seen longest, in the order in which they appear, or those that are asked for.

    Faces are looked for once. Their mouths lie in a temporary file, 9 kB a frame: memory does not grow with the
    file's length but for a picture of each track.

    Args:
        path: any file with video and audio.
        sources: how many faces at most.
        choices: what to take instead: numbers of people (see `avlearn.apply.faces.FaceTrack`), or whoever is at a
            point, or in a box, in each shot. Others are shown after them, up to ``sources`` in all: what is known of
            them keeps their voices out of the tracks.
        folder: whose disk holds the temporary file.
        device: of the detector.

    Attributes:
        places, present, notes: as of `avlearn.apply.separate.shown_places.ShownPlaces`; without the others.

    Raises:
        ModelError: the detector is not installed; says how.
        NoSuchFaceError: nobody is there, or somebody is asked for twice.
    """

    def __init__(
        self, path: Source, sources: int, choices: Sequence[Choice], folder: Path, device: torch.device | None = None
    ):
        info = probe_both(path).video
        check_choices(choices, info.duration)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this
        parts: dict[int, list[_Part]] = {}
        boxes: dict[int, list[np.ndarray]] = {}
        for track in face_tracks(path, _HEAD, device):
            parts.setdefault(track.person, []).append(self._keep(track))
            boxes.setdefault(track.person, []).append(np.median(track.boxes, 0) / np.tile([info.width, info.height], 2))
        lengths = {person: sum(part.count for part in own) for person, own in parts.items()}
        longest = sorted(lengths, key=lambda person: -lengths[person])
        chosen = [_asked(choice, boxes, longest) for choice in choices]
        chosen = chosen or [[person] for person in sorted(longest[:sources])]
        if any(set(first) & set(second) for first, second in combinations(chosen, 2)):
            raise NoSuchFaceError("one face is asked for twice: the two would share its voice")
        others = [[person] for person in longest if person not in {each for people in chosen for each in people}]
        shown = [*chosen, *others[: max(sources - len(chosen), 0)]]
        self._parts = [[part for person in people for part in parts[person]] for people in shown]
        self.places = [_centre([box for person in people for box in boxes[person]]) for people in chosen]
        seconds = [sum(lengths[person] for person in people) / FPS for people in chosen]
        self.present = [round(min(each / max(info.duration, 1 / FPS), 1), 3) for each in seconds]
        numbers = ", ".join(" and ".join(map(str, people)) for people in chosen)
        said = f'by the lips of face {numbers} of {len(parts)}, numbered as they appear: ask with --source "face N"'
        self.notes = (said,) if chosen else ()

    def _keep(self, track: FaceTrack) -> _Part:
        mouths = mouth_of_head(track.crops)
        offset = self._file.tell()
        self._file.write(mouths.tobytes())
        return _Part(round(track.start * FPS), len(mouths), offset, track.crops[len(mouths) // 2].copy())

    def at(self, instants: Sequence[float], gaps: bool = False) -> list[list[np.ndarray | None]]:
        """Of each face its mouths at instants in seconds, uint8 ``[96, 96]``, and then the head, ``[210, 210, 3]``.

        Those that are only to keep their voices out come last. Nothing of a face that is not there for half of the
        instants; where it is away for less, its nearest mouth. With ``gaps``, None where it is away; nothing only of
        a face that never is there.
        """
        frames = np.round(np.array(instants) * FPS).astype(int)
        shown = self._shown_with_gaps if gaps else self._shown
        return [shown(parts, frames) for parts in self._parts]

    def mouths(self, number: int) -> Iterator[tuple[float, np.ndarray]]:
        """The tracks of one of the faces: seconds of the first frame, and mouths, uint8 ``[T, 96, 96]``."""
        for part in self._parts[number]:
            self._file.seek(part.offset)
            crops = np.frombuffer(self._file.read(part.count * _MOUTH**2), np.uint8)
            yield part.first / FPS, crops.reshape(part.count, _MOUTH, _MOUTH)

    def _shown_with_gaps(self, parts: Sequence[_Part], frames: np.ndarray) -> list[np.ndarray | None]:
        own = [next((p for p in parts if p.first <= frame < p.first + p.count), None) for frame in frames]
        heads = [part.head for part in own if part]
        pairs = zip(own, frames.tolist(), strict=True)
        mouths = [self._mouth(part, frame - part.first) if part else None for part, frame in pairs]
        return [*mouths, heads[0]] if heads else []

    def _shown(self, parts: Sequence[_Part], frames: np.ndarray) -> list[np.ndarray | None]:
        best, share = parts[0], 0.0
        for part in parts:
            there = float(np.mean((frames >= part.first) & (frames < part.first + part.count)))
            best, share = (part, there) if there > share else (best, share)
        if share < _LEAST:
            return []
        mouths = [self._mouth(best, int(frame)) for frame in (frames - best.first).clip(0, best.count - 1)]
        return [*mouths, best.head]

    def _mouth(self, part: _Part, frame: int) -> np.ndarray:
        self._file.seek(part.offset + frame * _MOUTH**2)
        return np.frombuffer(self._file.read(_MOUTH**2), np.uint8).reshape(_MOUTH, _MOUTH)

    def close(self) -> None:
        """Give the disk its room back."""
        self._file.close()


def mouth_of_head(heads: np.ndarray) -> np.ndarray:
    """Mouths, grey, uint8 ``[T, 96, 96]``, of heads ``[T, 210, 210, 3]``."""
    top = round(_SIDE / 2 - _HEAD.below * _SIDE / _HEAD.extent) - _MOUTH // 2
    left = (_SIDE - _MOUTH) // 2
    mouths: np.ndarray = heads[:, top : top + _MOUTH, left : left + _MOUTH].mean(3).round().astype(np.uint8)
    return mouths


def _asked(choice: Choice, boxes: dict[int, list[np.ndarray]], longest: Sequence[int]) -> list[int]:
    """Who is asked for, those who are seen longest first."""
    if isinstance(choice, When):
        raise AvlearnError(f'{choice}: voices are asked for by face: --source "face 1", left, right or x,y')
    if isinstance(choice, int | Face):
        number = choice if isinstance(choice, int) else choice.number
        if number not in boxes:
            raise no_such_face(number, len(boxes))
        return [number]
    found = [person for person in longest if any(_is_at(choice, box) for box in boxes[person])]
    if not found:
        where = "; ".join("{:g},{:g}".format(*_centre(own)) for own in boxes.values()) or "nowhere"
        raise NoSuchFaceError(f"no face is at {','.join(f'{edge:g}' for edge in choice)}: faces are at {where}")
    return found


def _is_at(place: Point | Box, box: np.ndarray) -> bool:
    """Whether a face's box holds a point, or a box its centre."""
    if len(place) == 2:
        return bool((box[:2] <= place).all() and (box[2:] >= place).all())
    centre = (box[:2] + box[2:]) / 2
    return bool((place[:2] <= centre).all() and (place[2:] >= centre).all())


def _centre(boxes: Sequence[np.ndarray]) -> Point:
    x0, y0, x1, y1 = np.median(boxes, 0).tolist()
    return round((x0 + x1) / 2, 3), round((y0 + y1) / 2, 3)
