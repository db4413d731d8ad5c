"""A data set as a table: one row a clip."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, overload

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from avlearn.data.columns import COLUMNS, TYPES, checked, without_foreign
from avlearn.data.row import LATEST, LONGEST, NO_AUDIO, NO_VIDEO, Entry, Event, Row
from avlearn.data.tables import TABLES, table_batches
from avlearn.errors import DataError, MediaError, OutputError
from avlearn.files import check_output, replacing
from avlearn.remote.address import folder_of, is_address, located, suffix
from avlearn.remote.cache import local_copy
from avlearn.remote.file import AbsentError

__all__ = [
    "LATEST", "LONGEST", "NO_AUDIO", "NO_VIDEO", "SUFFIXES", "Entry", "Event", "Manifest", "Row", "in_fold",
    "manifest_address", "read_manifest", "select", "take", "value_counts", "write_manifest",
]  # fmt: skip
SUFFIXES = (".parquet", ".csv")
_PATHS = ("path", "truth")
_LARGE = 2**22  # bytes of a file whose rows are laid out for all processes to share
_GROUP = 100_000  # rows of a Parquet file that are read at once
_LAYOUT = 1  # changes when such a file is laid out otherwise


class Manifest(Sequence[Row]):
    """The clips of a data set: an Arrow table, of which a row is made when it is asked for.

    A large table lies in a file that is mapped into memory, so that all processes share it.

    Args:
        table: of the columns of `avlearn.data.columns.COLUMNS`, or some of them.
        folder: that paths are relative to, or what stands before them in an address.
        mapped: the file that the table is mapped from; None where it is in memory.
        places: ``[N]``, of the rows in the table; by default all.
        fold: whose splits the rows have, from 1; 0: those of the column ``split``.
    """

    def __init__(
        self,
        table: pyarrow.Table,
        folder: Path | str,
        mapped: Path | None = None,
        places: np.ndarray | None = None,
        fold: int = 0,
    ):
        self._table, self._folder, self._mapped, self._places, self._fold = table, folder, mapped, places, fold
        self._batches: list[pyarrow.RecordBatch] = table.to_batches()
        self._ends = np.cumsum([len(batch) for batch in self._batches])
        self._length = len(table) if places is None else len(places)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int, /) -> Row: ...
    @overload
    def __getitem__(self, index: slice, /) -> "Manifest": ...
    def __getitem__(self, index: int | slice, /) -> "Row | Manifest":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        place = place if self._places is None else int(self._places[place])
        number = int(np.searchsorted(self._ends, place, "right"))
        at = place - (int(self._ends[number]) - len(self._batches[number]))
        return next(self._rows(self._batches[number].slice(at, 1), [place]))

    def __iter__(self) -> Iterator[Row]:
        for batch, places in self._parts():
            yield from self._rows(batch, places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(own == one for own, one in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Callable[..., "Manifest"], tuple[Any, ...]]:
        """Another process maps the file, or gets the rows: also where the file went, as when the manifest changed."""
        if self._mapped is not None and self._mapped.exists():
            return _open_mapped, (self._mapped, self._folder, self._places, self._fold)
        return Manifest, (self._table, self._folder, None, self._places, self._fold)

    def take(self, places: np.ndarray) -> "Manifest":
        """The rows at ``places [M]``, in their order."""
        own = places if self._places is None else self._places[places]
        return Manifest(self._table, self._folder, self._mapped, own.astype(np.uint32), self._fold)

    def of_fold(self, fold: int) -> "Manifest":
        """The rows, with their splits in a fold."""
        return Manifest(self._table, self._folder, self._mapped, self._places, fold)

    def distinct(self, column: str) -> tuple[list[Any], np.ndarray]:
        """Different values of a column of `Row`, and the number of each row's: int64 ``[N]``."""
        if column == "split" and self._fold:
            folds, which = self.distinct("folds")
            return [value[self._fold - 1] for value in folds], which
        known: dict[Any, int] = {}
        found = []
        for batch in self._batches:
            if column not in batch.schema.names:
                found.append(np.full(len(batch), known.setdefault(None, len(known))))
                continue
            packed = batch[column].dictionary_encode(null_encoding="encode")
            numbers = [known.setdefault(value, len(known)) for value in packed.dictionary.to_pylist()]
            found.append(np.array(numbers, np.int64)[packed.indices.to_numpy(zero_copy_only=False)])
        which = np.concatenate(found) if found else np.zeros(0, np.int64)
        values = [self._value(column, cell) for cell in known]
        return values, which if self._places is None else which[self._places]

    def _parts(self) -> Iterator[tuple[pyarrow.RecordBatch, Sequence[int]]]:
        """The rows in their order, some at a time, and the place of each in the table."""
        firsts = self._ends - [len(batch) for batch in self._batches]
        if self._places is None:
            for batch, first in zip(self._batches, firsts.tolist(), strict=True):
                yield batch, range(first, first + len(batch))
            return
        numbers = np.searchsorted(self._ends, self._places, "right")
        for run in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1):
            if len(run):
                number, places = int(numbers[run[0]]), self._places[run].astype(np.int64)
                yield self._batches[number].take(pyarrow.array(places - firsts[number])), places.tolist()

    def _rows(self, batch: pyarrow.RecordBatch, places: Sequence[int]) -> Iterator[Row]:
        there = [name for name in COLUMNS if name in batch.schema.names]
        columns = [[self._value(name, cell) for cell in batch[name].to_pylist()] for name in there]
        for place, *values in zip(places, *columns, strict=True):
            row = dict(zip(there, values, strict=True))
            if self._fold:
                row["split"] = row["folds"][self._fold - 1]
            yield Row(**row, number=place + 1)

    def _value(self, column: str, cell: Any) -> Any:
        """What a cell says."""
        if cell is None or cell == "":
            return _DEFAULTS[column]
        if COLUMNS[column].listed:
            return _listed(column, cell)
        return located(self._folder, cell) if column in _PATHS else cell


