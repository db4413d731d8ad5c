"""Crops of a face that are all of one size: of its mouth, upright, or of the whole head."""

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class View:
    """What is cut out around a face.

    Attributes:
        side: pixels of the square crop.
        extent: what its side shows, in lengths of the face (`face_length`).
        below: by how much its centre lies below the middle of the mouth, in the same lengths.
        grey: one channel instead of three.
        upright: whether a tilted head is turned upright.
    """

    side: int
    extent: float
    below: float
    grey: bool
    upright: bool

    def crop(self, frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """uint8 ``[side, side, 3]``, or ``[side, side]`` in grey. Beyond the frame its outermost pixels go on.

        Args:
            frame: uint8 ``[H, W, 3]``.
            landmarks: ``[5, 2]``, pixels, as of `avlearn.models.released.mtcnn.Faces`.
        """
        length = max(face_length(landmarks), 1.0)
        angle = _tilt(landmarks) if self.upright else 0.0
        down = np.array([-math.sin(angle), math.cos(angle)])
        centre = landmarks[3:].mean(0) + down * self.below * length
        finer = min(max(math.ceil(self.extent * length / self.side), 1), 8)  # drawn larger, then averaged: no aliases
        side = self.side * finer
        scale = side / (self.extent * length)
        turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        matrix = np.hstack([turn, (side / 2 - 0.5 - turn @ centre)[:, None]])
        crop = cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if finer > 1:
            crop = cv2.resize(crop, (self.side, self.side), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) if self.grey else crop


MOUTH = View(side=64, extent=1.5, below=0.1, grey=True, upright=True)
FACE = View(side=224, extent=3.0, below=-0.35, grey=False, upright=False)  # as SyncNet's authors crop it


def face_length(landmarks: np.ndarray) -> float:
    """The distance of the eyes, or from eyes to mouth where that is longer, as it is where a head is turned; pixels."""
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    return float(max(np.hypot(*(landmarks[1] - landmarks[0])), np.hypot(*(mouth - eyes))))


def _tilt(landmarks: np.ndarray) -> float:
    """Radians by which a head is tilted clockwise."""
    x, y = landmarks[3:].mean(0) - landmarks[:2].mean(0)
    return math.atan2(-x, y)
