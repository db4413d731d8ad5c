"""Clips decoded once into memory-mapped arrays, for data sets that fit on the disk as raw frames."""

import hashlib
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from avlearn.data.manifest import Row
from avlearn.data.pool import Died
from avlearn.data.processes import in_processes
from avlearn.errors import AvlearnError, DataError, OutputError
from avlearn.files import in_bytes, unfinished
from avlearn.lock import locked
from avlearn.media import ClipReader, Window

_VIDEO, _AUDIO, _NOTE = "video.raw", "audio.raw", "clips.json"


@dataclass(frozen=True)
class ClipCache:
    """Decoded clips in the order of the rows.

    Attributes:
        video: uint8 ``[N, T, size, size, 3]``.
        audio: float32 ``[N, S]``.
        fps, sample_rate: of the arrays.
        bad: rows that could not be decoded, by number, with the reason: the arrays are without them.
    """

    video: np.ndarray
    audio: np.ndarray
    fps: float
    sample_rate: int
    bad: Mapping[int, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length of every clip."""
        frames: int = self.video.shape[1]
        return frames / self.fps


@dataclass(frozen=True)
class _Format:
    """What every clip is decoded to."""

    fps: float
    size: int
    rate: int
    frames: int
    audible: bool = True

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    @property
    def video(self) -> tuple[int, int, int, int]:
        return self.frames, self.size, self.size, 3

    @property
    def samples(self) -> int:
        return round(self.seconds * self.rate) if self.audible else 0

    @property
    def bytes(self) -> tuple[int, int]:
        """Of a clip's frames and of its audio."""
        return int(np.prod(self.video)), 4 * self.samples


def decode_once(
    rows: Sequence[Row],
    folder: Path,
    fps: float,
    size: int,
    sample_rate: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
    bad_files: Literal["skip", "error"] = "error",
    video: bool = True,
    audio: bool = True,
) -> ClipCache:
    """Decode the rows' clips, all of one length, into ``folder``; what is there already is checked and opened.

    An entry appears whole: it is written aside and renamed, and each clip's checksum is compared when it is opened.
    Another process that wants the same clips waits, and finds them.

    Args:
        rows: of clips; all are cut to the length of the shortest.
        folder: of the cache.
        fps, size, sample_rate: of the arrays; ``size`` is the side of the centre square, pixels.
        workers: processes.
        progress: called with how many clips are done, and of how many.
        bad_files: ``skip`` leaves out clips that cannot be decoded, see `ClipCache.bad`; ``error`` raises.
        video, audio: which of the two is kept; the arrays of the other hold nothing.

    Raises:
        DataError, MediaError: clips differ in length, or cannot be decoded.
        OutputError: the disk is full.
    """
    shortest = min(row.duration for row in rows)
    form = _Format(fps, size if video else 0, sample_rate, int(shortest * fps + 1e-3), audio)
    key = _key(rows, form)
    entry, part = folder / key, unfinished(folder / key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    with locked(folder / f".{key}.lock", wait=True):
        cache = _opened(entry, form)
        if cache is None or (cache.bad and bad_files == "error"):
            try:
                shutil.rmtree(part, ignore_errors=True)
                _decode_all(rows, part, form, workers, progress, bad_files)
                shutil.rmtree(entry, ignore_errors=True)
                part.replace(entry)
            except OSError as error:
                raise OutputError(f"cannot write {folder}: {error.strerror}") from error
            finally:
                shutil.rmtree(part, ignore_errors=True)
            cache = _opened(entry, form)
            if cache is None:
                raise OutputError(f"what was written to {entry} is not what is read there: is the disk damaged?")
    return cache


def require_room(folder: Path, clips: int, seconds: float, fps: float, size: int, sample_rate: int) -> None:
    """Raise OutputError where the disk cannot hold so many decoded clips."""
    needed = clips * sum(_Format(fps, size, sample_rate, int(seconds * fps + 1e-3)).bytes)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder} needs {in_bytes(needed)} for decoded clips and the disk has {in_bytes(free)}: "
            "use data.cache=false or another data.root"
        )


def _key(rows: Sequence[Row], form: _Format) -> str:
    audible = [] if form.audible else [False]
    key = hashlib.sha256(json.dumps([form.fps, form.size, form.rate, form.seconds, *audible]).encode())
    for row in rows:
        place = str(row.offset) if row.offset is not None else row.name
        key.update(f"{place} {row.fingerprint} {row.start}\n".encode())
    return key.hexdigest()[:16]


