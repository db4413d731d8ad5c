"""Files at addresses: opened with retries, read by ranges, and what is wrong with one told in a line."""

import io
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol, TypeVar

from avlearn.errors import AvlearnError, MediaError
from avlearn.files import printable
from avlearn.remote.address import is_web, scheme

_BLOCK = 1 << 20  # bytes that are fetched at least
_RUN = 8  # blocks that are fetched at most, where one is read after the other
_KEPT = 32  # blocks
_CHUNK = 8 << 20  # bytes of a copy that are fetched at a time
_WAITS = (0.5, 1.5)  # seconds before the second try, and before the third
_VERSIONS = (
    "ETag", "etag", "md5Hash", "crc32c", "CRC", "LastModified", "last_modified", "updated", "mtime", "created",
    "date_time",
)  # fmt: skip
_EXTRA = "pip install 'avlearn[remote]'"

T = TypeVar("T")


class AbsentError(MediaError):
    """There is no file at an address."""


class ForbiddenError(MediaError):
    """A file at an address may not be read."""


class RemoteFile:
    """A file at an address: where a server does not answer, or breaks off, it is asked again.

    Args:
        address: as fsspec takes it.

    Attributes:
        size: in bytes.
        version: what changes when the file does, as far as can be told.
        ranges: whether its server sends parts of it.

    Raises:
        MediaError: it cannot be had; with what to do.
    """

    def __init__(self, address: str):
        self.address = address
        self._file = tried(address, lambda: _opened(address))
        self.size, self.version, self.ranges = self._file.size, self._file.version, self._file.ranges

    def read(self, begin: int, end: int) -> bytes:
        """Bytes from ``begin`` to ``end``, which lie within the file."""
        data = tried(self.address, lambda: self._file.read(begin, end))
        if len(data) < end - begin:
            raise self._short()
        return data

    def save(self, file: BinaryIO, begin: int, end: int) -> None:
        """Write a part of it to a file that is empty, as one stream that goes on where it broke off.

        Without ``ranges`` all of it, from its beginning each time.

        Raises:
            MediaError: as for the class.
            OSError: the file cannot be written to.
        """

        target = _Target(file)

        def stream() -> None:
            if not self.ranges:
                file.seek(0)
                file.truncate()
            self._file.save(target, begin + file.tell(), end)

        try:
            tried(self.address, stream, file.tell if self.ranges else None)
        except MediaError:
            if target.error is not None:
                raise target.error from None
            raise
        if self.ranges and file.tell() < end - begin:
            raise self._short()

    def __enter__(self) -> "RemoteFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self._file.close()

    def _short(self) -> MediaError:
        return MediaError(f"{printable(self.address)} has fewer bytes than were stated: has it changed?")


class BlockReader(io.RawIOBase):
    """A part of a `RemoteFile` as a file object: fetched by blocks, more of them at once where it is read in order.

    Args:
        file: of which it is a part; closed with this.
        begin, size: of the part, bytes.
    """

    def __init__(self, file: RemoteFile, begin: int, size: int):
        self._file, self._begin, self._size, self._at = file, begin, size, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._run, self._next = 1, -1

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte of the part."""
        self._at = max(offset + (0, self._at, self._size)[whence], 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; fewer bytes also where a block ends."""
        number, within = divmod(self._at, _BLOCK)
        piece = self._block(number)[within : within + len(buffer)] if self._at < self._size else b""
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        """Let go of the file."""
        super().close()
        self._file.close()

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._run = min(2 * self._run, _RUN) if number == self._next else 1
            begin, end = number * _BLOCK, min((number + self._run) * _BLOCK, self._size)
            data = self._file.read(self._begin + begin, self._begin + end)
            for at in range(0, len(data), _BLOCK):
                self._blocks[number + at // _BLOCK] = data[at : at + _BLOCK]
            self._next = number + self._run
            while len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]


class _Target:
    """A file that is written to; ``error`` is what went wrong there, and not with what is written."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Append bytes."""
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise


