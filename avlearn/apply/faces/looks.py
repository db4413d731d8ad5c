"""How a file is looked through for faces: which parts of a long one, once for all who ask, and where they are."""

import numpy as np
import torch

from avlearn.apply.faces.crops import MOUTH
from avlearn.apply.faces.tracks import FaceTrack, face_tracks
from avlearn.errors import NoVideoError
from avlearn.media import probe
from avlearn.media.source import Source, found_once

_LONG, _PART = 600.0, 20.0  # seconds of video from which on only parts are looked at, as much together; and of a part


def spread(duration: float) -> list[tuple[float, float]] | None:
    """The parts of a long file that are looked at, spread evenly, in seconds; None: all of it."""
    if duration <= _LONG:
        return None
    return [(start, start + _PART) for start in np.linspace(0, duration - _PART, round(_LONG / _PART)).tolist()]


def mouth_tracks(path: Source, device: torch.device | None = None) -> list[FaceTrack]:
    """`face_tracks` of mouths in the parts of `spread`: found once for a file that is held open.

    Raises:
        MissingExtraError, MediaError: as `face_tracks`.
    """

    def find() -> list[FaceTrack]:
        video = probe(path).video
        if video is None:
            raise NoVideoError(f"{path} has no video")
        return list(face_tracks(path, MOUTH, device, spread(video.duration)))

    return found_once(path, "mouths", find)


def side_of(track: FaceTrack, width: int) -> str:
    """Where a face is in a frame of this width: ``left``, ``middle`` or ``right``."""
    centre = float(track.boxes[:, [0, 2]].mean()) / max(width, 1)
    return "left" if centre < 0.4 else "right" if centre > 0.6 else "middle"
