"""Copies of remote files, and of parts of them, on this machine: bounded, shared by all processes.

What a copy is of, and in which version, is the hash that it is named by: nothing is named as a server says. A copy
appears whole or not at all. What was not used for the longest time goes when there is no room.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import FileIO, RawIOBase
from pathlib import Path
from typing import IO

from avlearn.errors import AvlearnError, MediaError, OutputError
from avlearn.files import in_bytes, printable, reason_of
from avlearn.remote.file import BlockReader, RemoteFile

LIMIT = "AVLEARN_REMOTE_CACHE_GB"
_GB = 10.0  # by default
_FILLED = 0.9  # the share that is kept where there is no room
_TOTAL = ".total"
_GIVEN_UP = 60.0  # seconds for which a file of many parts that could not be had is not asked for again
_SMALL = 8 << 20  # bytes of a part that is fetched whole, and kept for the next time


def cache_folder() -> Path:
    """Where the copies are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "avlearn" / "remote"


def local_file(file: Path | str) -> Path:
    """A file, or the copy of one at an address.

    Raises:
        MediaError: it cannot be had.
        OutputError: it cannot be kept.
    """
    return file if isinstance(file, Path) else local_copy(file)


def local_copy(address: str, suffix: str = "") -> Path:
    """A file at an address, on this machine; the server is asked whether the copy is what it has.

    Args:
        address: of the file.
        suffix: of the copy's name.

    Raises:
        MediaError: it cannot be had.
        OutputError: it cannot be kept.
    """
    with RemoteFile(address) as file:
        return copy_of(file, 0, file.size, suffix)


def copy_of(file: RemoteFile, begin: int, size: int, suffix: str = "") -> Path:
    """A part of a file, on this machine.

    Args:
        file: that is open.
        begin, size: of the part, bytes.
        suffix: of the copy's name.

    Raises:
        MediaError: it cannot be had.
        OutputError: it cannot be kept.
    """

    def fill(part: Path) -> None:
        with part.open("wb") as written:
            file.save(written, begin, begin + size)

    return kept(key(file.address, file.version, file.size, begin, size) + suffix, size, fill, file.address)


def open_part(address: str, begin: int = 0, size: int | None = None, whole: bool = False) -> tuple[RawIOBase, int, int]:
    """A part of a file to read: of the file's copy where there is one, else of a small part a copy, else blocks.

    Args:
        address: of the file.
        begin, size: of the part, bytes; to its end by default.
        whole: whether all of the file is fetched first, where it can be kept: other parts of it will be read.

    Returns:
        A file object that can be sought; the byte in it that the part begins at; and its length.

    Raises:
        MediaError: it cannot be had, or cannot be kept where only a copy can be read.
    """
    if whole or address in _copies:
        with suppress(OutputError):  # it was said
            copy = _open_whole(address)
            there = os.fstat(copy.fileno()).st_size
            begin = min(begin, there)
            return copy, begin, there - begin if size is None else min(size, there - begin)
    file = RemoteFile(address)
    begin = min(begin, file.size)
    size = file.size - begin if size is None else min(size, file.size - begin)
    if size > _SMALL and file.ranges:
        return BlockReader(file, begin, size), 0, size
    try:
        with file:
            if not file.ranges:
                return open_copy(file, 0, file.size), begin, size
            return open_copy(file, begin, size), 0, size
    except OutputError as error:
        if not file.ranges:
            raise MediaError(str(error)) from error
        _warn_once(reason_of(error, address))
    return BlockReader(RemoteFile(address), begin, size), 0, size


@cache
def _warn_once(reason: str) -> None:
    print(f"warning: what is remote {reason}; it is read without copies", file=sys.stderr)


def open_copy(file: RemoteFile, begin: int, size: int) -> FileIO:
    """`copy_of` a part of a file, opened: it stays readable when the cache drops it."""
    while True:
        with suppress(FileNotFoundError):  # it was dropped before it was opened
            return copy_of(file, begin, size).open("rb", buffering=0)


_copies: dict[str, Path] = {}  # of files that many parts are read of, by address
_given_up: dict[str, tuple[float, AvlearnError]] = {}  # until when, and why


def _open_whole(address: str) -> FileIO:
    """A file's copy, opened. Its server is asked once: while the copy is there, this process works with that version.

    Raises:
        MediaError, OutputError: as `local_copy`; for a minute after it did without trying again.
    """
    until, told = _given_up.get(address, (0.0, MediaError()))
    if time.monotonic() < until:
        raise type(told)(str(told))
    while True:
        try:
            path = _copies.get(address) or local_copy(address)
        except (MediaError, OutputError) as error:
            if isinstance(error, OutputError) and not any(
                isinstance(told, OutputError) for _, told in _given_up.values()
            ):
                print(f"warning: {error}; parts of it, and of others like it, are fetched alone", file=sys.stderr)
            _given_up[address] = (time.monotonic() + _GIVEN_UP, error)
            raise
        _copies[address] = path
        with suppress(FileNotFoundError):  # the cache dropped it
            copy = path.open("rb", buffering=0)
            os.utime(path, ns=(time.time_ns(), os.fstat(copy.fileno()).st_mtime_ns))
            return copy
        del _copies[address]