class _Opened(Protocol):
    """What reads a file of one kind of address."""

    size: int
    version: str
    ranges: bool

    def read(self, begin: int, end: int) -> bytes: ...

    def save(self, file: "_Target", begin: int, end: int) -> None: ...

    def close(self) -> None: ...


class _SystemFile:
    """A file of any file system of fsspec."""

    ranges = True

    def __init__(self, system: Any, path: str):
        self._system = system  # archives close with their file system
        info = system.info(path)
        if info.get("type") == "directory":
            raise IsADirectoryError
        self._file = system.open(path, "rb", cache_type="none")
        size = info.get("size")
        self.size: int = self._file.seek(0, 2) if size is None else size
        self.version = version_of(info)

    def read(self, begin: int, end: int) -> bytes:
        pieces = []
        self._file.seek(begin)
        while begin < end and (piece := self._file.read(end - begin)):
            pieces.append(piece)
            begin += len(piece)
        return b"".join(pieces)

    def save(self, file: _Target, begin: int, end: int) -> None:
        for at in range(begin, end, _CHUNK):
            file.write(self.read(at, min(at + _CHUNK, end)))

    def close(self) -> None:
        self._file.close()


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when a file does, as far as fsspec knows it."""
    return " ".join(f"{info[name]}" for name in _VERSIONS if info.get(name) is not None)


def tried(address: str, ask: Callable[[], T], came: Callable[[], int] | None = None) -> T:
    """What is asked for of an address, at the third try at last.

    Tries count anew where ``came`` says that a block came since.

    Raises:
        MediaError: it cannot be had; with what to do.
    """
    waits, mark = list(_WAITS), 0
    while True:
        try:
            return ask()
        except (TimeoutError, ConnectionError, EOFError) as error:
            if came is not None and came() >= mark + _BLOCK:
                waits, mark = list(_WAITS), came()
            if not waits:
                raise MediaError(f"{printable(address)} {_reason(error, address)}") from error
        except AvlearnError:
            raise
        except Exception as error:  # fsspec raises what the libraries below it do
            raise _kind(error)(f"{printable(address)} {_reason(error, address)}") from error
        time.sleep(waits.pop(0))


def _opened(address: str) -> _Opened:
    from fsspec.core import url_to_fs

    system, path = url_to_fs(address)
    if not is_web(address):
        return _SystemFile(system, path)
    from avlearn.remote.http import WebFile

    return WebFile(system, path)


def _kind(error: Exception) -> type[MediaError]:
    if isinstance(error, FileNotFoundError):
        return AbsentError
    return ForbiddenError if isinstance(error, PermissionError) else MediaError


def _reason(error: Exception, address: str) -> str:
    """What is wrong with a file, to be said after its address, and what to do."""
    if isinstance(error, ImportError):
        return _missing(address, error)
    if isinstance(error, FileNotFoundError):
        return "is not there"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    detail = str(getattr(error, "strerror", None) or error).strip()
    said = printable(detail.splitlines()[0]) if detail else ""
    if isinstance(error, PermissionError):
        return f"may not be read ({said or 'forbidden'}): it takes credentials, or other ones"
    if isinstance(error, TimeoutError):
        return f"cannot be read: the server was silent, {len(_WAITS) + 1} times: try again later"
    if isinstance(error, EOFError):
        return f"cannot be read: the server broke off in the middle, {len(_WAITS) + 1} times: try again later"
    if isinstance(error, ConnectionError):
        return f"cannot be reached: {said or type(error).__name__}; check the address, and the network"
    return f"cannot be opened: {said or type(error).__name__}"


def _missing(address: str, error: ImportError) -> str:
    """Which package an address needs that is not there."""
    if (error.name or "").startswith("fsspec"):
        return f"is remote, and needs fsspec: {_EXTRA}"
    from fsspec.registry import known_implementations

    package = known_implementations.get(scheme(address), {"class": "fsspec"})["class"].partition(".")[0]
    if package == "fsspec":
        return f"is remote, and needs {error.name or 'aiohttp'}: {_EXTRA}"
    return f"needs {package}: pip install {package}"
