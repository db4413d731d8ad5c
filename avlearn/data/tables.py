"""Tables from anyone: Parquet, CSV and TSV files in batches of rows, bounded in memory; what is wrong is one line."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet
from pyarrow import compute

from avlearn.errors import DataError
from avlearn.files import is_file, printable

# Text of a column that a Parquet file may hold, packed: this many bytes, and so many times its own length more. Real
# tables pack 3 to 20 times; those that are made to fill the memory do a million times.
_ROOM, _PACKED = 2**26, 200
TABLES = (".parquet", ".csv", ".tsv")
ROWS = 2**16  # that are read at once
_LONGEST = 2**24  # characters of a cell
_UTF8 = "save it in UTF-8 (in Excel: CSV UTF-8)"


def table_batches(path: Path, types: Mapping[str, pyarrow.DataType]) -> Iterator[dict[str, pyarrow.Array]]:
    """Some rows of a table after the other, each as columns by name.

    Args:
        path: a ``.parquet``, ``.csv`` or ``.tsv``, in capitals or not.
        types: of the columns that are wanted: text, whole or real numbers. Others are passed over.

    Yields:
        The wanted columns that there are, of up to `ROWS` rows, at least once. Cells of CSV and TSV are text, empty
        ones null in Parquet and "" in those.

    Raises:
        DataError: there is no such file, it is of another kind, damaged, or holds more than its size lets expect.
    """
    if not is_file(path):
        raise DataError(f"there is no manifest {path}")
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{path} is not a manifest by its name: {', '.join(TABLES)}")
    return (_parquet_batches if path.suffix.lower() == ".parquet" else _text_batches)(path, types)


def _parquet_batches(path: Path, types: Mapping[str, pyarrow.DataType]) -> Iterator[dict[str, pyarrow.Array]]:
    try:
        size = path.stat().st_size
        metadata = pyarrow.parquet.read_metadata(path)
        if metadata.num_rows > size:
            raise DataError(f"{path} is not a manifest: {metadata.num_rows} rows in {size} bytes")
        _check_size(metadata, size, path)
        schema = metadata.schema.to_arrow_schema()
        wanted = [name for name in types if name in schema.names]
        for name in wanted:
            if schema.names.count(name) > 1:
                raise DataError(f"{path} has the column '{name}' twice")
            _check_type(schema.field(name).type, types[name], f"{path}: {name}")
        # Dictionaries stay packed until their sizes are known.
        words = [name for name in wanted if types[name] == pyarrow.string()]
        held = dict.fromkeys(wanted, 0)
        yield {name: pyarrow.array([], types[name]) for name in wanted}
        # Nothing is read ahead by threads, which a forked process does not have.
        with pyarrow.parquet.ParquetFile(path, metadata=metadata, read_dictionary=words, pre_buffer=False) as file:
            for group in range(metadata.num_row_groups):
                read = {name: file.read_row_group(group, [name], use_threads=False)[name] for name in wanted}
                if len({len(column) for column in read.values()}) > 1:
                    raise DataError(f"{path} is damaged: its columns are not equally long")
                for name, column in read.items():
                    held[name] = _check_text(column, held[name], size, f"{path}: {name}")
                yield from _parts(read)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        # Whatever Arrow makes of a damaged file: its own errors, those of the names' decoding, and of sizes in headers.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path} is not a manifest: {printable(reason[:200])}") from error


def _parts(columns: Mapping[str, pyarrow.ChunkedArray]) -> Iterator[dict[str, pyarrow.Array]]:
    """Columns in parts of `ROWS` rows, text unpacked."""
    for first in range(0, max(map(len, columns.values()), default=0), ROWS):
        part = {}
        for name, column in columns.items():
            cells = column.slice(first, ROWS)
            if pyarrow.types.is_dictionary(cells.type) or pyarrow.types.is_large_string(cells.type):
                cells = cells.cast(pyarrow.large_string()).cast(pyarrow.string())
            cells = cells.combine_chunks()
            cells.validate(full=True)  # whether text is UTF-8
            part[name] = cells
        yield part


def _check_type(found: pyarrow.DataType, wanted: pyarrow.DataType, where: str) -> None:
    kind = pyarrow.types
    plain = found.value_type if kind.is_dictionary(found) else found
    if kind.is_null(plain):
        return
    if wanted == pyarrow.string():
        if not (kind.is_string(plain) or kind.is_large_string(plain)):
            raise DataError(f"{where} holds {printable(found)}: write text")
    elif not (kind.is_integer(plain) or kind.is_floating(plain)):
        raise DataError(f"{where} holds {printable(found)}: write numbers")


def _check_size(metadata: pyarrow.parquet.FileMetaData, size: int, path: Path) -> None:
    """Refuse a file whose columns unpack to more than ``size`` lets expect.

    Row groups are asked, not their columns: where those are damaged, asking them ends the process.
    """
    total = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    if total > _ROOM + _PACKED * size:
        raise DataError(f"{path} unpacks to {total} bytes, from a file of {size}")


def _check_text(column: pyarrow.ChunkedArray, held: int, size: int, where: str) -> int:
    """Bytes of text up to here, unpacked: ``held`` and a column's; refused where ``size`` does not let expect them."""
    total = held
    for chunk in column.chunks:
        if pyarrow.types.is_dictionary(chunk.type) and not pyarrow.types.is_null(chunk.type.value_type):
            lengths = compute.binary_length(chunk.dictionary)
            if (compute.max(lengths).as_py() or 0) > _LONGEST:
                raise DataError(f"{where} holds a text of more than {_LONGEST} characters")
            total += compute.sum(lengths.take(chunk.indices)).as_py() or 0
    if total > _ROOM + _PACKED * size:
        raise DataError(f"{where} holds {total} bytes of text, in a file of {size}")
    return total


def _text_batches(path: Path, types: Mapping[str, pyarrow.DataType]) -> Iterator[dict[str, pyarrow.Array]]:
    limit = csv.field_size_limit(_LONGEST)
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names, rows = _header(path, file)
            wanted = {name: names.index(name) for name in types if name in names}
            columns: dict[str, list[str]] = {name: [] for name in wanted}
            for number, row in enumerate(rows, 1):
                if len(row) != len(names):
                    raise DataError(f"{path}, row {number}: it has {len(row)} cells, the first line {len(names)}")
                for name, place in wanted.items():
                    columns[name].append(row[place])
                if not number % ROWS:
                    yield _texts(columns)
                    columns = {name: [] for name in wanted}
            yield _texts(columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {_undecodable(path)}: not in UTF-8: {_UTF8}") from error
    except csv.Error as error:
        raise DataError(f"{path}, row {number + 1}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        csv.field_size_limit(limit)


def _texts(columns: Mapping[str, list[str]]) -> dict[str, pyarrow.Array]:
    return {name: pyarrow.array(cells, pyarrow.string()) for name, cells in columns.items()}


def _undecodable(path: Path) -> int:
    """Number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _header(path: Path, file: Iterator[str]) -> tuple[list[str], Iterator[list[str]]]:
    """Names of the columns, and an iterator over the rows that are not blank."""
    first = next(file, "")
    part = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=part, strict=True), [])]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise DataError(f"{path} has the column '{printable(twice[:80])}' twice")
    return names, (row for row in csv.reader(file, delimiter=part, strict=True) if any(map(str.strip, row)))
