"""Windows of clips for the synchronization objectives: video, and more audio than belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Manifest, Row, value_counts
from avlearn.data.sampling import Pick
from avlearn.errors import AvlearnError, DataError, MediaError
from avlearn.media import ClipReader, Slice, Window
from avlearn.media.source import Source


@dataclass(frozen=True)
class WindowRule:
    """Rule by which windows are cut.

    The audio is ``2 * context`` longer than the video, which starts at a random whole number of steps
    into it: the true offset says nothing about the clip's content, and the positions near the edges are
    as likely as the rest. The video starts at any frame, not only at every step's first.

    Attributes:
        fps, size, sample_rate: of the arrays; size is the side of the centre square, pixels.
        seconds: length of the video.
        context: further audio on each side, seconds (a whole number of steps).
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
        """How many offsets the audio allows."""
        return int(2 * self.context / self.step + 1e-6) + 1

    @property
    def frames(self) -> int:
        """Of the video."""
        return round(self.seconds * self.fps)

    @property
    def samples(self) -> int:
        """Of the audio."""
        return round(self.audio_seconds * self.sample_rate)

    @property
    def audio_seconds(self) -> float:
        """Length of the audio."""
        return self.seconds + 2 * self.context

    def draw(self, duration: float, seed: int) -> tuple[float, float, int]:
        """Start of the video, start of the audio (seconds), and the true offset (steps).

        Raises:
            DataError: the clip is shorter than the audio's window.
        """
        slack = duration - self.audio_seconds
        if slack < -1e-3:
            raise DataError(f"a clip of {duration:.2f} s is shorter than the window of {self.audio_seconds:.2f} s")
        rng = np.random.default_rng(seed)
        offset = int(rng.integers(self.offsets))
        audio = int(rng.integers(int(max(slack, 0) * self.fps + 1e-6) + 1)) / self.fps
        return audio + offset * self.step, audio, offset


class Clips(Protocol):
    """A data set to train on: items by `Pick`, as many as the length says."""

    def __len__(self) -> int: ...

    def __getitem__(self, pick: Pick, /) -> dict[str, Any]: ...


class ClipDataset(Dataset[dict[str, Any]]):
    """Windows over the rows of a manifest, in files of their own or in shards.

    An item is asked for by clip and seed of its window; seeds of windows that will be asked for later may follow, to
    be read in the same open (see `StepSampler`). What an item holds depends on clip and seed alone.

    Args:
        rows: clips that can be used.
        rule: how windows are cut.
        cache: decoded clips in the rows' order, or None to read the files each time.
        bad_files: ``skip`` gives an item that only carries the reason, ``error`` raises.
        keep: windows read along that are held at most.
        whole_shards: whether tar shards at addresses are fetched whole, as is worth it where clips are taken in their
            order (`avlearn.data.shards_ahead`).

    Attributes:
        classes: labels of the rows, sorted.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        rule: WindowRule,
        cache: ClipCache | None = None,
        bad_files: Literal["skip", "error"] = "error",
        keep: int = 1024,
        whole_shards: bool = False,
    ):
        self.rows = rows if isinstance(rows, Manifest) else list(rows)
        self.rule, self.cache, self.bad_files, self.keep = rule, cache, bad_files, keep
        self.whole_shards = whole_shards
        self.classes: tuple[str, ...] = tuple(
            sorted({label for labels in value_counts(rows, "labels") for label in labels})
        )
        self._places = {label: k for k, label in enumerate(self.classes)}
        self._kept: dict[tuple[int, int], _Arrays] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        """An item.

        Returns:
            ``video`` uint8 ``[T, H, W, 3]``, ``audio`` float32 ``[S]``, ``offset`` (steps), ``index`` (of the row),
            ``labels`` bool ``[classes]``; or ``skipped``, the reason.
        """
        index, seed, *further = pick
        try:
            video, audio, offset = self._arrays(index, seed, *further)
        except AvlearnError as error:
            if self.bad_files == "error":
                raise
            path = self.rows[index].path
            return {"skipped": f"{path}: {str(error).replace(str(path), '').strip(' :')}"}
        return {
            "video": torch.from_numpy(video),
            "audio": torch.from_numpy(audio),
            "offset": offset,
            "index": index,
            "labels": self.labels_of(index),
        }

    def labels_of(self, index: int) -> torch.Tensor:
        """Classes of a row: bool ``[classes]``."""
        labels = torch.zeros(len(self.classes), dtype=torch.bool)
        labels[[self._places[label] for label in self.rows[index].labels]] = True
        return labels

    def source_of(self, row: Row) -> Source:
        """What a reader opens of a row."""
        source = row.source
        return replace(source, whole=self.whole_shards) if isinstance(source, Slice) else source

    def _arrays(self, index: int, seed: int, further: Sequence[int] = ()) -> "_Arrays":
        if self.cache:
            return self._cut(self.cache, index, seed)
        if (index, seed) in self._kept:
            return self._kept.pop((index, seed))
        try:
            first, *rest = self._read(index, [seed, *further])
        except MediaError:  # perhaps only where a later window lies
            if not further:
                raise
            return self._read(index, [seed])[0]
        self._kept |= {(index, later): arrays for later, arrays in zip(further, rest, strict=True)}
        while len(self._kept) > self.keep:
            del self._kept[next(iter(self._kept))]
        return first

    def _cut(self, cache: ClipCache, index: int, seed: int) -> "_Arrays":
        rule = self.rule
        video_start, audio_start, offset = rule.draw(cache.seconds, seed)
        first, start = round(video_start * rule.fps), round(audio_start * rule.sample_rate)
        video = cache.video[index, first : first + rule.frames]
        audio = cache.audio[index, start : start + rule.samples]
        return np.array(video), np.array(audio), offset

    def _read(self, index: int, seeds: Sequence[int]) -> list["_Arrays"]:
        rule, row = self.rule, self.rows[index]
        row.require_unchanged()
        drawn = [rule.draw(row.duration, seed) for seed in seeds]
        windows = [
            Window(
                row.start + video_start,
                rule.seconds,
                before=video_start - audio_start,
                after=rule.audio_seconds - rule.seconds - (video_start - audio_start),
                crop="square",
            )
            for video_start, audio_start, _ in drawn
        ]
        reader = ClipReader(fps=rule.fps, size=rule.size, sample_rate=rule.sample_rate, mono=True)
        clips = reader.read(self.source_of(row), windows)
        for window, clip in zip(windows, clips, strict=True):
            if len(clip.video) != rule.frames:
                raise DataError(f"the window at {window.start:.2f} s is cut short")
        return [(clip.video, clip.audio[0], offset) for clip, (_, _, offset) in zip(clips, drawn, strict=True)]


_Arrays = tuple[np.ndarray, np.ndarray, int]  # video, audio, offset


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack what could be read; the reasons of what could not are in ``skipped``."""
    good = [item for item in items if "skipped" not in item]
    batch: dict[str, Any] = {"skipped": [item["skipped"] for item in items if "skipped" in item]}
    return batch | (default_collate(good) if good else {})
