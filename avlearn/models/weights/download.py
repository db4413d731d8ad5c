"""Weight files from the net, each fetched once and whole, and checked against the hash that goes with it."""

import hashlib
import http.client
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import urlsplit

from avlearn.errors import MediaError, ModelError, OutputError
from avlearn.files import write_text
from avlearn.lock import locked
from avlearn.remote.address import is_address, is_web
from avlearn.remote.cache import local_copy

# As torchvision and OpenMMLab publish: the first digits of the file's SHA-256 end its name.
_NAMED = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
_PINNED = re.compile(r"(sha256)=([0-9a-fA-F]{8,64})|(md5)=([0-9a-fA-F]{32})")
_ADDRESS = re.compile(r"https?://[!-~]+")  # what may stand in one; the rest is written with percent signs
_TRIES, _TIMEOUT = 5, 30  # the latter in seconds without a byte
_CHUNK = 2**20
_UNCHECKED = "no hash goes with it, so what comes is not checked"
_CUT = (TimeoutError, ConnectionError, http.client.IncompleteRead)  # after these the rest is asked for


@dataclass(frozen=True)
class Hash:
    """The digest that a file is to have: the name of a hash function, and the first digits of its value."""

    function: str
    digits: str

    def check(self, path: Path, source: str) -> None:
        """Raises ModelError if a file is another."""
        found = _digest(path, self.function)
        if not found.startswith(self.digits):
            said = f"its {self.function} is {found}, not {self.digits}"
            raise ModelError(f"{source} is not the file that was published: {said}")


def require_source(source: str, encoder: str, known: Collection[str]) -> None:
    """Raise ModelError where weights are neither there, nor an address, nor among those that are known by name."""
    if source not in known and not is_address(source) and not Path(source).exists():
        names = ", ".join(known) or "none"
        raise ModelError(f"there is no weight file {source}; weights of {encoder} that can be fetched by name: {names}")


def download(address: str) -> Path:
    """A file, from the cache where it is there already and whole (PyTorch's, or Hugging Face's).

    What a break leaves is kept, and its rest is asked for the next time, if a hash tells that it belongs together.

    Args:
        address: ``https://...``, its hash in its name as torchvision has it, or behind it (``...#sha256=0123abcd...``,
            ``#md5=...``; without one a line on stderr says that the file is not checked); ``http://...`` only with a
            hash; ``hf://OWNER/REPOSITORY[/FILE]``, where the hash is what the hub states; or what fsspec opens, like
            ``s3://...``, which is kept with other remote files.

    Raises:
        ModelError: it cannot be had, is cut short, or is not what the hash says.
    """
    if address.startswith("hf://"):
        return _from_hub(address)
    if not is_web(address):
        print(f"{address}: {_UNCHECKED}", file=sys.stderr)
        try:
            return local_copy(address)
        except (MediaError, OutputError) as error:
            raise ModelError(f"cannot fetch {error}") from error
    stated, name = _parse(address)
    return fetch_to(cache_folder() / name, address, stated)


