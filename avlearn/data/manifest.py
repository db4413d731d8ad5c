"""A data set as a table: one row a clip."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from avlearn.data.tables import read_table
from avlearn.errors import DataError
from avlearn.files import check_output, printable, replacing
from avlearn.media import Slice
from avlearn.media.source import Source


@dataclass(frozen=True)
class Event:
    """Something that the annotations place within a clip.

    Attributes:
        label: its class, or the word that is said.
        start, end: seconds on the file's own clock; equal for an instant.
        box: left, top, right, bottom as shares of the frame's width and height; None for the whole frame.

    Raises:
        ValueError: a value is of another kind, or cannot be true.
    """

    label: str
    start: float
    end: float
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Hold annotations to what they mean, wherever they come from."""
        _text(self.label)
        if _number(self.end, -LATEST, LATEST) < _number(self.start, -LATEST, LATEST):
            raise ValueError(f"the event ends at {self.end:g} s, before it begins")
        if self.box is not None:
            if not isinstance(self.box, tuple) or len(self.box) != 4:
                raise ValueError("a box is left, top, right and bottom")
            for side in self.box:
                _number(side, -1, 2)  # annotators draw over the edge


@dataclass(frozen=True)
class Entry:
    """A file as a corpus lists it, before anyone has looked into it.

    Attributes:
        path: where the file is, or would be.
        labels: classes of the whole clip.
        split: ``train``, ``val``, ``test`` or "".
        events: what the annotations place within it.
        folds: the split in each fold of a corpus that has several; those of `Row`.
    """

    path: Path
    labels: tuple[str, ...] = ()
    split: str = ""
    events: tuple[Event, ...] = ()
    folds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A clip.

    Attributes:
        path: of the file, or of the tar that holds it.
        start: instant of the first frame on the file's own clock, seconds.
        duration: seconds from there for which there is video and audio.
        video_codec, fps, width, height: of the video as displayed ("" and 0 without).
        audio_codec, sample_rate, channels: of the audio ("" and 0 without).
        labels: classes.
        split: ``train``, ``val``, ``test`` or "".
        flags: facts about the clip, like ``silent`` or ``variable-fps``.
        reason: why the clip cannot be used; "" for one that can.
        hash: of the content.
        bytes: length of the content.
        offset: first byte of the content within a tar; None for a file of its own.
        events: what the annotations place within the clip.
        truth: file with exact ground truth, or None.
        folds: the split in each fold, of a corpus that is published with several: ``("test", "train", "train")`` of a
            clip that the first of three tests; "" for one that a fold leaves out.
        number: of the row in the manifest that it was read from, from 1; 0 of others. It is not written.
    """

    path: Path
    start: float = 0.0
    duration: float = 0.0
    video_codec: str = ""
    fps: float = 0.0
    width: int = 0
    height: int = 0
    audio_codec: str = ""
    sample_rate: int = 0
    channels: int = 0
    labels: tuple[str, ...] = ()
    split: str = ""
    flags: tuple[str, ...] = ()
    reason: str = ""
    hash: str = ""
    bytes: int = 0
    offset: int | None = None
    events: tuple[Event, ...] = ()
    truth: Path | None = None
    folds: tuple[str, ...] = ()
    number: int = field(default=0, compare=False)

    def reason_for(self, *, video: bool, audio: bool) -> str:
        """Why the clip cannot be used by what takes its video, its audio, or either; "" where it can.

        A clip that lacks what is not taken can: no audio is no fault for who does not listen.
        """
        lacks = {NO_VIDEO: video, NO_AUDIO: audio}
        return self.reason if lacks.get(self.reason, True) else ""

    @property
    def source(self) -> Source:
        """What a reader opens."""
        return self.path if self.offset is None else Slice(self.path, self.offset, self.bytes)

    @property
    def fingerprint(self) -> str:
        """What changes when the content does: the hash, or the file's length and date where there is none."""
        status = None if self.hash else self._status()
        return self.hash if status is None else f"{status.st_size}-{status.st_mtime_ns}"

    def require_unchanged(self) -> None:
        """Raise DataError where the file is gone, or has another length than when it was scanned."""
        if self.bytes and self.offset is None:
            status = self._status()
            if status is None or status.st_size != self.bytes:
                raise DataError(f"{self.path}: it is gone, or has changed since the scan")

    def _status(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except OSError:
            return None


NO_VIDEO, NO_AUDIO = "there is no video", "there is no audio track"  # reasons of clips that can be used for the other
LATEST = 1e10  # seconds: clocks that count from 1970 are at 1.8e9
LONGEST = 1e8  # seconds of a clip: three years
_MOST_BYTES = 2**53


def _text(value: object, longest: int = 65536) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is no text")
    if len(value) > longest:
        raise ValueError(f"the text has {len(value)} characters: {longest} at most")
    if "\0" in value:
        raise ValueError(f"{_short(value)} holds a zero character")
    return value


def _path(value: object) -> str:
    return _text(value, 4096)


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, str) and "_" not in value:
        text = value
        try:
            value = float(text)
        except ValueError:
            comma = "; write a decimal point" if "," in text else ""
            raise ValueError(f"{_short(text)} is no number{comma}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_short(value)} is no number")
    if not low <= value <= high:  # not of NaN
        raise ValueError(f"{_short(value)} is not from {low:g} to {high:g}")
    return float(value)


def _whole(value: object, high: int) -> int:
    number = _number(value, 0, high)
    if not number.is_integer():
        raise ValueError(f"{_short(value)} is no whole number")
    return int(number)