_DEFAULTS = {name: Row.__dataclass_fields__[name].default for name in COLUMNS}


@lru_cache(maxsize=4096)
def _listed(column: str, cell: str) -> Any:
    return COLUMNS[column].read(cell)


def take(rows: Sequence[Row], places: np.ndarray) -> Sequence[Row]:
    """Rows at ``places [M]``, in their order."""
    return rows.take(places) if isinstance(rows, Manifest) else [rows[place] for place in places.tolist()]


def select(rows: Sequence[Row], column: str, holds: Callable[[Any], bool]) -> Sequence[Row]:
    """Rows of which the value of a column holds; each different value is asked about once."""
    if not isinstance(rows, Manifest):
        return [row for row in rows if holds(getattr(row, column))]
    values, which = rows.distinct(column)
    return rows.take(np.flatnonzero(np.array([holds(value) for value in values], bool)[which]))


def in_fold(rows: Sequence[Row], fold: int) -> Sequence[Row]:
    """Rows of a fold, from 1, with their splits in it; what it leaves out is left out."""
    kept = select(rows, "folds", lambda folds: bool(folds[fold - 1]))
    if isinstance(kept, Manifest):
        return kept.of_fold(fold)
    return [replace(row, split=row.folds[fold - 1]) for row in kept]


def value_counts(rows: Sequence[Row], column: str) -> Counter[Any]:
    """How many rows have each value of a column."""
    if not isinstance(rows, Manifest):
        return Counter(getattr(row, column) for row in rows)
    values, which = rows.distinct(column)
    found: Counter[Any] = Counter()
    for value, count in zip(values, np.bincount(which, minlength=len(values)).tolist(), strict=True):
        found[value] += count
    return +found