def _opened(entry: Path, form: _Format) -> ClipCache | None:
    """An entry whose clips are what they were when they were written; None if there is none."""
    if not entry.exists():
        return None
    try:
        note = json.loads((entry / _NOTE).read_text())
        sums = note["checksums"]
        video = _mapped(entry / _VIDEO, np.uint8, (len(sums), *form.video))
        audio = _mapped(entry / _AUDIO, np.float32, (len(sums), form.samples))
        whole = all(_checksum(video[k], audio[k]) == expected for k, expected in enumerate(sums))
        bad = {int(k): reason for k, reason in note["bad"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        print(f"{entry} is damaged: its clips are decoded again", file=sys.stderr)
        return None
    return ClipCache(video, audio, form.fps, form.rate, bad)


def _mapped(path: Path, kind: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """A file's array, which may hold nothing, and such a file cannot be mapped."""
    return np.memmap(path, kind, "r", shape=shape).view(np.ndarray) if 0 not in shape else np.zeros(shape, kind)


def _checksum(video: np.ndarray, audio: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(audio).data, zlib.crc32(np.ascontiguousarray(video).data))


def _decode_all(
    rows: Sequence[Row], folder: Path, form: _Format, workers: int, progress: Callable[[int, int], None] | None,
    bad_files: str,
) -> None:  # fmt: skip
    """Write an entry to ``folder``."""
    require_room(folder, len(rows), form.seconds, form.fps, form.size, form.rate)
    folder.mkdir()
    for name, length in zip((_VIDEO, _AUDIO), form.bytes, strict=True):
        with (folder / name).open("wb") as file:
            if length:
                os.posix_fallocate(file.fileno(), 0, length * len(rows))  # a disk that fills up is told now
    sums: dict[int, int] = {}
    bad: dict[int, str] = {}
    with closing(in_processes(partial(_decode, folder, form, bad_files), list(enumerate(rows)), workers)) as results:
        for done, (number, found) in enumerate(results, 1):
            if isinstance(found, Died):
                found = found.reason
                if bad_files == "error":
                    raise DataError(f"{rows[number].path}: {found}")
            if isinstance(found, str):
                bad[number] = found
            else:
                sums[number] = found
            if progress:
                progress(done, len(rows))
    if not sums:
        raise DataError(f"no clip can be decoded; {rows[0].path}: {bad[0]}")
    good = sorted(sums)
    for name, length in zip((_VIDEO, _AUDIO), form.bytes, strict=True):
        _keep(folder / name, good, length)
    note = {"checksums": [sums[k] for k in good], "bad": {k: bad[k] for k in sorted(bad)}}
    (folder / _NOTE).write_text(json.dumps(note))


def _keep(path: Path, places: Sequence[int], length: int) -> None:
    """Move the records at ``places``, in rising order, to the file's begin; cut the rest off, and reach the disk."""
    with path.open("r+b") as file:
        for new, old in enumerate(places):
            if new != old:
                file.seek(old * length)
                record = file.read(length)
                file.seek(new * length)
                file.write(record)
        file.flush()
        file.truncate(len(places) * length)
        os.fsync(file.fileno())


def _decode(folder: Path, form: _Format, bad_files: str, item: tuple[int, Row]) -> int | str:
    """Write a clip to its place; its checksum, or why it cannot be decoded."""
    number, row = item
    try:
        row.require_unchanged()
        reader = ClipReader(
            fps=form.fps, size=form.size or None, sample_rate=form.rate, mono=True, video=form.size > 0,
            audio=form.audible,
        )  # fmt: skip
        (clip,) = reader.read(row.source, [Window(row.start, form.seconds, crop="square")])
        video = np.ascontiguousarray(clip.video) if form.size else np.zeros(form.video, np.uint8)
        audio = np.ascontiguousarray(clip.audio[0] if form.audible else [], np.float32)
        if video.shape != form.video or len(audio) != form.samples:
            raise DataError(f"{row.path} has another length or shape than the others: use data.cache=false")
    except AvlearnError as error:
        if bad_files == "error":
            raise
        return str(error).replace(str(row.path), "").strip(" :")
    for name, values, length in zip((_VIDEO, _AUDIO), (video, audio), form.bytes, strict=True):
        with (folder / name).open("r+b") as file:
            file.seek(number * length)
            file.write(values.data)
    return _checksum(video, audio)
