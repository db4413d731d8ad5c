"""Whole released systems that are known by name: ``systems.json``, and their files in the cache."""

import json
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from avlearn.errors import ModelError
from avlearn.models.weights.download import Hash, cache_folder, fetch_to, hold_to_first


@dataclass(frozen=True)
class SystemFile:
    """A file of a system.

    Attributes:
        name: what it is called in the cache.
        megabytes: about how large it is.
        address: where it is fetched from; empty where that takes a browser.
        page: where a person gets it, for a file without an address.
        hash: as published, ``md5=...`` or ``sha256=...``, or its first digits; empty where none is.
    """

    name: str
    megabytes: int
    address: str = ""
    page: str = ""
    hash: str = ""

    @property
    def stated(self) -> Hash | None:
        """The published hash."""
        return Hash(*self.hash.split("=")) if self.hash else None


@dataclass(frozen=True)
class ReleasedSystem:
    """A published network, or several that work together, and what it takes to use it by name.

    Attributes:
        name: what ``--model`` takes.
        title: what it is called where it answers.
        task: the command that it is for: ``sync``, ``localize`` or ``separate``.
        paper: who published it, where, and when.
        licence: of the authors' code.
        use: what it is good for, in a line.
        opener: ``module:function`` of what makes it of the paths of its files.
        files: in the order in which the opener takes them.
        options: keyword arguments of the opener.
    """

    name: str
    title: str
    task: str
    paper: str
    licence: str
    use: str
    opener: str
    files: tuple[SystemFile, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def megabytes(self) -> int:
        """Of all files, about."""
        return sum(file.megabytes for file in self.files)

    @property
    def download(self) -> str:
        """How its files come: ``automatic``, fetched when they are asked for, some ``by hand``, or ``none``."""
        if not self.files:
            return "none"
        return "automatic" if all(file.address for file in self.files) else "by hand"

    @property
    def folder(self) -> Path:
        """Where its files are kept, which may be put there by hand."""
        return cache_folder() / self.name


@cache
def released_systems() -> dict[str, ReleasedSystem]:
    """All that are known, by name."""
    known = json.loads(Path(__file__).with_name("systems.json").read_text())
    return {
        name: ReleasedSystem(**{**values, "name": name, "files": tuple(SystemFile(**file) for file in values["files"])})
        for name, values in known.items()
    }


def system_files(system: ReleasedSystem) -> list[Path]:
    """The files of a system from the cache, in order; what is not there and has an address is fetched.

    Each is held to its published hash, or to what it was when it was first used.

    Raises:
        ModelError: a file cannot be had (the line says from where a person gets it, and into which folder it goes), or
            is another.
    """
    absent = [file for file in system.files if not file.address and not (system.folder / file.name).is_file()]
    if absent:
        names, pages = ", ".join(file.name for file in absent), ", ".join(dict.fromkeys(file.page for file in absent))
        raise ModelError(
            f"{system.title} needs {names}, which takes a browser: get it from {pages} and put it into {system.folder}"
        )
    return [_had(system, file) for file in system.files]


def _had(system: ReleasedSystem, file: SystemFile) -> Path:
    path, stated = system.folder / file.name, file.stated
    if path.is_file():
        if stated is None:
            hold_to_first(path)
        else:
            stated.check(path, str(path))
        return path
    print(f"fetching {file.name} of {system.title}, about {file.megabytes} MB, to {path}", file=sys.stderr)
    return fetch_to(path, file.address, stated)
