"""A media file that is opened once, wherever its bytes lie, and read at many places at a time."""

import io
import os
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import av.container

from avlearn.errors import MediaError
from avlearn.files import is_file, printable
from avlearn.remote.address import is_address
from avlearn.remote.cache import open_part


@dataclass(frozen=True)
class Slice:
    """A file within another, like a member of an uncompressed tar: ``bytes`` bytes from ``offset`` on.

    Where that one lies at an address, ``whole`` says that others of it will be read as well: all of it is fetched.
    """

    path: Path | str
    offset: int
    bytes: int
    whole: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.path} (at byte {self.offset})"


Content = str | Path | Slice | bytes | BinaryIO


class OpenFile:
    """The bytes of a media file, opened once. Any number of `View` read them, in any threads.

    In a process that was forked, a path is opened anew; what has no path is refused there, and when it is pickled.

    Args:
        source: a path, a `Slice` of one, bytes, a binary file object that can be sought (it stays open when this is
            closed, wherever it then stands), or an address that fsspec knows, like ``s3://bucket/clip.mp4``.

    Attributes:
        name: for people.
        size: in bytes.
        known: what was found out about the file, by whoever looks: it does not change while it is open.

    Raises:
        MediaError: it cannot be opened, or cannot be sought.
    """

    def __init__(self, source: Content):
        self.source = source
        self.known: dict[Any, Any] = {}
        self._untouched: list[av.container.InputContainer] = []
        self._lock, self._process, self.closed = threading.Lock(), os.getpid(), False
        self._bytes = _opened(source)
        self.name, self.size = self._bytes.name, self._bytes.size

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[type["OpenFile"], tuple[Content]]:
        if not self._has_path():
            raise MediaError(f"{self.name} cannot be sent to another process: give a path or an address")
        return type(self), (self.source,)

    def read(self, at: int, count: int) -> bytes:
        """Up to ``count`` bytes from byte ``at`` on; fewer only at the end.

        Raises:
            MediaError: it was closed, or cannot be read.
        """
        if os.getpid() != self._process:
            self._open_again()
        count, pieces = max(min(count, self.size - at), 0), []
        with self._lock:
            if self.closed:
                raise MediaError(f"{printable(self.name)} is closed: open it again")
            try:
                self._bytes.file.seek(self._bytes.begin + at)
                while count > 0 and (piece := self._bytes.file.read(count)):
                    pieces.append(piece)
                    count -= len(piece)
            except MediaError:
                raise
            except Exception as error:  # file objects are foreign
                raise MediaError(f"{printable(self.name)} cannot be read: {_said(error)}") from error
        return b"".join(pieces)

    def state(self) -> tuple[int, int] | None:
        """Bytes and date of the file that has a path, which change when it is written to; None where it has none."""
        if self.closed or not isinstance(self._bytes.file, io.FileIO) or not self._has_path():
            return None
        status = os.fstat(self._bytes.file.fileno())
        return status.st_size, status.st_mtime_ns

    def view(self) -> "View":
        """A reader of its own place, at the beginning."""
        return View(self)

    def close(self) -> None:
        """Let go of the file. What still reads it fails."""
        with self._lock:
            for container in self._untouched:
                container.close()
            self._untouched.clear()
            if not self.closed and not _is_file_object(self.source):
                self._bytes.file.close()
            self.closed = True

    def take(self) -> av.container.InputContainer | None:
        """A container that `keep` was given, or None."""
        with self._lock:
            return self._untouched.pop() if self._untouched else None

    def keep(self, container: av.container.InputContainer) -> None:
        """Keep a container of this file of which nothing but the headers was looked at: it is as good as new."""
        with self._lock:
            if not self._untouched and not self.closed:
                self._untouched.append(container)
                return
        container.close()

    def refuse(self, url: str, flags: int, options: dict[str, str]) -> BinaryIO:
        """Refuse to open another file that this one names: a playlist of strangers must not reach for ours."""
        raise MediaError(f"{printable(self.name)} asks for {printable(url)}: only the file itself is read")

    def _has_path(self) -> bool:
        return isinstance(self.source, str | Path | Slice)

    def _open_again(self) -> None:
        """After a fork, where the place in the file would be shared with the other process."""
        if not self._has_path():
            raise MediaError(f"{printable(self.name)} cannot be read in another process: give a path or an address")
        self._lock, self._process = threading.Lock(), os.getpid()
        self._bytes = _opened(self.source)
        self.size = self._bytes.size


