"""Names of files and the one way to write them: checked before the work, whole or not there at all."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from avlearn.errors import AvlearnError, OutputError

_JOINERS = "\u200c\u200d"  # zero width non-joiner, and joiner


def printable(name: object) -> str:
    """A file's name with its control characters escaped: names come from strangers, and terminals obey them.

    What joins letters, and emoji to one, is kept: it is a part of words.
    """
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape", "surrogatepass").decode()
        for c in str(name)
    )


def reason_of(error: AvlearnError, name: object) -> str:
    """What an error says of a file, without the file's name before it."""
    return str(error).removeprefix(printable(name)).lstrip(": ")


def in_bytes(size: float) -> str:
    """A size in words: ``1.8 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.{0 if size >= 100 or unit == 'bytes' else 1}f} {unit}"


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; not where no file could have that name."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero
        return False


def unfinished(path: str | Path) -> Path:
    """The name that a file, or a folder of files that appear together, has while it is written."""
    path = Path(path)
    return path.with_name(f".{path.stem}.part{path.suffix}")


def drop_unfinished(path: str | Path) -> None:
    """Remove what a killed process had begun to write to a file, or to a folder of files that appear together."""
    part = unfinished(path)
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[Path]:
    """A name to write to beside ``path``; renamed to it when all went well, removed otherwise.

    Args:
        path: of the file.
        errors: what a library that writes there raises when the disk is full or the file cannot be written.

    Raises:
        OutputError: what the disk, or the library, said.
    """
    path, part = Path(path), unfinished(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give a file's name")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    try:
        yield part
        part.replace(path)
    except errors as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"cannot write {path}: {reason}") from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file at once. Raises OutputError if it cannot be written."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def check_output(
    path: str | Path, suffixes: Collection[str] = (), inputs: Collection[str | Path] = (), overwrite: bool = False
) -> Path:
    """Check that a file can be written, before the work that it is the result of.

    Args:
        path: of the file.
        suffixes: those that the writer knows, lower case, with their dots; empty: any.
        inputs: files that are read: none of them is written over, whatever ``overwrite`` says.
        overwrite: whether a file that is there may be replaced.

    Raises:
        OutputError: the suffix is missing or unknown, the folder is missing or cannot be written to, the file is one of
            the inputs, or there already.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {path}: its name must end in one of {', '.join(sorted(suffixes))}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give a file's name")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} is not writable")
    if path.exists():
        if any(Path(other).exists() and path.samefile(other) for other in inputs):
            raise OutputError(f"{path} is the input: give the output another name")
        if not overwrite:
            raise OutputError(f"{path} is there already: give another name, or --overwrite")
    return path


def sweep(folder: Path) -> None:
    """Remove what killed processes had begun to write with `replacing` anywhere in a folder that is ours alone."""
    for part in folder.rglob(".*.part.*"):
        part.unlink(missing_ok=True)


def check_folder(folder: str | Path, patterns: Collection[str] = (), overwrite: bool = False) -> Path:
    """Check that files can be written to a folder, which may be made for them, before the work.

    Args:
        folder: where they go.
        patterns: of the files' names.
        overwrite: whether files of such names may be replaced.

    Raises:
        OutputError: it is a file, cannot be made or written to, or holds such files already.
    """
    folder = Path(folder)
    there = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), folder)
    if not there.is_dir():
        raise OutputError(f"cannot write to {folder}: {there} is a file, give a folder's name")
    if not os.access(there, os.W_OK):
        raise OutputError(f"cannot write to {folder}: the folder {there} is not writable")
    earlier = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
    if earlier and not overwrite:
        raise OutputError(f"{folder} holds {earlier[0]} already: give another folder, or --overwrite")
    return folder
