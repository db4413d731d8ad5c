"""Addresses as text: which names are some, and what a path beside another file's address is."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEB = ("http", "https")


def is_address(name: object) -> bool:
    """Whether a name is an address, like ``s3://bucket/clip.mp4``, and not a path."""
    return isinstance(name, str) and _SCHEME.match(name) is not None


def scheme(address: str) -> str:
    """Such as ``https``."""
    return address.partition("://")[0]


def is_web(address: str) -> bool:
    """Whether a web server is asked for it."""
    return scheme(address) in _WEB and "::" not in address


def suffix(address: str) -> str:
    """Of the file's name, in small letters, with its dot; "" without one."""
    return PurePosixPath(_named(address)).suffix.lower()


def file_name(file: Path | str) -> str:
    """The last part of a path or an address."""
    if isinstance(file, Path):
        return file.name
    name = PurePosixPath(_named(file)).name
    return unquote(name) if scheme(file) in _WEB else name


def folder_of(file: Path | str) -> Path | str:
    """Where a file, or a folder, lies; of an address with the archive behind it that it is in."""
    if isinstance(file, Path):
        return file.parent
    named, (_, chain, rest) = _named(file), file.partition("::")
    head = named.rstrip("/")
    above = named if head.endswith(":") else head[: head.rindex("/") + 1]
    return above + chain + rest


def located(folder: Path | str, name: str) -> Path | str:
    """A file by its path from a folder, or by its address, which stays what it is.

    Args:
        folder: as `folder_of` gives it.
        name: a path from there on, or an address.
    """
    if is_address(name):
        return name
    if isinstance(folder, Path):
        return folder / name
    head, chain, rest = folder.partition("::")
    return head + (quote(name) if scheme(head) in _WEB else name) + chain + rest


def is_foreign(folder: str, name: str) -> bool:
    """Whether what lies at an address must not name a file so: it may name those below its folder, and addresses.

    Those have the folder's scheme, or https. Files of the machine that reads it are none of them.
    """
    if "::" in name or ".." in re.split(r"[/\\]", name):
        return True
    if is_address(name):
        return "::" in folder or scheme(name) not in {scheme(folder), "https"}
    return name.startswith(("/", "\\", "~"))


def _named(address: str) -> str:
    """An address without the archive that it is in, and without what a web server is told beside the file's name."""
    head = address.partition("::")[0]
    return re.split("[?#]", head)[0] if scheme(head) in _WEB else head