class View:
    """A reader of an `OpenFile` with its own place in it: what FFmpeg asks of a binary file object."""

    def __init__(self, file: OpenFile):
        self.file, self.name, self._at = file, file.name, 0

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; none at the end."""
        data = self.file.read(self._at, count)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, as file objects do."""
        self._at = max(offset + (0, self._at, self.file.size)[whence], 0)
        return self._at

    def tell(self) -> int:
        """The place, in bytes."""
        return self._at


def what_else(path: Path) -> str:
    """Why a name is not that of a file to read."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "does not exist"
    if stat.S_ISDIR(mode):
        return "is a folder, not a media file"
    return "is a pipe or a device, and videos are searched back and forth: write it to a file first"


@dataclass(frozen=True)
class _Bytes:
    """Where the bytes of a file lie: in a file object, from a byte on, so many; ``owner`` lives as long as they do."""

    name: str
    file: BinaryIO | io.RawIOBase
    begin: int
    size: int
    owner: object = None


def _opened(source: Content) -> _Bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return _Bytes("(bytes)", io.BytesIO(source), 0, memoryview(source).nbytes)
    if isinstance(source, Slice):
        if is_remote(source):
            return _Bytes(str(source), *open_part(str(source.path), source.offset, source.bytes, source.whole))
        whole = _opened_path(source.path)
        return _Bytes(str(source), whole.file, source.offset, max(min(source.bytes, whole.size - source.offset), 0))
    if not isinstance(source, str | Path):
        return _opened_object(source)
    if is_remote(source):
        return _Bytes(str(source), *open_part(str(source)))
    return _opened_path(source)


def _opened_path(source: str | Path) -> _Bytes:
    path = Path(source)
    if not is_file(path):
        raise MediaError(f"{printable(source)} {what_else(path)}")
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise MediaError(f"{printable(source)} cannot be opened: {error.strerror}") from error
    return _Bytes(str(source), file, 0, os.fstat(file.fileno()).st_size)


def _is_file_object(source: Content) -> bool:
    return not isinstance(source, str | Path | Slice | bytes | bytearray | memoryview)


def _opened_object(file: BinaryIO) -> _Bytes:
    given = getattr(file, "name", None)
    name = given if isinstance(given, str) else "(file object)"
    if not all(hasattr(file, need) for need in ("read", "seek", "tell")):
        raise MediaError(f"a {type(file).__name__} is no media file: give a path, bytes or a binary file object")
    if isinstance(file, io.TextIOBase):
        raise MediaError(f"{printable(name)} is open as text: open it with mode 'rb'")
    return _Bytes(name, file, 0, _size(name, file))


def _size(name: str, file: BinaryIO) -> int:
    try:
        if not getattr(file, "seekable", lambda: True)():
            raise MediaError(
                f"{printable(name)} cannot be searched back and forth: read it into bytes, or write a file"
            )
        return file.seek(0, io.SEEK_END)
    except MediaError:
        raise
    except Exception as error:  # as in `OpenFile.read`
        raise MediaError(f"{printable(name)} cannot be read: {_said(error)}") from error
    raise MediaError(f"{printable(name)} cannot be searched back and forth: read it into bytes, or write it to a file")


def is_remote(source: object) -> bool:
    """Whether a file, or the one that it is a part of, lies at an address."""
    file = source.path if isinstance(source, Slice) else source
    return isinstance(file, str) and is_address(file) and not is_file(file)


def _said(error: Exception) -> str:
    said = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return printable(said.splitlines()[0])
