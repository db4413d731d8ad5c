"""A corpus on disk: one walk of its folders, and its lists, read so that a bad row is named by file and line."""

import csv
import json
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from avlearn.data.walk import walk_files
from avlearn.errors import DataError

# Where one clip lies there in several forms, the first of these is taken: video with audio before audio alone.
MEDIA = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".ts", ".3gp",
    ".wav", ".flac", ".ogg", ".opus", ".m4a", ".mp3",
)  # fmt: skip
LISTS = (".csv", ".txt", ".json", ".xml", ".pbtxt", ".align", ".tfrecord")
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}

_RANKS = {suffix: rank for rank, suffix in enumerate(MEDIA)}
_BAD = (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error, csv.Error)


class Tree:
    """The files below a folder, links followed and hidden files left out.

    Attributes:
        folder: where it begins.
        media: the paths of the media files by stem, in stable order.
        lists: the files that may hold annotations, nearest to the top first.

    Raises:
        DataError: there is no such folder, or a folder in it cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.media: dict[str, list[str]] = {}
        self.lists: list[Path] = []
        if not self.folder.is_dir():
            raise DataError(f"there is no folder {folder}")
        for path in walk_files(self.folder, Counter(), _unreadable):
            if path.suffix.lower() in _RANKS:
                self.media.setdefault(path.stem, []).append(str(path))
            elif path.suffix.lower() in LISTS:
                self.lists.append(path)
        self.lists.sort(key=lambda path: len(path.parts))

    def find(self, published: str) -> Path:
        """The file that the corpus publishes as ``FOLDER/NAME.SUFFIX``, wherever it lies and whatever its suffix.

        Of several with one stem it is that whose folders are named alike (spaces and underscores are one).
        Where there is none, the path is where it would be.
        """
        folders, _, name = published.rpartition("/")
        paths = self.media.get(os.path.splitext(name)[0])
        if not paths:
            return self.folder / published
        if len(paths) == 1:
            return Path(paths[0])
        alike = set(folders.replace(" ", "_").split("/"))

        def preference(path: Path) -> tuple[int, int]:
            own = {part.replace(" ", "_") for part in path.relative_to(self.folder).parts[:-1]}
            return -len(alike & own), _RANKS[path.suffix.lower()]

        return min(map(Path, paths), key=preference)

    def pick(self, pattern: str) -> dict[str, Path]:
        """The lists whose whole name matches, the nearest of each name (or of each first group), in lower case."""
        found: dict[str, Path] = {}
        for path in self.lists:
            if match := re.fullmatch(pattern, path.name, re.IGNORECASE):
                found.setdefault(match[1 if match.re.groups else 0].lower(), path)
        return found

    def need(self, pattern: str, what: str) -> Path:
        """The nearest list that matches; where there is none, a DataError with ``what`` it is and where to get it."""
        for path in self.pick(pattern).values():
            return path
        raise DataError(f"{self.folder} holds no {what}")

    def splits(self, pattern: str, what: str) -> list[tuple[str, Path]]:
        """The lists of train, val and test, as far as they are there; without any, as `need`.

        The pattern's first group is the split.
        """
        self.need(pattern, what)
        found = {SPLITS[name]: path for name, path in self.pick(pattern).items()}
        return [(split, found[split]) for split in ("train", "val", "test") if split in found]


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def matched(pattern: str, text: str) -> tuple[str | Any, ...]:
    """Groups of a pattern that is all of a text.

    Raises:
        ValueError: it is not.
    """
    found = re.fullmatch(pattern, text)
    if found is None:
        raise ValueError(f"{text!r} is of another form")
    return found.groups()


def read_lines(path: Path, parse: Callable[[str], Any], form: str) -> Iterator[Any]:
    """As `checked`, of each line that is not blank, stripped."""
    return checked(path, _lines(path), parse, form)


def read_table(
    path: Path, parse: Callable[[list[str]], Any], form: str, comment: str = "", **dialect: Any
) -> Iterator[Any]:
    """As `checked`, of each row of a CSV that is not blank and no comment; ``dialect`` is of ``csv.reader``."""
    return checked(path, _rows(path, comment, dialect), parse, form)


def read_records(path: Path, parse: Callable[[dict[str, str]], Any], columns: str) -> Iterator[Any]:
    """As `checked`, of each row of a CSV with a header, as a dict; the header must hold the ``columns``."""
    header: list[str] = []

    def record(row: list[str]) -> Any:
        if header:
            return parse(dict(zip(header, row, strict=True)))
        header.extend(name.strip() for name in row)
        if lacking := [name for name in columns.split(",") if name not in header]:
            raise DataError(f"{path}, line 1: there is no column '{lacking[0]}'; the header should hold {columns}")

    return checked(path, _rows(path, "", {}), record, columns)


def read_items(
    path: Path, items: Callable[[Any], Iterable[Any]], parse: Callable[[Any], Any], form: str
) -> Iterator[Any]:
    """As `checked`, of each of the ``items`` of a JSON file."""
    try:
        numbered = enumerate(items(json.loads(path.read_bytes().decode("utf-8-sig"))), 1)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: {error.msg}") from error
    except _BAD as error:
        raise DataError(f"{path} does not hold what it should: {form}, again and again") from error
    return checked(path, numbered, parse, form, "item")


def checked(
    path: Path, rows: Iterable[tuple[int, Any]], parse: Callable[[Any], Any], form: str, unit: str = "line"
) -> Iterator[Any]:
    """``parse`` of each numbered row of a file, without those that it makes None.

    Raises:
        DataError: a row is not of the ``form`` (says file, ``unit`` and number), or the file cannot be read.
    """
    number, row = 0, None
    try:
        for number, row in rows:  # noqa: B007 - both are for the message below
            if (parsed := parse(row)) is not None:
                yield parsed
    except _BAD as error:
        raise DataError(f"{path}, {unit} {number}: {str(row)[:120]!r} is not {form}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line := line.strip():
                yield number, line


def _rows(path: Path, comment: str, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, **dialect)
        for row in reader:
            if any(map(str.strip, row)) and not (comment and row[0].startswith(comment)):
                yield reader.line_num, row