def write_manifest(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows as Parquet or CSV, by the suffix; paths relative to the manifest's folder.

    Raises:
        OutputError: the suffix is neither, or the file cannot be written.
    """
    path = check_output(path, SUFFIXES, overwrite=True)
    columns: dict[str, list[Any]] = {name: [] for name in TYPES}
    for row in rows:
        for name, values in columns.items():
            value = getattr(row, name)
            if name in _PATHS and value is not None:
                value = _relative(value, path.parent)
            elif COLUMNS[name].listed:
                value = json.dumps([_plain(item) for item in value])
            values.append(value)
    table = pyarrow.table(columns, pyarrow.schema(list(TYPES.items())))
    with replacing(path) as part:
        if path.suffix.lower() == ".csv":
            pyarrow.csv.write_csv(table, part)
        else:
            pyarrow.parquet.write_table(table, part, row_group_size=_GROUP)


def _plain(item: str | Event) -> str | dict[str, Any]:
    if isinstance(item, str):
        return item
    return {key: value for key, value in asdict(item).items() if value is not None}


def _relative(path: Path | str, folder: Path) -> str:
    if isinstance(path, str):  # an address
        return path
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest, or the ``manifest.parquet`` of a folder, here or at an address.

    Paths are relative to where it lies, and come out absolute or as given; those of one at an address are addresses.

    A table made by hand (Parquet; CSV in UTF-8, its cells parted by commas or semicolons; TSV) needs the columns
    ``path`` and ``duration``; the others have defaults, and what it holds beside them is passed over.

    A large one is checked and laid out in the user's cache once, where all processes share it.

    Raises:
        DataError: there is no such file, it is of another kind, or a cell holds what it cannot; with row and column.
            Or it cannot be fetched, or lies at an address and names files of this machine.
    """
    if isinstance(path, str) and is_address(path):
        try:
            return _read_remote(manifest_address(path))
        except DataError as error:
            if isinstance(error.__cause__, AbsentError) and not suffix(path):
                raise DataError(f"{error}: avlearn scan {path} -o manifest.parquet makes one here") from error
            raise
    path = Path(path)
    path = path / "manifest.parquet" if path.is_dir() else path
    return _read(path, path.parent, str(path.resolve()))


def manifest_address(address: str) -> str:
    """The address of a manifest; of a folder's, that of the ``manifest.parquet`` in it."""
    return address if suffix(address) in TABLES else f"{address.rstrip('/')}/manifest.parquet"


def _read_remote(address: str) -> Manifest:
    try:
        copy = local_copy(address, suffix(address))
    except (MediaError, OutputError) as error:
        raise DataError(str(error)) from error
    try:
        return _read(copy, folder_of(address), address)
    except DataError as error:
        raise DataError(str(error).replace(str(copy), address)) from error


def _read(path: Path, folder: Path | str, name: str) -> Manifest:
    """A manifest that is here, its paths from a folder on; ``name`` tells it from others where it is laid out."""
    status = path.stat() if path.is_file() else None
    if status is None or status.st_size < _LARGE:
        return Manifest(pyarrow.Table.from_batches(_batches(path, folder)), folder)
    mapped = _cache() / f"{_name(name)}-{status.st_size:x}-{status.st_mtime_ns:x}.arrow"
    for _ in range(2):  # what is not there, or damaged, is laid out
        try:
            return _open_mapped(mapped, folder)
        except (OSError, pyarrow.ArrowException):
            try:
                _lay_out(path, folder, mapped)
            except OSError:  # a cache that cannot be written is no reason not to work
                break
    return Manifest(pyarrow.Table.from_batches(_batches(path, folder)), folder)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "avlearn" / "manifests"


def _name(name: str) -> str:
    return hashlib.sha256(f"{_LAYOUT} {name}".encode()).hexdigest()[:20]


def _lay_out(path: Path, folder: Path | str, mapped: Path) -> None:
    """Write a manifest's rows as they are mapped; what was laid out of it before goes.

    Processes that do so at once each write a file of their own, and the last one stays.
    """
    mapped.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=mapped.parent) as beside:
        part = Path(beside) / mapped.name
        with pyarrow.OSFile(str(part), "wb") as sink:
            batches = _batches(path, folder)
            first = next(batches)
            with pyarrow.ipc.new_file(sink, first.schema) as writer:
                for batch in chain([first], batches):
                    writer.write_batch(batch)
        part.replace(mapped)
    for other in mapped.parent.glob(f"{mapped.name.partition('-')[0]}-*.arrow"):
        if other != mapped:
            other.unlink(missing_ok=True)


def _open_mapped(mapped: Path, folder: Path | str, places: np.ndarray | None = None, fold: int = 0) -> Manifest:
    table = pyarrow.ipc.open_file(pyarrow.memory_map(str(mapped))).read_all()
    return Manifest(table, folder, mapped, places, fold)


def _batches(path: Path, folder: Path | str) -> Iterator[pyarrow.RecordBatch]:
    """Rows of a manifest, checked; at least one batch, perhaps an empty one."""
    first = 1
    for cells in table_batches(path, TYPES):
        for name in ("path", "duration"):
            if name not in cells:
                raise DataError(f"{path} lacks the column '{name}'")
        batch = checked(cells, path, first)
        batch = without_foreign(batch, folder, path, first) if isinstance(folder, str) else batch
        first += len(batch)
        yield batch
