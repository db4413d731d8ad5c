"""Readers of published corpora: their lists and folders as entries of a manifest.

What each corpus looks like on disk, what its labels, events and splits are, and who publishes it, is said by its
reader's docstring.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avlearn.data.corpora import actions, kinetics, sounds, timed, youtube, youtube8m
from avlearn.data.corpora.tree import Tree
from avlearn.data.manifest import Entry
from avlearn.errors import DataError
from avlearn.names import hint
from avlearn.plugins import HINT, load_plugins

_READERS = {
    name: reader
    for room in (actions, kinetics, sounds, timed, youtube, youtube8m)
    for name, reader in room.READERS.items()
}


def register_corpus(name: str, reader: Callable[..., list[Entry]]) -> None:
    """Make a corpus available to `read_corpus`.

    Args:
        name: of the corpus.
        reader: called with the folder of the media files and that of the published lists, both as a
            `avlearn.data.corpora.tree.Tree`, and with the corpus' own options; gives its entries.

    Raises:
        ValueError: another corpus has that name.
    """
    if name in _READERS:
        raise ValueError(f"there are two corpora of the name '{name}'")
    _READERS[name] = reader


def list_corpora() -> list[str]:
    """Names that `read_corpus` knows, in alphabetical order; those of plugins too."""
    load_plugins()
    return sorted(_READERS)


def read_corpus(name: str, folder: str | Path, annotations: str | Path | None = None, **options: Any) -> list[Entry]:
    """What a published corpus lists, in the order of its lists; no media file is opened.

    Args:
        name: one of `list_corpora`.
        folder: where the media files lie, in any arrangement that the corpus is found in.
        annotations: folder of the published lists, if it is another.
        options: of this corpus alone, such as ``fold=2`` for UCF101.

    Returns:
        An entry for each clip that is listed, also for those whose file is not there: its path is then where it
        would be.

    Raises:
        DataError: the corpus or an option is unknown; a list is missing, with its name and where it is offered; or
            a row of a list cannot be read, with the file and the line.
    """
    if name not in list_corpora():
        raise DataError(f"there is no corpus '{name}'{hint(name, list_corpora())}; {HINT}")
    reader = _READERS[name]
    known = list(inspect.signature(reader).parameters)[2:]
    for option in options:
        if option not in known:
            raise DataError(f"{name} has no option '{option}'{hint(option, known)}")
    media = Tree(folder)
    entries: list[Entry] = reader(media, media if annotations is None else Tree(annotations), **options)
    return entries
