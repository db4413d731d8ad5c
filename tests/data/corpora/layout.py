"""Lays out small corpora as they are published, and shows entries briefly."""

from collections.abc import Sequence
from pathlib import Path

from avlearn.data.manifest import Entry


def lay(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files by their path below a folder, byte for byte; returns the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def brief(entries: Sequence[Entry], folder: Path) -> list[tuple]:
    """Path below the folder, labels joined, split."""
    return [(str(e.path.relative_to(folder)), "+".join(e.labels), e.split) for e in entries]
