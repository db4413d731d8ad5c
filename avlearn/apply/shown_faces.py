"""What released separators of voices are shown of each source: a face, upright, and its mouth."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.faces import FaceTrack, View, face_tracks
from avlearn.apply.faces.tracks import FPS
from avlearn.apply.source_choice import MAX_SOURCES, Choice
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
    """The faces that are seen longest, or those that are asked for by number, in the order in which they appear.

    Faces are looked for once. Their mouths lie in a temporary file, 9 kB a frame: memory does not grow with the
    file's length but for a picture of each track.

    Args:
        path: any file with video and audio.
        sources: how many faces at most.
        choices: numbers of people instead (see `avlearn.apply.faces.FaceTrack`).
        folder: whose disk holds the temporary file.
        device: of the detector.

    Attributes:
        places, present, notes: as of `avlearn.apply.shown_places.ShownPlaces`.

    Raises:
        ModelError: the detector is not installed; says how.
        AvlearnError: a place is asked for, or a person who is not there.
    """

    def __init__(
        self, path: Source, sources: int, choices: Sequence[Choice], folder: Path, device: torch.device | None = None
    ):
        asked = [choice for choice in choices if isinstance(choice, int)]
        if len(asked) < len(choices):
            raise AvlearnError("voices are asked for by number, in the order in which faces appear: --source 1")
        if len(asked) > MAX_SOURCES or len(set(asked)) < len(asked):
            raise AvlearnError(f"ask for {MAX_SOURCES} voices at most, and for each once")
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this
        parts: dict[int, list[_Part]] = {}
        boxes: dict[int, list[np.ndarray]] = {}
        info = probe_both(path).video
        for track in face_tracks(path, _HEAD, device):
            parts.setdefault(track.person, []).append(self._keep(track))
            boxes.setdefault(track.person, []).append(np.median(track.boxes, 0) / np.tile([info.width, info.height], 2))
        if absent := [str(person) for person in asked if person not in parts]:
            raise AvlearnError(f"there is no face {', '.join(absent)}: there are {len(parts)}")
        lengths = {person: sum(part.count for part in own) for person, own in parts.items()}
        chosen = asked or sorted(sorted(lengths, key=lambda person: -lengths[person])[:sources])
        self._parts = [parts[person] for person in chosen]
        centres = [np.median(boxes[person], 0) for person in chosen]
        self.places = [(round((a + c) / 2, 3), round((b + d) / 2, 3)) for a, b, c, d in map(np.ndarray.tolist, centres)]
        self.present = [round(min(lengths[person] / FPS / max(info.duration, 1 / FPS), 1), 3) for person in chosen]
        numbers = ", ".join(map(str, chosen))
        said = f"by the lips of face {numbers} of {len(parts)}, numbered as they appear: --source N takes another"
        self.notes = (said,) if chosen else ()

    def _keep(self, track: FaceTrack) -> _Part:
        top = round(_SIDE / 2 - _HEAD.below * _SIDE / _HEAD.extent) - _MOUTH // 2
        left = (_SIDE - _MOUTH) // 2
        mouths = track.crops[:, top : top + _MOUTH, left : left + _MOUTH].mean(3).round().astype(np.uint8)
        offset = self._file.tell()
        self._file.write(mouths.tobytes())
        return _Part(round(track.start * FPS), len(mouths), offset, track.crops[len(mouths) // 2].copy())

    def at(self, instants: Sequence[float]) -> list[list[np.ndarray]]:
        """Of each face its mouths at instants in seconds, uint8 ``[96, 96]``, and then the head, ``[210, 210, 3]``.

        Nothing of a face that is not there for half of the instants; where it is away for less, its nearest mouth.
        """
        frames = np.round(np.array(instants) * FPS).astype(int)
        return [self._shown(parts, frames) for parts in self._parts]

    def _shown(self, parts: Sequence[_Part], frames: np.ndarray) -> list[np.ndarray]:
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
