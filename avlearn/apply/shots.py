"""Shot boundaries: the frames at which a film cuts to another camera."""

import cv2
import numpy as np

_THUMBNAIL = (32, 18)  # pixels: what a cut changes as a whole, and a movement in part
_LEAST = 20.0  # grey levels, of 255, by which a cut changes the thumbnail on average
_RATIO = 4.0  # by which a cut changes it more than the frames around it do


class ShotDetector:
    """Hard cuts in a stream of frames; fades and dissolves are not found, and a flash is not a cut.

    A cut is known when the frame after its first one is.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._changes = [0.0, 0.0]  # of the two frames before the next one

    def add(self, frame: np.ndarray) -> bool:
        """Whether the frame *before* this one is the first of a shot.

        Args:
            frame: uint8 ``[H, W, 3]``.
        """
        thumbnail = cv2.resize(frame, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        change = 0.0 if self._last is None else float(np.abs(thumbnail - self._last).mean())
        before, latest = self._changes
        self._last, self._changes = thumbnail, [latest, change]
        return latest > max(_LEAST, _RATIO * max(before, change))
