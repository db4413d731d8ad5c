"""Shots of a film: the frames at which it cuts to another camera, and which cameras it comes back to."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import cv2
import numpy as np

_THUMBNAIL = (32, 18)  # pixels: what a cut changes as a whole, and a movement in part
_LEAST = 20.0  # grey levels, of 255, by which a cut changes the thumbnail on average
_RATIO = 4.0  # by which a cut changes it more than the frames around it do
_PART = 1 / 3  # of the thumbnail that a cut changes by as much at least: what moves may change a part by more
_SAME = 12.0  # grey levels by which one camera's shots differ at most where one ends or begins and another begins
_KEPT = 64  # cameras that are remembered: the latest


@dataclass(frozen=True)
class Shot:
    """A part of a film without a hard cut.

    Attributes:
        start, end: seconds from the film's first frame.
        camera: 1, 2, ...: shots have the same where one begins as another ended, or as it began, as in a dialogue
            that is cut to and fro.
    """

    start: float
    end: float
    camera: int = 1


class ShotDetector:
    """Hard cuts in a stream of frames; fades and dissolves are not found, and a flash is not a cut.

    A cut is known when the frame after its first one is.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._changes = [0.0, 0.0]  # of the two frames before the next one
        self._wide = False  # whether the latest of them is one of a third of the thumbnail or more

    def add(self, frame: np.ndarray) -> bool:
        """Whether the frame *before* this one is the first of a shot.

        Args:
            frame: uint8 ``[H, W, 3]``.
        """
        thumbnail = _thumbnail(frame)
        last = thumbnail if self._last is None else self._last
        change, wide = _change(thumbnail, last), self._wide
        before, latest = self._changes
        self._last, self._changes = thumbnail, [latest, change]
        self._wide = float((np.abs(thumbnail - last).max(2) > _LEAST).mean()) >= _PART
        return wide and latest > max(_LEAST, _RATIO * max(before, change))


class ShotList:
    """The shots of a stream of frames, found as they come.

    Args:
        fps: of the frames.

    Attributes:
        begun: seconds at which each shot so far begins, and its camera (see `Shot`).
    """

    def __init__(self, fps: float):
        self._fps, self._detector, self._count = fps, ShotDetector(), 0
        self._latest: list[np.ndarray] = []  # thumbnails of the last two frames
        self._known: dict[int, list[np.ndarray]] = {}  # of each camera: how its last shot began, and how it ended
        self._camera = self._cameras = 1
        self.begun: list[tuple[float, int]] = [(0.0, 1)]  # start and camera of each shot

    def add(self, frames: np.ndarray) -> None:
        """Take the next frames: uint8 ``[T, H, W, 3]``."""
        for frame in frames:
            thumbnail = _thumbnail(frame)
            if self._detector.add(frame) and self._count > 1:
                self._cut()
            self._known.setdefault(self._camera, [thumbnail])
            self._latest = [*self._latest[-1:], thumbnail]
            self._count += 1

    def _cut(self) -> None:
        """The last frame is the first of a shot."""
        ended, begun = self._latest
        self._known[self._camera] = [self._known[self._camera][0], ended]
        near = {camera: min(_change(begun, each) for each in views) for camera, views in self._known.items()}
        camera = min(near, key=lambda each: near[each])
        if near[camera] > _SAME:
            self._cameras += 1
            camera = self._cameras
        self._camera = camera
        self._known[camera] = [begun, *self._known.pop(camera, [])[1:]]
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        self.begun.append(((self._count - 1) / self._fps, camera))

    def span_at(self, instant: float) -> tuple[float, float]:
        """Start and end, seconds, of the shot at an instant; the end of the latest is infinite."""
        number = bisect_right(self.begun, instant, key=lambda begun: begun[0])
        end = self.begun[number][0] if number < len(self.begun) else inf
        return self.begun[number - 1][0], end

    def found(self) -> tuple[Shot, ...]:
        """The shots so far."""
        starts = [start for start, _ in self.begun]
        ends = [*starts[1:], max(self._count / self._fps, starts[-1])]
        return tuple(Shot(start, end, camera) for (start, camera), end in zip(self.begun, ends, strict=True))


def cuts(frames: np.ndarray) -> Iterator[int]:
    """First frames of the shots of ``[T, H, W, 3]`` but the first one's."""
    shots = ShotDetector()
    for k, frame in enumerate(frames):
        if shots.add(frame) and k > 1:
            yield k - 1


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)


def _change(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())
