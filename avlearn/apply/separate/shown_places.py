"""What released separators are shown of each source: a part of the frame."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from avlearn.apply.source_choice import Box, Choice, Face, When
from avlearn.errors import AvlearnError
from avlearn.media import stream
from avlearn.media.source import Source

_FPS = 2.0  # frames that are kept for looks, a second
_AROUND = 0.2  # of the frame's width and height, on each side of a point that is asked for
_BACK = 4.0  # seconds that are kept behind the earliest instant of a look


class ShownPlaces:
    """Crops of the places that are asked for, or of as many equal parts of the frame, side by side.

    Args:
        path: any file with video.
        sources: into how many parts the frame is cut.
        choices: places instead: points and boxes.
        reach: seconds from the first of a look's instants to the last.

    Attributes:
        places: centre of each source, as fractions of the frame.
        present: share of the video's time for which each is there.
        notes: lines for people.

    Raises:
        AvlearnError: a source is asked for by anything but its place, or too many are.
    """

    def __init__(self, path: Source, sources: int, choices: Sequence[Choice], reach: float):
        boxes = _boxes(sources, choices)
        self.places = [(round((box[0] + box[2]) / 2, 3), round((box[1] + box[3]) / 2, 3)) for box in boxes]
        self.present = [1.0] * len(boxes)
        parts = f"{len(boxes)} equal parts of the frame, side by side"
        self.notes = () if choices else (f"it was shown {parts}: --source X,Y says where sources are",)
        self._frames = _cut(path, boxes)
        self._kept: deque[tuple[float, list[np.ndarray]]] = deque()
        self._reach = reach + _BACK

    def at(self, instants: Sequence[float]) -> list[list[np.ndarray]]:
        """Of each source, crops at instants in seconds, which rise from call to call; the nearest of two a second."""
        while not self._kept or self._kept[-1][0] < max(instants):
            if (more := next(self._frames, None)) is None:
                break
            self._kept.append(more)
        while len(self._kept) > 1 and self._kept[0][0] < min(instants) - self._reach:
            self._kept.popleft()
        times = np.array([time for time, _ in self._kept])
        nearest = [self._kept[int(np.abs(times - instant).argmin())][1] for instant in instants]
        return [[crops[k] for crops in nearest] for k in range(len(self.places))]


def _boxes(sources: int, choices: Sequence[Choice]) -> list[Box]:
    """Places of the sources, as fractions of the frame."""
    if not choices:
        return [(k / sources, 0.0, (k + 1) / sources, 1.0) for k in range(sources)]
    boxes: list[Box] = []
    for choice in choices:
        if isinstance(choice, int | Face | When):
            told = f"source {choice}" if isinstance(choice, int) else str(choice)
            raise AvlearnError(f"{told}: this system is shown places alone: give left, right, x,y or x0,y0,x1,y1")
        if len(choice) == 2:
            x, y = choice
            boxes.append((max(x - _AROUND, 0), max(y - _AROUND, 0), min(x + _AROUND, 1), min(y + _AROUND, 1)))
        else:
            boxes.append(choice)
    return boxes


def _cut(path: Source, boxes: Sequence[Box]) -> Iterator[tuple[float, list[np.ndarray]]]:
    """Seconds from the first frame, and the crops."""
    begin = None
    for clip in stream(path, 1.0, 1.0, fps=_FPS, audio=False):
        begin = clip.start if begin is None else begin
        for number, frame in enumerate(clip.video):
            yield clip.start - begin + number / _FPS, [_cropped(frame, box) for box in boxes]


def _cropped(frame: np.ndarray, box: Box) -> np.ndarray:
    height, width = frame.shape[:2]
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    right, bottom = max(round(box[2] * width), left + 1), max(round(box[3] * height), top + 1)
    return frame[top:bottom, left:right].copy()
