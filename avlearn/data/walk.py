"""The files below a folder: links followed once each, hidden files left out."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path


def walk_files(
    folder: Path, passed_over: Counter[str], on_error: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Files below a folder, in stable order.

    Args:
        folder: where it begins.
        passed_over: gets how many files and folders are left out, by the reason.
        on_error: what is done about a folder that cannot be read; by default it is counted as well.

    Yields:
        Paths that begin with ``folder``. Folders by links are entered, each folder once.
    """
    seen = set()

    def count(error: OSError) -> None:
        passed_over["folders that cannot be read"] += 1

    for root, folders, files in os.walk(folder, followlinks=True, onerror=on_error or count):
        place = os.stat(root)
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            passed_over["links to folders that are there already"] += 1
            continue
        seen.add((place.st_dev, place.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        hidden = sum(name.startswith(".") for name in files)
        if hidden:
            passed_over["hidden files"] += hidden
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))
