"""Features by several models: a folder for each within one, and what is told of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avlearn.apply.embed import EmbedResult
from avlearn.apply.part_folder import is_begun, is_empty, path_text
from avlearn.errors import AvlearnError, OutputError
from avlearn.files import printable
from avlearn.remote.address import is_address


def folders_within(folder: Path, models: Sequence[str]) -> list[Path]:
    """Where features by each of several models go: in a folder, to one that has the model's name.

    Args:
        folder: for them all.
        models: their names, paths or addresses.

    Raises:
        AvlearnError: two of them have one name.
        OutputError: the folder holds something else.
    """
    names: dict[str, str] = {}
    for model in models:
        name = folder_name(model)
        if other := names.get(name.casefold()):
            what = "is given twice" if other == model else f"and --model {other} would write to one folder, {name}"
            raise AvlearnError(f"--model {model} {what}: have one of them alone")
        names[name.casefold()] = model
    if folder.is_dir():
        if is_begun(folder):
            raise OutputError(f"{folder} holds features by one model: give another folder for those by several")
        if not all(path.name.startswith(".") or _is_of_a_model(path) for path in folder.iterdir()):
            raise OutputError(f"{folder} holds other files: give a folder of its own")
    return [folder / folder_name(model) for model in models]


def _is_of_a_model(path: Path) -> bool:
    return path.is_dir() and (is_begun(path) or is_empty(path))


def folder_name(model: str) -> str:
    """A name of a model that a folder can have: of a path or an address, its last part, or the run's that it is of.

    >>> folder_name("r2plus1d_18/torchvision"), folder_name("https://host/runs/first/model/")
    ('r2plus1d_18_torchvision', 'first')
    """
    parts = [path_text(model)]
    if is_address(model) or Path(model).exists():
        path = model if is_address(model) else str(Path(model).resolve())
        parts = [part for part in path_text(path).split("/") if part]
    last = parts[-2] if parts[-1] == "model" and len(parts) > 1 else parts[-1]
    return re.sub(r"[^\w.-]", "_", last).lstrip(".") or "model"


@dataclass(frozen=True)
class EmbedResults:
    """Where the features by each of several models went."""

    results: list[EmbedResult]

    def to_dict(self) -> list[dict[str, Any]]:
        """A list of what each one's ``to_dict`` gives."""
        return [result.to_dict() for result in self.results]

    def text(self) -> str:
        """Human-readable text: why files could not be read (by which model, where another could), and what is there."""
        failed: dict[tuple[str, str], list[str]] = {}
        for result in self.results:
            for failure in result.failed:
                failed.setdefault(failure, []).append(Path(result.out).name)
        lines = []
        for (path, reason), names in failed.items():
            by = "" if len(names) == len(self.results) else f" by {', '.join(names)}"
            lines.append(f"{printable(path)}: error{by}: {reason}")
        for result in self.results:
            lines += result.counts()
        return "\n".join(lines)
