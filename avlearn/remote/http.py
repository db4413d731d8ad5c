"""Parts of files on web servers: asked for through fsspec's session, and held to what was asked for."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from html import unescape
from typing import Any, Protocol
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
from fsspec.asyn import sync

SILENCE = 30.0  # seconds without a byte, after which a server is given up
_REQUEST = 300.0  # seconds that a request for a part takes at most
_SLOWEST = 10_000  # bytes a second of a whole file: who sends less would hold the work up for days
_CHUNK = 1 << 20
_LONGEST_PAGE = 16 << 20  # bytes: some hundred thousand files
_LINK = re.compile(
    r"""<a\s[^<>]{0,1000}?href\s{0,10}=\s{0,10}(?P<quote>["'])(?P<link>[^"'<>]{1,4000})(?P=quote)""", re.I
)


class Target(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> object: ...


class _Place:
    """What has an address on a web server."""

    def __init__(self, system: Any, address: str):
        self.system, self.address = system, address

    @asynccontextmanager
    async def _asked(
        self, headers: dict[str, str], longest: float, also: int = 200
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response of 200, 206 or what is taken ``also``; the errors of aiohttp as Python's own."""
        options = dict(self.system.kwargs)
        options["headers"] = {**options.get("headers", {}), "Accept-Encoding": "identity", **headers}
        options["timeout"] = aiohttp.ClientTimeout(longest, sock_connect=SILENCE, sock_read=SILENCE)
        try:
            session = await self.system.set_session()
            async with session.get(self.system.encode_url(self.address), **options) as response:
                self._check(response, also)
                yield response
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, asyncio.IncompleteReadError) as error:
            raise EOFError from error
        except aiohttp.ServerTimeoutError as error:  # which is a ClientError as well
            raise TimeoutError from error
        except aiohttp.ClientConnectionError as error:
            raise ConnectionError(_of_system(getattr(error, "os_error", error))) from error
        except aiohttp.ClientResponseError as error:  # whose text may hold what came
            raise ValueError("what the server answers is not HTTP") from error
        except aiohttp.NonHttpUrlClientError as error:  # a redirect: to a local file, for one
            raise ValueError(f"the server sends on to {error}, which is no address of the web") from error
        except aiohttp.ClientError as error:
            raise ValueError(f"the web does not know such an address: {error}") from error

    def _check(self, response: aiohttp.ClientResponse, also: int) -> None:
        schemes = [hop.url.scheme for hop in (*response.history, response)]
        if schemes != sorted(schemes):  # http may become https, and not the other way
            raise ValueError(f"the server sends on to {response.url}, which is not https")
        status, said = response.status, f"the server says {response.status} {response.reason}"
        if status in (404, 410):
            raise FileNotFoundError
        if status in (401, 403, 407):
            raise PermissionError(said)
        if status == 429 or status >= 500:
            raise ConnectionError(said)
        if status not in (200, 206, also):
            raise ValueError(said)


class WebFile(_Place):
    """A file on a web server.

    Args:
        system: fsspec's of the web.
        address: of the file.

    Attributes:
        size: in bytes.
        version: what changes when the file does, as far as the server tells.
        ranges: whether the server sends parts of it.

    Raises:
        FileNotFoundError, PermissionError, TimeoutError, ConnectionError, EOFError, ValueError: in one line.
    """

    def __init__(self, system: Any, address: str):
        super().__init__(system, address)
        self.size, self.version, self.ranges = sync(system.loop, self._look)

    def read(self, begin: int, end: int) -> bytes:
        """Bytes from ``begin`` to ``end``, in one request."""
        data: bytes = sync(self.system.loop, self._read, begin, end)
        return data

    def save(self, file: Target, begin: int, end: int) -> None:
        """Write bytes from ``begin`` to ``end`` as they come, in one request; all bytes without ``ranges``."""
        sync(self.system.loop, self._save, file, begin, end)

    def close(self) -> None:
        """Do nothing: the session is shared."""

    async def _look(self) -> tuple[int, str, bool]:
        async with self._asked({"Range": "bytes=0-0"}, _REQUEST, also=416) as response:
            told = response.headers
            version = f"{told.get('ETag', '')} {told.get('Last-Modified', '')}"
            if response.status == 200:
                return _whole(told.get("Content-Length", "")), version, False
            return _whole(told.get("Content-Range", "").rpartition("/")[2]), version, True

    async def _read(self, begin: int, end: int) -> bytes:
        async with self._asked(_part(begin, end), _REQUEST) as response:
            self._check_part(response, begin, end)
            return await response.content.readexactly(end - begin)

    async def _save(self, file: Target, begin: int, end: int) -> None:
        begin, end = (begin, end) if self.ranges else (0, self.size)
        if begin == end:
            return
        longest = _REQUEST + (end - begin) / _SLOWEST
        async with self._asked(_part(begin, end) if self.ranges else {}, longest) as response:
            if self.ranges:
                self._check_part(response, begin, end)
            async for chunk in response.content.iter_chunked(_CHUNK):
                begin += len(chunk)
                if begin > end:
                    raise ValueError("the server sends more bytes than it stated")
                file.write(chunk)
        if begin < end:
            raise EOFError

    def _check_part(self, response: aiohttp.ClientResponse, begin: int, end: int) -> None:
        told = response.headers
        if told.get("Content-Range", "") != f"bytes {begin}-{end - 1}/{self.size}":
            raise ValueError("the server sends another part than was asked for: has the file changed?")
        if f"{told.get('ETag', '')} {told.get('Last-Modified', '')}" != self.version:
            raise ValueError("it was changed while it was read: try again")


class IndexPage(_Place):
    """A page of a web server that links to the files of a folder.

    Args:
        system: fsspec's of the web.
        address: of the folder; ends with a slash.

    Attributes:
        names: of the files and folders that lie in it, in the page's order; of folders with a slash. Links to whatever
            else are no part of it.

    Raises:
        FileNotFoundError, PermissionError, TimeoutError, ConnectionError, EOFError, ValueError: in one line.
    """

    def __init__(self, system: Any, address: str):
        super().__init__(system, address)
        self.names = sync(system.loop, self._look)

    async def _look(self) -> list[str]:
        page = bytearray()
        async with self._asked({}, _REQUEST) as response:
            if response.content_type != "text/html":
                raise ValueError("the server gives no page with the folder's files")
            async for chunk in response.content.iter_chunked(_CHUNK):
                page += chunk
                if len(page) > _LONGEST_PAGE:
                    raise ValueError(f"its page of files is longer than {_LONGEST_PAGE >> 20} MiB")
            own = urlsplit(str(response.url))
        names: dict[str, None] = {}
        for match in _LINK.finditer(page.decode("utf-8", "replace")):
            with suppress(ValueError):  # it is no address
                link = urlsplit(urljoin(own.geturl(), unescape(match["link"])))
                path, folder = unquote(link.path), unquote(own.path)
                if link[:2] == own[:2] and path.startswith(folder):
                    names[path.removeprefix(folder)] = None
        return [name for name in names if _is_name(name.removesuffix("/"))]


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def _part(begin: int, end: int) -> dict[str, str]:
    return {"Range": f"bytes={begin}-{end - 1}"}


def _of_system(error: Exception) -> str:
    """What the system says of a connection that was not made."""
    number = getattr(error, "errno", None) or 0
    return os.strerror(number) if number > 0 else str(getattr(error, "strerror", None) or error)


def _whole(length: str) -> int:
    """The number of bytes that a server states."""
    if not re.fullmatch(r"\d{1,15}", length):
        raise ValueError("the server does not say how long it is")
    return int(length)
