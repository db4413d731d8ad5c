"""Windows of clips for the synchronization objectives: a picture, and more sound than belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.errors import AvlearnError, DataError
from avlearn.media import read_clip


@dataclass(frozen=True)
class WindowRule:
    """How windows are cut.

    The sound is ``2 * context`` longer than the picture, which starts at a random whole number of steps
    into it: the true offset says nothing about the clip's content, and the positions near the edges are
    as likely as the rest. The picture starts at any frame, not only at every step's first.

    Attributes:
        fps, size, sample_rate: of the arrays; size is the side of the centre square, pixels.
        seconds: length of the picture.
        context: further sound on each side, seconds (a whole number of steps).
        step: seconds of a feature step.
    """

    fps: float
    size: int
    sample_rate: int
    seconds: float
    context: float
    step: float

    @property
    def offsets(self) -> int:
        """How many offsets the sound allows."""
        return round(2 * self.context / self.step) + 1

    @property
    def sound_seconds(self) -> float:
        """Length of the sound."""
        return self.seconds + 2 * self.context

    def draw(self, duration: float, seed: int) -> tuple[float, float, int]:
        """Start of the picture, start of the sound (seconds), and the true offset (steps).

        Raises:
            DataError: the clip is shorter than the sound's window.
        """
        slack = duration - self.sound_seconds
        if slack < -1e-3:
            raise DataError(f"a clip of {duration:.2f} s is shorter than the window of {self.sound_seconds:.2f} s")
        rng = np.random.default_rng(seed)
        offset = int(rng.integers(self.offsets))
        sound = int(rng.integers(int(max(slack, 0) * self.fps + 1e-6) + 1)) / self.fps
        return sound + offset * self.step, sound, offset


class ClipDataset(Dataset):
    """Windows over the rows of a manifest; an item is asked for by ``(row index, seed)``.

    Args:
        rows: clips that can be used.
        rule: how windows are cut.
        cache: decoded clips in the rows' order, or None to read the files each time.
        bad_files: ``skip`` gives an item that only carries the reason, ``error`` raises.
    """

    def __init__(self, rows: Sequence[Row], rule: WindowRule, cache: ClipCache | None, bad_files: str):
        self.rows, self.rule, self.cache, self.bad_files = list(rows), rule, cache, bad_files

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        """``video`` uint8 ``[T, H, W, 3]``, ``audio`` float32 ``[S]``, ``offset`` (steps), ``index``."""
        index, seed = key
        try:
            video, audio, offset = self._window(index, seed)
        except AvlearnError as error:
            if self.bad_files == "error":
                raise
            return {"skipped": f"{self.rows[index].path}: {error}"}
        return {
            "video": torch.from_numpy(video),
            "audio": torch.from_numpy(audio),
            "offset": offset,
            "index": index,
        }

    def _window(self, index: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
        rule = self.rule
        duration = self.cache.seconds if self.cache else self.rows[index].duration
        picture, sound, offset = rule.draw(duration, seed)
        frames = round(rule.seconds * rule.fps)
        samples = round(rule.sound_seconds * rule.sample_rate)
        if self.cache:
            first = round(picture * rule.fps)
            start = round(sound * rule.sample_rate)
            video = self.cache.video[index, first : first + frames]
            audio = self.cache.audio[index, start : start + samples]
            return np.array(video), np.array(audio), offset
        path = self.rows[index].path
        shape = {"fps": rule.fps, "size": rule.size, "sample_rate": rule.sample_rate}
        video = read_clip(path, picture, rule.seconds, audio=False, crop="square", fps=rule.fps, size=rule.size).video
        audio = read_clip(
            path,
            sound,
            rule.sound_seconds,
            video=False,
            mono=True,
            sample_rate=shape["sample_rate"],
        ).audio[0]
        if len(video) != frames or len(audio) != samples:
            raise DataError(f"the window at {picture:.2f} s is cut short")
        return video, audio, offset


def collate(items: list[dict]) -> dict:
    """Stack what could be read; the reasons of what could not are in ``skipped``."""
    good = [item for item in items if "video" in item]
    batch: dict = {"skipped": [item["skipped"] for item in items if "skipped" in item]}
    if good:
        batch["video"] = torch.stack([item["video"] for item in good])
        batch["audio"] = torch.stack([item["audio"] for item in good])
        batch["offset"] = torch.tensor([item["offset"] for item in good])
        batch["index"] = torch.tensor([item["index"] for item in good])
    return batch
