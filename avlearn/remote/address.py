"""Addresses as text: which names are some, and what a path beside another file's address is."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import quote

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


def folder_of(address: str) -> str:
    """What stands before the file's name, with the archive behind it that it is in: `located` begins there."""
    named, (_, chain, rest) = _named(address), address.partition("::")
    return named[: named.rindex("/") + 1] + chain + rest


def located(folder: Path | str, name: str) -> Path | str:
    """A file by its path from a folder, or by its address, which stays what it is.

    Args:
        folder: a path, or what `folder_of` gives.
        name: a path from there on, or an address.
    """
    if is_address(name):
        return name
    if isinstance(folder, Path):
        return folder / name
    head, chain, rest = folder.partition("::")
    return head + (quote(name) if scheme(head) in _WEB else name) + chain + rest


def _named(address: str) -> str:
    """An address without the archive that it is in, and without what a web server is told beside the file's name."""
    head = address.partition("::")[0]
    return re.split("[?#]", head)[0] if scheme(head) in _WEB else head