def cache_folder() -> Path:
    """Where weight files are kept: PyTorch's folder, below ``TORCH_HOME``."""
    import torch  # heavy: lists of what can be fetched do without

    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch_to(path: Path, address: str, stated: Hash | None) -> Path:
    """`download` to a path, unless the file is there already and whole.

    Args:
        path: of the cache.
        address: ``https://...`` or, where a hash is stated, ``http://...``.
        stated: the hash that the file is to have; without, it is held to what it was when it came.

    Raises:
        ModelError: as `download`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_whole(path, stated):
            return path
        part = path.with_name(f".{path.name}.part")
        with locked(path.with_name(f".{path.name}.lock"), wait=True):
            if _is_whole(path, stated):  # another process fetched it meanwhile
                return path
            if stated is None:
                print(f"{address}: {_UNCHECKED}", file=sys.stderr)
            _fetch(address, path, part, stated)
            _write_record(path, part, address)
            part.replace(path)
    except OSError as error:
        raise ModelError(f"cannot keep {path}: {error.strerror or error}") from error
    return path


def hold_to_first(path: Path) -> None:
    """Hold a file of the cache to the length and the hash that it had when it was first used, or came.

    Raises:
        ModelError: it has others now.
    """
    if not _record(path).is_file():  # a person put it there
        try:
            _write_record(path, path, "")
        except OSError as error:
            raise ModelError(f"cannot keep {_record(path)}: {error.strerror or error}") from error
    elif not _is_whole(path, None):
        raise ModelError(
            f"{path} is not the file that it was when it was first used: get it again, or remove {_record(path).name} "
            "beside it to use it as it is"
        )


def _parse(address: str) -> tuple[Hash | None, str]:
    """The hash that goes with an address, and the name that its file is kept under."""
    if not _ADDRESS.fullmatch(address):
        raise ModelError(f"'{address}' is no address: spaces and letters beyond ASCII are written as %20, ...")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ModelError(f"'{address}' is no address: {error}") from error
    name = Path(parts.path).name
    if not host or not name:
        raise ModelError(f"'{address}' is no address of a file: it names no {'file' if host else 'host'}")
    stated = None
    if parts.fragment:
        match = _PINNED.fullmatch(parts.fragment)
        if match is None:
            raise ModelError(f"'{address}': what stands behind # is neither sha256=... nor md5=...")
        stated = Hash(match[1] or match[3], (match[2] or match[4]).lower())
    elif match := _NAMED.search(name):
        stated = Hash("sha256", match[1])
    if stated is None and parts.scheme == "http":
        raise ModelError(f"{address}: http without a hash can be anything; use https, or write #sha256=... behind it")
    if not _NAMED.search(name):
        # Repositories have files of the same name in several folders.
        name = f"{hashlib.sha256(address.encode()).hexdigest()[:8]}_{name}"
    if len(name) > 200:
        raise ModelError(f"'{address}' is no address of a file: its name has more than 200 letters")
    return stated, name


def _record(path: Path) -> Path:
    """Where it stands what a file of the cache was when it came."""
    return path.with_name(f"{path.name}.json")


def _write_record(path: Path, file: Path, address: str) -> None:
    """Write what a file of the cache is, which may still be in another place."""
    record = {"address": address, "bytes": file.stat().st_size, "sha256": _digest(file, "sha256")}
    write_text(_record(path), json.dumps(record) + "\n")


def _is_whole(path: Path, stated: Hash | None) -> bool:
    """Whether the cache has a file, and all of it as it was published or, without a hash, as it came."""
    if not path.is_file():
        return False
    if stated is not None:
        return _digest(path, stated.function).startswith(stated.digits)
    try:
        record = json.loads(_record(path).read_text())
        return record["bytes"] == path.stat().st_size and record["sha256"] == _digest(path, "sha256")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(path: Path, function: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, function).hexdigest()


def _fetch(address: str, path: Path, part: Path, stated: Hash | None) -> None:
    """Fetch a file, or the rest of it, for a path, and check it.

    Raises:
        ModelError: it cannot be had or is another; what came is kept after a break alone.
    """
    if stated is None:  # nothing tells whether what is there belongs to it
        part.unlink(missing_ok=True)
    resumed = part.is_file()
    try:
        for left in reversed(range(_TRIES)):
            try:
                _fetch_rest(address, part)
                break
            except _CUT:
                if not left:
                    raise
                if stated is None:
                    part.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error).strip() or type(error).__name__
        by_hand = f"without a network, put {path.name} into {path.parent} by hand"
        raise ModelError(f"cannot fetch {address}: {reason}; {by_hand}") from error
    if stated is not None:
        try:
            stated.check(part, address)
        except ModelError:
            part.unlink()
            if not resumed:
                raise
            _fetch(address, path, part, stated)  # once more, from its beginning


def _fetch_rest(address: str, part: Path) -> None:
    """Append what a part file lacks."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address.partition("#")[0], headers={"User-Agent": "avlearn"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = _open(request)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:
            raise
        part.unlink()  # longer than the file
        return _fetch_rest(address, part)
    with response, part.open("ab") as file:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ValueError("the server sends it compressed, though it was not asked to")
        if response.status != 206:
            file.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        if length is None and not response.chunked:
            raise ValueError("the server does not say how long it is")
        if length is not None and not re.fullmatch(r"\d{1,15}", length):
            raise ValueError(f"the server says that it has '{length}' bytes")
        if have and not re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
            raise ValueError("the server sends another part than was asked for")
        came = _copy(response, file)
        if length is not None and came < int(length):
            raise http.client.IncompleteRead(b"", int(length) - came)


def _copy(response: http.client.HTTPResponse, file: BinaryIO) -> int:
    """Write what comes; the number of bytes."""
    came = 0
    while chunk := response.read1(_CHUNK):
        file.write(chunk)
        came += len(chunk)
    return came


class _NoWayDown(urllib.request.HTTPRedirectHandler):
    """Redirects, but from https to https only, and nowhere else than to the web."""

    def redirect_request(
        self,
        request: urllib.request.Request,
        file: IO[bytes],
        code: int,
        message: str,
        headers: http.client.HTTPMessage,
        address: str,
    ) -> urllib.request.Request | None:
        if not address.startswith("https://") and not (
            address.startswith("http://") and request.full_url.startswith("http://")
        ):
            raise ValueError(f"the server sends on to {address}, which is not https")
        return super().redirect_request(request, file, code, message, headers, address)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    return urllib.request.build_opener(_NoWayDown).open(request, timeout=_TIMEOUT)


def _from_hub(address: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise ModelError(f"{address}: to fetch from the hub, install huggingface_hub") from error

    owner, _, rest = address.removeprefix("hf://").partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository or not address.isascii() or not address.isprintable():
        raise ModelError(f"'{address}' is no repository of the hub: write hf://OWNER/REPOSITORY")
    try:
        try:
            # Whichever version is newest, held to the hub's hash of it below, and data whatever it holds.
            path = Path(hf_hub_download(f"{owner}/{repository}", file or "model.safetensors"))  # nosec B615
        except EntryNotFoundError as error:
            if file or isinstance(error, LocalEntryNotFoundError):  # the latter: there is no connection
                raise
            path = Path(hf_hub_download(f"{owner}/{repository}", "pytorch_model.bin"))  # nosec B615
    except Exception as error:  # its releases speak through different libraries, whose errors have nothing in common
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"cannot fetch {address}: {said}") from error
    # The hub's cache names large files by the hash that the hub states, and small ones by Git's.
    stated = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", stated):
        Hash("sha256", stated).check(path, address)
    elif re.fullmatch(r"[0-9a-f]{40}", stated):
        data = path.read_bytes()
        if hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() != stated:
            raise ModelError(f"{address} is not the file that was published: Git's hash of it is another")
    else:
        print(f"{address}: {_UNCHECKED}", file=sys.stderr)
    return path