def _real(low: float, high: float) -> Callable[[object], float]:
    return lambda value: _number(value, low, high)


def _count(high: int) -> Callable[[object], int]:
    return lambda value: _whole(value, high)


def _list(value: object) -> list[Any]:
    try:
        found = json.loads(_text(value, 2**24))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise ValueError(f'{_short(value)} is no list: write one, like ["dog"]')
    return found


def _words(value: object) -> tuple[str, ...]:
    found = _list(value)
    if not all(isinstance(word, str | int) and not isinstance(word, bool) for word in found):
        raise ValueError(f"{_short(value)} is no list of words")
    return tuple(_text(str(word)) for word in found)


def _events(value: object) -> tuple[Event, ...]:
    return tuple(map(_event, _list(value)))


def _event(item: Any) -> Event:
    try:
        box = item.get("box")
        return Event(item["label"], item["start"], item["end"], tuple(box) if box else None)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"an event needs a label, a start and an end, not {_short(item)}") from error


def _short(value: object) -> str:
    """A value as it is written in a message."""
    text = value.hex() if isinstance(value, bytes) else repr(value) if isinstance(value, str) else str(value)
    return printable(text if len(text) <= 80 else f"{text[:80]}...")


# What a cell may hold, and the type that it is written as.
_READ: dict[str, Callable[[object], object]] = {
    "path": _path, "start": _real(-LATEST, LATEST), "duration": _real(0, LONGEST), "video_codec": _text,
    "fps": _real(0, 1e6), "width": _count(2**31), "height": _count(2**31), "audio_codec": _text,
    "sample_rate": _count(2**31), "channels": _count(2**31), "labels": _words, "split": _text, "flags": _words,
    "reason": _text, "hash": _text, "bytes": _count(_MOST_BYTES), "offset": _count(_MOST_BYTES), "events": _events,
    "truth": _path, "folds": _words,
}  # fmt: skip
_TEXT, _WHOLE, _REAL = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
_TYPES = dict.fromkeys(_READ, _TEXT)
_TYPES |= dict.fromkeys(("width", "height", "sample_rate", "channels", "bytes", "offset"), _WHOLE)
_TYPES |= dict.fromkeys(("start", "duration", "fps"), _REAL)
_PATHS, _LISTS = {"path", "truth"}, {"labels", "flags", "events", "folds"}
SUFFIXES = (".parquet", ".csv")


def write_manifest(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows as Parquet or CSV, by the suffix; paths relative to the manifest's folder.

    Raises:
        OutputError: the suffix is neither, or the file cannot be written.
    """
    path = check_output(path, SUFFIXES, overwrite=True)
    columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
    for row in rows:
        for name, values in columns.items():
            value = getattr(row, name)
            if name in _PATHS and value is not None:
                value = _relative(value, path.parent)
            elif name in _LISTS:
                value = json.dumps([_plain(item) for item in value])
            values.append(value)
    table = pyarrow.table(columns, pyarrow.schema(list(_TYPES.items())))
    with replacing(path) as part:
        if path.suffix.lower() == ".csv":
            pyarrow.csv.write_csv(table, part)
        else:
            pyarrow.parquet.write_table(table, part)


def _plain(item: str | Event) -> str | dict[str, Any]:
    if isinstance(item, str):
        return item
    return {key: value for key, value in asdict(item).items() if value is not None}


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def read_manifest(path: str | Path) -> list[Row]:
    """Read a manifest, or the ``manifest.parquet`` of a folder; paths come out absolute or as given.

    A table made by hand (Parquet; CSV in UTF-8, its cells parted by commas or semicolons; TSV) needs the columns
    ``path`` and ``duration``; the others have defaults, and what it holds beside them is passed over.

    Raises:
        DataError: there is no such file, it is of another kind, or a cell holds what it cannot; with row and column.
    """
    path = Path(path)
    path = path / "manifest.parquet" if path.is_dir() else path
    table = read_table(path, _TYPES)
    for name in ("path", "duration"):
        if name not in table:
            raise DataError(f"{path} lacks the column '{name}'")
    columns = {name: _column(name, table[name], path) for name in _TYPES if name in table}
    names, cells = list(columns), zip(*columns.values(), strict=True)
    return [_row(dict(zip(names, values, strict=True)), path, number) for number, values in enumerate(cells, 1)]


def _column(name: str, cells: list[Any], path: Path) -> list[Any]:
    """What the cells hold; None where they are empty."""
    read = _READ[name]
    found: list[Any] = []
    for number, cell in enumerate(cells, 1):
        try:
            found.append(None if cell is None or cell == "" else read(cell))
        except ValueError as error:
            raise DataError(f"{path}, row {number}: {name}: {error}") from error
    return found


def _row(cells: dict[str, Any], path: Path, number: int) -> Row:
    values = {name: value for name, value in cells.items() if value is not None}
    for name in ("path", "duration"):
        if name not in values:
            raise DataError(f"{path}, row {number}: there is no {name}")
    if not values["duration"] and not values.get("reason"):
        raise DataError(f"{path}, row {number}: duration: a clip that can be used lasts longer than 0 s")
    if "offset" in values and not values.get("bytes"):
        raise DataError(f"{path}, row {number}: bytes: a clip at an offset needs its length")
    for name in _PATHS & set(values):
        values[name] = path.parent / values[name]
    return Row(**values, number=number)
