"""Records of what is done, appended as it gets done: what a killed run leaves, and the next goes on from."""

import errno
import json
import os
import sys
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from avlearn.data.part import Part, all_beside
from avlearn.errors import OutputError
from avlearn.files import replacing
from avlearn.lock import Lock


class Journal:
    """Records appended as work gets done, each a line with its checksum and its JSON: what a killed run leaves.

    The journal of a `Part` has a file of its own. It knows what the others held when it was opened, and the journal of
    the whole takes theirs over. Parts are worked on side by side, but not beside the whole.

    Args:
        path: of the file; what it holds already is in ``records``, with what those of parts hold.
        part: of the work, which is done in several.

    Raises:
        OutputError: the file cannot be written, or another run has it open, or the whole is, or parts are, worked on.
    """

    def __init__(self, path: Path, part: Part | None = None):
        self.path = part.beside(path) if part else path
        with ExitStack() as locks:
            locks.callback(Lock(_lock_of(path), shared=part is not None).close)
            if part:
                locks.callback(Lock(_lock_of(self.path)).close)
            whole = self._open()
            self._locks = locks.pop_all()
        own = _records(self.path, whole)
        others = [found for found in (path, *all_beside(path)) if found != self.path and found.exists()]
        if part:
            self.records = []
            for other in others:
                with suppress(FileNotFoundError):  # a part that had nothing to do removes its own
                    self.records += _records(other, _whole(other.read_bytes()))
            self.records += own
            return
        self.records = own
        try:
            for other in others:
                self._take_over(other)
        except OutputError:
            self.close()
            raise

    def _open(self) -> bytes:
        """The lines that are there."""
        try:
            # Without a buffer: what a full disk refused would be tried again when the file is closed.
            self._file = self.path.open("a+b", buffering=0)
            self._file.seek(0)
            # A kill may have torn the last line: what is added next must not join it.
            whole = _whole(self._file.read())
            self._file.truncate(len(whole))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        return whole

    def _take_over(self, other: Path) -> None:
        """Have what a part has done since the whole was last opened: one file tells the order of all."""
        journal = Journal(other)
        try:
            for record in journal.records:
                self.add(record)
            self.records += journal.records
            journal.remove()
        finally:
            journal.close()

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; it is there whatever happens to this process next."""
        line = _line(record)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def rewrite(self, records: Sequence[dict[str, Any]]) -> None:
        """Replace all records by others, at once; no more can be added."""
        with replacing(self.path) as part:
            part.write_bytes(b"".join(map(_line, records)))

    def clear(self) -> None:
        """Forget all records."""
        try:
            self._file.truncate(0)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        self.records = []

    def remove(self) -> None:
        """Remove the file: it has served its purpose."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the file go; one without a record is of no use."""
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()
        self._file.close()
        self._locks.close()


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _whole(data: bytes) -> bytes:
    """The lines that were written to their ends."""
    return data[: data.rfind(b"\n") + 1]


def _records(path: Path, lines: bytes) -> list[dict[str, Any]]:
    found = [_record(line) for line in lines.splitlines()]
    records = [record for record in found if record is not None]
    if damaged := len(found) - len(records):
        print(f"{path}: {damaged} of {len(found)} records are damaged: that work is done again", file=sys.stderr)
    return records


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _record(line: bytes) -> dict[str, Any] | None:
    """The inverse; None for what was not written so."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None
