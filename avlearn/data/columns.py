"""The columns of a manifest: what a cell may hold, and how it is kept."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import compute

from avlearn.data.cells import as_folds, as_list, as_number, as_path, as_split, as_text, as_whole, as_words, short
from avlearn.data.row import LATEST, LONGEST, Event
from avlearn.errors import DataError
from avlearn.remote.address import is_foreign


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        read: what a cell says that is not empty; ValueError where it cannot be.
        type: that cells are kept as.
        low, high: of numbers.
        longest: of texts, characters.
        listed: whether a cell is a list, kept as its text.
        words: whether few texts are meant: each is read.
    """

    read: Callable[[object], Any]
    type: pyarrow.DataType
    low: float = 0.0
    high: float = 0.0
    longest: int = 65536
    listed: bool = False
    words: bool = False


def _real(low: float, high: float) -> Column:
    return Column(partial(as_number, low=low, high=high), pyarrow.float64(), low, high)


def _whole(high: int) -> Column:
    return Column(partial(as_whole, high=high), pyarrow.int64(), 0, high)


def _events(value: object) -> tuple[Event, ...]:
    return tuple(map(_event, as_list(value)))


def _event(item: Any) -> Event:
    try:
        box = item.get("box")
        return Event(item["label"], item["start"], item["end"], tuple(box) if box else None)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"an event needs a label, a start and an end, not {short(item)}") from error


_TEXT, _PATH = Column(as_text, pyarrow.string()), Column(as_path, pyarrow.string(), longest=4096)
_WORDS, _FOLDS, _EVENTS = (Column(read, pyarrow.string(), listed=True) for read in (as_words, as_folds, _events))
_SPLIT = Column(as_split, pyarrow.string(), words=True)
_COUNT, _BYTES = _whole(2**31), _whole(2**53)
COLUMNS: dict[str, Column] = {
    "path": _PATH, "start": _real(-LATEST, LATEST), "duration": _real(0, LONGEST), "video_codec": _TEXT,
    "fps": _real(0, 1e6), "width": _COUNT, "height": _COUNT, "audio_codec": _TEXT, "sample_rate": _COUNT,
    "channels": _COUNT, "labels": _WORDS, "split": _SPLIT, "flags": _WORDS, "reason": _TEXT, "hash": _TEXT,
    "bytes": _BYTES, "offset": _BYTES, "events": _EVENTS, "truth": _PATH, "folds": _FOLDS,
}  # fmt: skip
TYPES = {name: column.type for name, column in COLUMNS.items()}


def checked(cells: Mapping[str, pyarrow.Array], path: Path, first: int) -> pyarrow.RecordBatch:
    """Columns of some rows, their cells known to be what they may be; empty ones are null or "".

    Args:
        cells: by column, as anyone wrote them.
        path: of the table.
        first: number of the first row.

    Raises:
        DataError: a cell cannot be, or a row lacks what it needs; with row and column.
    """
    kept = {name: _checked(name, values, path, first) for name, values in cells.items()}
    batch = pyarrow.RecordBatch.from_pydict(kept)
    for name in ("path", "duration"):
        _refuse(_empty(batch[name]), f"there is no {name}", path, first)
    idle = compute.and_(compute.equal(batch["duration"], 0), _empty(_or_null(batch, "reason")))
    _refuse(idle, "duration: a clip that can be used lasts longer than 0 s", path, first)
    if "offset" in kept:
        unsized = compute.equal(compute.coalesce(_or_null(batch, "bytes"), pyarrow.scalar(0, pyarrow.int64())), 0)
        within = compute.and_(compute.is_valid(batch["offset"]), unsized)
        _refuse(within, "bytes: a clip at an offset needs its length", path, first)
    return batch


def without_foreign(batch: pyarrow.RecordBatch, folder: str, path: Path, first: int) -> pyarrow.RecordBatch:
    """Rows of a manifest at an address, which must not name files of the machine that reads it.

    Of rows that cannot be used, which keep where their files were, the name alone stays. Such a truth is left out.

    Raises:
        DataError: a row that can be used names such a file.
    """
    names, reasons = batch["path"].to_pylist(), _or_null(batch, "reason").to_pylist()
    for place, (name, reason) in enumerate(zip(names, reasons, strict=True)):
        if not is_foreign(folder, name):
            continue
        if not reason:
            raise DataError(
                f"{path}, row {first + place}: {short(name)} lies neither below the manifest nor at an address like "
                "its own: what is remote names no files here"
            )
        last = re.split(r"[/\\]", name)[-1]
        names[place] = "-" if is_foreign(folder, last) else last
    batch = batch.set_column(batch.schema.get_field_index("path"), "path", pyarrow.array(names, pyarrow.string()))
    if "truth" not in batch.schema.names:
        return batch
    truths = [None if name and is_foreign(folder, name) else name for name in batch["truth"].to_pylist()]
    return batch.set_column(batch.schema.get_field_index("truth"), "truth", pyarrow.array(truths, pyarrow.string()))


def _checked(name: str, cells: pyarrow.Array, path: Path, first: int) -> pyarrow.Array:
    """A column; asked at once where its cells are as they are kept, else one after the other."""
    column = COLUMNS[name]
    if pyarrow.types.is_null(cells.type):
        return cells.cast(column.type)
    whole = _as_kept(column, cells)
    if whole is not None:
        return whole
    found: list[Any] = []
    for number, cell in enumerate(cells.to_pylist(), first):
        try:
            value = None if cell is None or cell == "" else column.read(cell)
        except ValueError as error:
            raise DataError(f"{path}, row {number}: {name}: {error}") from error
        found.append(cell if column.listed else value)
    return pyarrow.array(found, column.type)


def _as_kept(column: Column, cells: pyarrow.Array) -> pyarrow.Array | None:
    """The cells, where all are seen to be what they may be."""
    if column.listed or column.words:
        try:
            for cell in cells.unique().to_pylist():
                if cell:
                    column.read(cell)
        except ValueError:
            return None
        return cells
    if column.type == pyarrow.string():
        longest = compute.max(compute.utf8_length(cells)).as_py() or 0
        zero = compute.any(compute.match_substring(cells, "\0")).as_py()
        return None if longest > column.longest or zero else cells
    if pyarrow.types.is_string(cells.type):
        return None
    numbers = cells.cast(pyarrow.float64(), safe=False)  # what a float cannot hold is rounded, and far out of bounds
    inside = compute.and_(compute.greater_equal(numbers, column.low), compute.less_equal(numbers, column.high))
    if column.type == pyarrow.int64():
        inside = compute.and_(inside, compute.equal(numbers, compute.floor(numbers)))
    if compute.all(inside).as_py() is False:  # None where all are empty
        return None
    return numbers.cast(column.type)


def _refuse(bad: pyarrow.Array, why: str, path: Path, first: int) -> None:
    """Raise DataError where a row is bad."""
    place = compute.index(bad, True).as_py()
    if place >= 0:
        raise DataError(f"{path}, row {first + place}: {why}")


def _empty(cells: pyarrow.Array) -> pyarrow.Array:
    if pyarrow.types.is_string(cells.type):
        return compute.coalesce(compute.equal(cells, ""), True)
    return compute.is_null(cells)


def _or_null(batch: pyarrow.RecordBatch, name: str) -> pyarrow.Array:
    there = name in batch.schema.names
    return batch[name] if there else pyarrow.nulls(len(batch), COLUMNS[name].type)
