"""Files that have to stay what they are while they are read: a result of two of them would be of neither."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from avlearn.errors import MediaError
from avlearn.files import printable
from avlearn.media.open_file import OpenFile, Slice
from avlearn.media.source import Source, file_of

P = ParamSpec("P")
S = TypeVar("S", bound=Source)
R = TypeVar("R")


def unchanged(read: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a function that reads a file, its first argument, raise MediaError where that was changed meanwhile.

    A file counts as changed that was replaced, written to or deleted; one that is held open, that was written to.
    """

    @wraps(read)
    def checked(source: S, *args: P.args, **kwargs: P.kwargs) -> R:
        with staying(source):
            return read(source, *args, **kwargs)

    return cast("Callable[Concatenate[S, P], R]", checked)  # its first argument may be named, too


@contextmanager
def staying(source: Source) -> Iterator[None]:
    """What is done within raises MediaError, as by `unchanged`, where the file was changed meanwhile."""
    before, error = _state(source), None
    try:
        yield
    except MediaError as failure:
        error = failure
    if _state(source) != before:
        raise MediaError(f"{printable(source)} was changed while it was read: try again") from error
    if error:
        raise error


def _state(source: Source) -> tuple[int, ...] | None:
    """What changes with a file; None where there is none, and of one that is held open and has no path."""
    file = file_of(source)
    if isinstance(file, OpenFile):
        return file.state()
    try:
        status = os.stat(file.path if isinstance(file, Slice) else file)
    except (OSError, ValueError):  # a name may be too long, or hold a zero
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
