"""Rows about very many files: a folder of Parquet files, written as work gets done, from which a run goes on."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from threading import RLock, Timer, current_thread
from typing import Any

import pyarrow
import pyarrow.parquet

from avlearn.data.journal import Journal
from avlearn.data.part import Part, all_beside
from avlearn.errors import OutputError
from avlearn.files import replacing
from avlearn.media import Slice
from avlearn.media.source import Source
from avlearn.terminal import remark

_JOURNAL = ".journal"
_NUMBERED = re.compile(r"[a-z]+-(\d+)")
_LIKE_ESCAPED = re.compile("\\\\+(?=x[0-9a-f]{2}|[\udc80-\udcff])")  # backslashes that escaping would make look alike
_LARGE, _LONG = 2**26, 60.0  # bytes in a Parquet file, and seconds after which a smaller one is written


class PartFolder:
    """A folder that rows about files are written to, those of some files in each Parquet file.

    Each says in its metadata what the rows are of. A killed run leaves whole Parquet files; what was not in one yet is
    done again, and so is what was in one that is gone or damaged. Of a file that is done again, because it changed,
    the last rows count, in the order of the names.

    Args:
        folder: made where it is not there.
        about: what the rows are of; JSON types, with ``format`` and ``model``.
        kind: of the rows, in a word: how the Parquet files are named.
        part: of the files; others may write to the folder at the same time.
        overwrite: whether rows that are there are removed; not with a part.

    Raises:
        OutputError: the folder holds something else, or rows of something else, or cannot be written to.
    """

    def __init__(
        self, folder: Path, about: dict[str, Any], kind: str, part: Part | None = None, overwrite: bool = False
    ):
        self.folder, self.about, self.kind = folder, about, kind
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
        # Whether a run before this one began here: what it left is ours.
        self.begun = is_begun(folder)
        if not self.begun and not is_empty(folder):
            raise OutputError(f"{folder} holds other files: give a folder of its own")
        self._journal = Journal(folder / _JOURNAL, part)
        try:
            kinds = {record["format"] for record in self._journal.records if "part" not in record}
            if overwrite and not part and kinds <= {about["format"]}:
                self._remove_rows()
            self._check_about()
            records = [record for record in self._journal.records if "part" in record]
            here = [record for record in records if self._is_whole(record)]
        except OutputError:
            self._journal.close()
            raise
        self._done: dict[str, list[Any]] = {}  # what changes when a file does, and the note on it
        for record in here:
            self._done |= record["files"]
        # Parts of the files write side by side; whoever comes later writes files that come later in their order.
        self._suffix = f"-{part.number}of{part.of}.parquet" if part else ".parquet"
        # Nor is a name that a record has taken again: what was in a file that is gone would seem to be there.
        numbers = [int(found[1]) for record in records if (found := _NUMBERED.match(record["part"]))]
        self._number = max(numbers, default=-1) + 1
        self._kept: list[tuple[str, pyarrow.Table, Any]] = []
        self._marks: dict[str, str] = {}
        self._bytes = 0
        self._writing = RLock()  # what is kept, here and by the timer
        self._timer: Timer | None = None
        self._late = False  # what is kept could not be written in time

    def _remove_rows(self) -> None:
        """Begin anew. Rows go before the journal: without it nobody would know whose they were."""
        for path in self.folder.glob(f"{self.kind}-*.parquet"):
            _remove(path)
        self._journal.clear()

    def _is_whole(self, record: dict[str, Any]) -> bool:
        """Whether the rows of a record are there; a Parquet file that is cut short, or none, is removed."""
        path = self.folder / record["part"]
        try:
            pyarrow.parquet.read_metadata(path)
        except FileNotFoundError:
            return False
        except (OSError, pyarrow.ArrowException) as error:
            if getattr(error, "errno", None):  # it may be whole, and out of reach
                raise OutputError(f"cannot read {path}: {error}") from error
            files = len(record["files"])
            remark(f"{path} is damaged: what it held of {files} file{'s' * (files != 1)} is done again")
            _remove(path)
            return False
        return True

    def _check_about(self) -> None:
        for record in self._journal.records:
            if "part" not in record and record != self.about:
                keys = {**self.about, **record}
                differs = ", ".join(key for key in keys if record.get(key) != self.about.get(key))
                what = f"{self.kind} of '{record.get('model')}' ({differs} differs)"
                raise OutputError(f"{self.folder} holds {what}: give another folder")

    @property
    def files(self) -> int:
        """Of which rows are there, from this run and those before."""
        return len(self._done)

    @property
    def notes(self) -> list[Any]:
        """On each of these files."""
        return [note for _, note in self._done.values()]

    def missing(self, sources: Sequence[Source]) -> list[Source]:
        """Those of which no rows are there, or of which the file has changed since."""
        left = []
        for source in sources:
            mark = _mark(source)
            if not self._is_done(path_text(str(source)), mark):
                self._marks[path_text(str(source))] = mark
                left.append(source)
        return left

    def _is_done(self, name: str, mark: str) -> bool:
        return self._done.get(name, [None])[0] == mark

    def add_rows(self, name: str, rows: pyarrow.Table, note: Any) -> None:
        """Keep the rows of a file; they are written when there are enough of them, or after a minute.

        Args:
            name: of the file, as `path_text` gives it.
            rows: of one schema for all files.
            note: JSON types that the journal keeps of the file.
        """
        with self._writing:
            self._kept.append((name, rows, note))
            self._bytes += rows.nbytes
            if self._bytes >= _LARGE or self._late:
                self.flush()
            elif self._timer is None:  # the next may be long in coming
                self._timer = Timer(_LONG, self._flush_late)
                self._timer.daemon = True
                self._timer.start()

    def _flush_late(self) -> None:
        with self._writing:
            if self._timer is current_thread():  # else they were written as its time was up
                try:
                    self.flush()
                except OutputError:
                    self._late = True  # the next rows, or the end, tell it

    def flush(self) -> None:
        """Write what is kept.

        Raises:
            OutputError: it cannot be written.
        """
        with self._writing:
            if self._timer:
                self._timer.cancel()
                self._timer = None
            if self._kept:
                self._write()

    def _write(self) -> None:
        part = self.folder / f"{self.kind}-{self._number:05d}{self._suffix}"
        table = pyarrow.concat_tables([rows for _, rows, _ in self._kept])
        with replacing(part) as unfinished:
            described = table.replace_schema_metadata({"avlearn": json.dumps(self.about)})
            pyarrow.parquet.write_table(described, unfinished, write_page_checksum=True)
        if self.about not in self._journal.records:  # with the first rows: a command that is refused decides nothing
            self._journal.add(self.about)
            self._journal.records.append(self.about)
        files = {name: [self._marks.get(name, ""), note] for name, _, note in self._kept}
        self._journal.add({"part": part.name, "files": files})
        self._done |= files
        self._number, self._kept, self._bytes, self._late = self._number + 1, [], 0, False

    def close(self) -> None:
        """Let the folder go; what is kept and not written is lost."""
        with self._writing:
            if self._timer:
                self._timer.cancel()
                self._timer = None
            self._journal.close()


def is_begun(folder: Path) -> bool:
    """Whether a folder is a `PartFolder` that a run has begun."""
    return (folder / _JOURNAL).exists() or bool(all_beside(folder / _JOURNAL))


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing that people see."""
    return all(path.name.startswith(".") for path in folder.iterdir())


def path_text(path: str) -> str:
    r"""A name as text, another for each: bytes in it that are not UTF-8, which Unix allows, are escaped.

    >>> path_text("caf\udce9.mp4"), path_text(r"caf\xe9.mp4"), path_text(r"C:\a.mp4")
    ('caf\\xe9.mp4', 'caf\\\\xe9.mp4', 'C:\\a.mp4')
    """
    path = _LIKE_ESCAPED.sub(lambda backslashes: 2 * backslashes[0], path)
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror}") from error


def _mark(source: Source) -> str:
    """What changes when a file does, or the tar that it lies in; "" of what is no file."""
    try:
        status = Path(str(source.path if isinstance(source, Slice) else source)).stat()
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"
