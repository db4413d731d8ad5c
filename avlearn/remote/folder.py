"""Files of folders at addresses, as far as a listing tells."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from avlearn.errors import MediaError
from avlearn.files import printable
from avlearn.remote.address import is_address, is_foreign, is_web, located
from avlearn.remote.file import AbsentError, tried, version_of

_MOST_FILES = 2_000_000
_MOST_PAGES = 20_000  # of a web server, a folder each
_DEEPEST = 32  # folders in each other, on a web server


@dataclass(frozen=True)
class Listed:
    """A file of a folder.

    Attributes:
        address: of the file.
        parts: of its path from the folder on.
        version: what changes when it does, as far as the listing tells; "" on web servers.
    """

    address: str
    parts: tuple[str, ...]
    version: str


def is_folder(address: str) -> bool:
    """Whether an address is that of a folder: on the web one that ends with a slash, elsewhere what the store says.

    Raises:
        MediaError: the store cannot be asked.
    """
    if is_web(address):
        return address.endswith("/")
    system, path = _system(address)
    return tried(address, lambda: bool(system.isdir(path)))


def list_folder(address: str, passed_over: Counter[str]) -> list[Listed]:
    """Files below a folder, by their paths; hidden ones are left out.

    Args:
        address: of the folder; one on the web has a page that links to what lies in it.
        passed_over: gets how many files and folders are left out, by the reason.

    Raises:
        MediaError: it cannot be listed, or holds too much.
    """
    files = []
    for name, version in _on_the_web(address) if is_web(address) else _in_a_store(address):
        parts = tuple(name.split("/"))
        if any(part.startswith(".") and part not in (".", "..") for part in parts):
            passed_over["hidden files"] += 1
        elif is_address(name) or is_foreign(address, name) or not all(parts) or "." in parts:
            passed_over["names that lead elsewhere"] += 1
        else:
            files.append(Listed(str(located(_with_slash(address), name)), parts, version))
    return sorted(files, key=lambda file: file.parts)


def _in_a_store(address: str) -> list[tuple[str, str]]:
    """Paths from the folder on, and versions."""
    system, path = _system(address)
    found = tried(address, lambda: system.find(path, detail=True))
    if len(found) > _MOST_FILES:
        raise MediaError(f"{printable(address)} holds more than {_MOST_FILES} files: give folders in it")
    root = str(path).rstrip("/") + "/"
    names = {name: info for name, info in found.items() if name.startswith(root)}
    if not names and not tried(address, lambda: bool(system.isdir(path))):
        raise AbsentError(f"{printable(address)} is no folder, or there is none")
    return [(name[len(root) :], f"{info.get('size')} {version_of(info)}") for name, info in names.items()]


def _on_the_web(address: str) -> list[tuple[str, str]]:
    files: list[tuple[str, str]] = []
    folders, pages = [""], 0
    while folders:
        folder = folders.pop()
        pages += 1
        if pages > _MOST_PAGES or folder.count("/") > _DEEPEST or len(files) > _MOST_FILES:
            raise MediaError(f"{printable(address)} holds too many files, or folders in folders: give folders in it")
        for name in _names(str(located(_with_slash(address), folder))):
            if not name.endswith("/"):
                files.append((folder + name, ""))
            elif not name.startswith("."):
                folders.append(folder + name)
    return files


def _names(address: str) -> list[str]:
    from avlearn.remote.http import IndexPage

    system, path = _system(address)
    return tried(address, lambda: IndexPage(system, path).names)


def _system(address: str) -> tuple[Any, Any]:
    def found() -> tuple[Any, Any]:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
        return system, path

    return tried(address, found)


def _with_slash(address: str) -> str:
    head, chain, rest = address.partition("::")
    return (head if head.endswith("/") else f"{head}/") + chain + rest
