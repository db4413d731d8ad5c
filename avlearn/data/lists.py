"""Files that are named together: those of a folder, of a list in a text file, or of a manifest."""

import sys
from pathlib import Path

from avlearn.data.manifest import manifest_address, read_manifest
from avlearn.data.scan import folder_entries
from avlearn.data.tables import TABLES
from avlearn.errors import DataError, MediaError, OutputError
from avlearn.media.source import Source
from avlearn.remote.address import folder_of, is_foreign, located, suffix
from avlearn.remote.cache import local_copy
from avlearn.remote.file import AbsentError, RemoteFile
from avlearn.remote.folder import is_folder

_MOST_BYTES = 2**26  # of a list


def listed_sources(source: Path | str) -> list[Source] | None:
    """Files of a folder, of the shards in one, of a list or of a manifest; None for a file that is none of them.

    Lists, manifests and folders may lie at an address; what they name then lies there as well. A folder there with a
    ``manifest.parquet`` is that manifest.

    A list is a ``.txt``, or ``-`` for standard input: a path a line, from the list's folder on (for standard input:
    from where the command runs). Blank lines and those that begin with ``#`` are passed over; a path may stand in
    quotes.

    Raises:
        DataError: it names no file, or cannot be read.
    """
    if isinstance(source, str):
        return _listed_remote(source)
    if source.is_dir():
        if (source / "shards").is_dir() and (source / "manifest.parquet").is_file():  # clips in tar files
            return listed_sources(source / "manifest.parquet")
        return [entry.path for entry in folder_entries(source)]
    if source.suffix.lower() in TABLES:
        sources: list[Source] = [row.source for row in read_manifest(source)]
    elif str(source) == "-":
        sources = _paths(sys.stdin.buffer.read(_MOST_BYTES + 1), Path(), "standard input")
    elif source.suffix.lower() == ".txt":
        try:
            with source.open("rb") as file:
                sources = _paths(file.read(_MOST_BYTES + 1), source.parent, str(source))
        except OSError as error:
            raise DataError(f"cannot read the list {source}: {error.strerror}") from error
    else:
        return None
    if not sources:
        raise DataError(f"{source} names no file")
    return sources


def _listed_remote(address: str) -> list[Source] | None:
    if not suffix(address) or address.endswith("/"):
        return _folder_remote(address)
    if suffix(address) in TABLES:
        sources: list[Source] = [row.source for row in read_manifest(address)]
    elif suffix(address) == ".txt":
        try:
            with local_copy(address).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except (MediaError, OutputError) as error:
            raise DataError(str(error)) from error
        sources = _paths(data, folder_of(address), address)
    else:
        return None
    if not sources:
        raise DataError(f"{address} names no file")
    return sources


def _folder_remote(address: str) -> list[Source] | None:
    """Clips of the manifest of a folder at an address, or else its files; None where it is no folder."""
    try:
        if not is_folder(address):
            return None
        RemoteFile(manifest_address(address)).close()
    except AbsentError:
        return [entry.path for entry in folder_entries(address)]
    except MediaError as error:
        raise DataError(str(error)) from error
    return listed_sources(manifest_address(address))


def _paths(data: bytes, folder: Path | str, where: str) -> list[Source]:
    if len(data) > _MOST_BYTES:
        raise DataError(f"{where} is longer than {_MOST_BYTES >> 20} MB: that is no list")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # of PowerShell
    # Names that are not UTF-8 are those of Unix, byte by byte.
    text = (
        data.decode("utf-16", "replace")
        if wide
        else data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    )
    sources: list[Source] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line[0] == line[-1] and line[0] in "'\"" and len(line) > 2:
            line = line[1:-1]
        if "\0" in line:
            raise DataError(f"{where}, line {number}: holds a zero character: that is no list")
        if isinstance(folder, str) and is_foreign(folder, line):
            raise DataError(f"{where}, line {number}: what is remote names no files here, and none above itself")
        sources.append(located(folder, line))
    return sources
