"""A data set as a table: one row a clip."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from avlearn.errors import DataError, OutputError
from avlearn.files import replacing
from avlearn.media.source import Slice, Source


@dataclass(frozen=True)
class Event:
    """Something that the annotations place within a clip.

    Attributes:
        label: its class, or the word that is said.
        start, end: seconds on the file's own clock; equal for an instant.
        box: left, top, right, bottom as shares of the picture's width and height; None for the whole picture.
    """

    label: str
    start: float
    end: float
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Entry:
    """What a corpus says of a file before anyone has looked into it.

    Attributes:
        path: where the file is, or would be.
        labels: classes of the whole clip.
        split: ``train``, ``val``, ``test`` or "".
        events: what the annotations place within it.
    """

    path: Path
    labels: tuple[str, ...] = ()
    split: str = ""
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Row:
    """A clip.

    Attributes:
        path: of the file, or of the tar that holds it.
        start: instant of the first frame on the file's own clock, seconds.
        duration: seconds from there for which there is picture and sound.
        video_codec, fps, width, height: of the picture as displayed ("" and 0 without).
        audio_codec, sample_rate, channels: of the sound ("" and 0 without).
        labels: classes.
        split: ``train``, ``val``, ``test`` or "".
        flags: facts about the clip, like ``silent`` or ``variable-fps``.
        reason: why the clip cannot be used; "" for one that can.
        hash: of the content.
        bytes: length of the content.
        offset: first byte of the content within a tar; None for a file of its own.
        events: what the annotations place within the clip.
        truth: file with exact ground truth, or None.
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

    @property
    def source(self) -> Source:
        """What a reader opens."""
        return self.path if self.offset is None else Slice(self.path, self.offset, self.bytes)


_TEXT, _WHOLE, _REAL = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
_TYPES = {
    "path": _TEXT, "start": _REAL, "duration": _REAL, "video_codec": _TEXT, "fps": _REAL, "width": _WHOLE,
    "height": _WHOLE, "audio_codec": _TEXT, "sample_rate": _WHOLE, "channels": _WHOLE, "labels": _TEXT,
    "split": _TEXT, "flags": _TEXT, "reason": _TEXT, "hash": _TEXT, "bytes": _WHOLE, "offset": _WHOLE,
    "events": _TEXT, "truth": _TEXT,
}  # fmt: skip
_PATHS, _LISTS = {"path", "truth"}, {"labels", "flags", "events"}


def write_manifest(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows as Parquet or CSV, by the suffix; paths relative to the manifest's folder.

    Raises:
        OutputError: the suffix is neither, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise OutputError(f"{path}: a manifest is a .parquet or a .csv")
    columns: dict[str, list] = {name: [] for name in _TYPES}
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
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, part)
        else:
            pyarrow.parquet.write_table(table, part)


def _plain(item: str | Event) -> str | dict:
    if isinstance(item, str):
        return item
    return {key: value for key, value in asdict(item).items() if value is not None}


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def read_manifest(path: str | Path) -> list[Row]:
    """Read a manifest, or the ``manifest.parquet`` of a folder; paths come out absolute or as given.

    A table made by hand needs the columns ``path`` and ``duration``; the others have defaults.

    Raises:
        DataError: there is no such file, or it lacks a column or a value.
    """
    path = Path(path)
    path = path / "manifest.parquet" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"there is no manifest {path}")
    try:
        table = _read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a manifest: {reason}") from error
    for name in ("path", "duration"):
        if name not in table.column_names:
            raise DataError(f"{path} lacks the column '{name}'")
    return [_row(values, path, number) for number, values in enumerate(table.to_pylist(), 1)]


def _read_csv(path: Path) -> pyarrow.Table:
    # Types are said, not guessed: a hash of digits only is no number.
    return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=_TYPES))


def _row(values: dict, path: Path, number: int) -> Row:
    values = {name: values[name] for name in _TYPES if values.get(name) not in (None, "")}
    for name in ("path", "duration"):
        if name not in values:
            raise DataError(f"{path}, row {number}: there is no {name}")
    for name in _PATHS & set(values):
        values[name] = path.parent / values[name]
    for name in _LISTS & set(values):
        where = f"{path}, row {number}: {name}"
        values[name] = tuple(_item(item, name, where) for item in _list(values[name], where))
    return Row(**values)


def _list(text: str, where: str) -> list:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, list):
        raise DataError(f'{where} is {text!r}: write a list, like ["dog"]')
    return found


def _item(item: object, column: str, where: str) -> object:
    if column != "events":
        return str(item)
    try:
        box = item.get("box")
        return Event(item["label"], item["start"], item["end"], tuple(box) if box else None)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{where}: an event needs a label, a start and an end, not {item!r}") from error
