"""The true places of things in a window, and their motion."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.remote.cache import local_file


@dataclass(frozen=True)
class SceneObject:
    """Something of a class in the video.

    Attributes:
        stem: its number among the clip's stems.
        sounding: whether it is heard.
        boxes: ``[T, 4]`` x0, y0, x1, y1 as fractions of the frame, frame by frame; NaN where nothing of it shows.
    """

    stem: int
    sounding: bool
    boxes: np.ndarray

    def box(self, begin: float, seconds: float, fps: float) -> np.ndarray:
        """The mean box of a window: ``[4]``."""
        first = round(begin * fps)
        return np.nanmean(self.boxes[first : first + max(round(seconds * fps), 1)], 0)


def truth_of(row: Row) -> Path | str:
    """The file, or its address, that says what is in a clip of a world. Raises DataError where its row names none."""
    if row.truth is None:
        raise DataError(f"{row.path}: its manifest names no truth, as those of a synthetic world do")
    return row.truth


def scene_objects(row: Row) -> list[SceneObject]:
    """What the truth of a clip says is in its video.

    Raises:
        DataError: it cannot be read, or is no truth of a clip.
    """
    sides, truth = np.array([row.width, row.height] * 2), truth_of(row)
    try:
        sources = json.loads(local_file(truth).read_text())["sources"]
        boxes = [np.array([box or [np.nan] * 4 for box in source["boxes"]], float).reshape(-1, 4) for source in sources]
        return [
            SceneObject(k, bool(source["sounding"]), boxes[k] / sides)
            for k, source in enumerate(sources)
            if source["onscreen"]
        ]
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(f"{truth} does not say what is in the video of its clip: {error}") from error


def motion_map(frames: np.ndarray, cells: int) -> np.ndarray:
    """Mean change from frame to frame: uint8 ``[T, S, S, 3]`` to ``[cells, cells]``."""
    grey = frames.astype(np.float32).mean(-1)
    energy = np.abs(np.diff(grey, axis=0)).mean(0)
    side = len(energy) // cells
    return energy.reshape(cells, side, cells, side).mean((1, 3))