def key(*facts: object) -> str:
    """A name in the cache for what has these facts."""
    return hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:32]


def kept(name: str, size: int, fill: Callable[[Path], None], what: str) -> Path:
    """A file or a folder of the cache, made where it is not there.

    Args:
        name: what `key` gives, and perhaps a suffix.
        size: of all of it, bytes.
        fill: called with the path to write to.
        what: it is, for people.

    Raises:
        OutputError: there is no room, or it cannot be written.
    """
    folder = cache_folder()
    entry = folder / name
    try:
        if _used(entry, size):
            return entry
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f".{name[:2]}.lock"):
            if _used(entry, size):  # another process made it meanwhile
                return entry
            room, part = folder / f".{name}.room", folder / f".{name}.part"
            _remove(part)  # of a process that was killed
            _make_room(room, size, what)
            try:
                fill(part)
                with _lock(folder / _TOTAL):  # whoever counts sees one of the two
                    part.replace(entry)
                    _remove(room)
            finally:
                _remove(part)
                _remove(room)
    except OSError as error:
        place = "XDG_CACHE_HOME chooses another disk"
        raise OutputError(
            f"{printable(what)} cannot be kept in {folder}: {error.strerror or error}; {place}"
        ) from error
    return entry


def _used(entry: Path, size: int) -> bool:
    """Whether it is there and whole; it is noted when it was last used, its date stays."""
    try:
        os.utime(entry, ns=(time.time_ns(), entry.stat().st_mtime_ns))
        return _size(entry) == size
    except FileNotFoundError:
        return False


def _make_room(room: Path, size: int, what: str) -> None:
    """Take ``size`` bytes, and remove what was not used for the longest time where there is no room.

    The total is a note, at least what there is: it is put right when it reaches the limit.

    Args:
        room: a file of that size without content, which others count until the copy is there.
        size: bytes.
        what: is to be kept.
    """
    limit = _limit()
    if size > limit:
        raise OutputError(
            f"{printable(what)} has {in_bytes(size)}, and copies of remote files {in_bytes(limit)} together: "
            f"{LIMIT} allows more"
        )
    with _lock(room.with_name(_TOTAL)) as note:
        assert note is not None  # it was waited for
        note.seek(0)
        said = note.read(20)
        total = int(said) if said.isdigit() else limit
        if total + size > limit:
            total = _shrink(room.parent, min(int(_FILLED * limit), limit - size))
        if total + size > limit:
            raise OutputError(f"{printable(what)} cannot be kept: others fetch as much as {LIMIT} allows; try again")
        note.seek(0)
        note.truncate()
        note.write(str(total + size))
        note.flush()
        with room.open("wb") as file:
            file.truncate(size)


def _limit() -> int:
    said = os.environ.get(LIMIT) or str(_GB)
    try:
        limit = int(float(said) * 1e9)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise OutputError(f"{LIMIT} is '{printable(said)}': give a number of gigabytes, like 50")
    return limit


def _shrink(folder: Path, most: int) -> int:
    """Remove what was not used for the longest time until ``most`` bytes are left; how many are."""
    found = []
    for path in folder.iterdir():
        if path.name.startswith(".") and path.suffix not in (".room", ".gone"):
            continue
        try:
            found.append((path.stat().st_atime_ns, path, _size(path)))
        except FileNotFoundError:
            continue
    total = sum(size for _, _, size in found)
    for _, path, size in sorted(found):
        if total <= most:
            break
        if path.suffix == ".room":
            with _lock(folder / f"{path.name[:3]}.lock", wait=False) as held:
                if held is None:  # it is being fetched
                    continue
                _remove(path.with_suffix(".part"))  # of a process that was killed
                _remove(path)
        else:
            _remove(path)
        total -= size
    return total


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _remove(path: Path) -> None:
    """Remove a file, or a folder, which nobody sees half of."""
    if path.is_dir():
        gone = path.with_suffix(".gone") if path.name.startswith(".") else path.with_name(f".{path.name}.gone")
        path.replace(gone)
        shutil.rmtree(gone, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _lock(path: Path, wait: bool = True) -> Iterator[IO[str] | None]:
    """Hold a file for a block, which nobody else then holds; None where others do and it is not waited for."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
        else:
            yield file
