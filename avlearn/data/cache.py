"""Clips decoded once into memory-mapped arrays, for data sets that fit on the disk as raw frames."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from avlearn.data.manifest import Row
from avlearn.errors import DataError, OutputError
from avlearn.media import read_clip


@dataclass(frozen=True)
class ClipCache:
    """Decoded clips in the order of the rows.

    Attributes:
        video: uint8 ``[N, T, size, size, 3]``.
        audio: float32 ``[N, S]``.
        fps, sample_rate: of the arrays.
    """

    video: np.ndarray
    audio: np.ndarray
    fps: float
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length of every clip."""
        return self.video.shape[1] / self.fps


def _decode(item: tuple[int, Row], folder: str, fps: float, size: int, rate: int, seconds: float):
    index, row = item
    clip = read_clip(row.source, row.start, seconds, fps=fps, size=size, sample_rate=rate, mono=True, crop="square")
    video = np.load(f"{folder}/video.npy", mmap_mode="r+")
    audio = np.load(f"{folder}/audio.npy", mmap_mode="r+")
    if clip.video.shape != video.shape[1:] or clip.audio.shape[1] != audio.shape[1]:
        raise DataError(f"{row.path} has another length or shape than the first clip: use data.cache=false")
    video[index], audio[index] = clip.video, clip.audio[0]


def decode_once(
    rows: Sequence[Row],
    folder: Path,
    fps: float,
    size: int,
    sample_rate: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> ClipCache:
    """Decode the rows' clips, all of one length, into ``folder``; what is there already is opened.

    Raises:
        DataError: clips differ in length.
        OutputError: the disk is full.
    """
    seconds = min(row.duration for row in rows)
    seconds = int(seconds * fps + 1e-3) / fps
    key = hashlib.sha256()
    key.update(json.dumps([fps, size, sample_rate, seconds]).encode())
    for row in rows:
        key.update(f"{row.path.name} {row.hash}\n".encode())
    folder = folder / key.hexdigest()[:16]
    done = folder / "complete"
    if not done.exists():
        shape = (len(rows), round(seconds * fps), size, size, 3)
        samples = (len(rows), round(seconds * sample_rate))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            needed = int(np.prod(shape)) + 4 * int(np.prod(samples))
            stat = os.statvfs(folder)
            if needed > stat.f_bavail * stat.f_frsize:
                raise OutputError(
                    f"{folder} needs {needed / 1e9:.1f} GB for decoded clips and the disk has less: "
                    "use data.cache=false or another data.root"
                )
            np.lib.format.open_memmap(folder / "video.npy", "w+", np.uint8, shape)
            np.lib.format.open_memmap(folder / "audio.npy", "w+", np.float32, samples)
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error.strerror}") from error
        work = partial(_decode, folder=str(folder), fps=fps, size=size, rate=sample_rate, seconds=seconds)
        items = list(enumerate(rows))
        with ProcessPoolExecutor(max(workers, 1), mp_context=get_context("forkserver")) as pool:
            for count, _ in enumerate(pool.map(work, items, chunksize=8), 1):
                if progress:
                    progress(count, len(items))
        done.touch()
    video = np.load(folder / "video.npy", mmap_mode="r")
    audio = np.load(folder / "audio.npy", mmap_mode="r")
    return ClipCache(video, audio, fps, sample_rate)
