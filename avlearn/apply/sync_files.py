"""Synchronization of many files in parallel processes: what cannot be read is a row, not the end."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from avlearn.apply.sync import SyncResult, sync_file
from avlearn.data.resumable import CRASHED, in_processes
from avlearn.errors import MediaError
from avlearn.files import printable
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load

if TYPE_CHECKING:  # the networks load slowly, and few ask them
    from avlearn.apply.released_sync import Crop, Network

EXIT_CODES = {"in sync": 0, "out of sync": 1, "undecidable": 3, "error": 2}
_WORST = ("in sync", "out of sync", "undecidable", "error")


@dataclass(frozen=True)
class SyncFailure:
    """A file that could not be measured: its path, and why."""

    path: str
    reason: str
    status: str = "error"

    def to_dict(self) -> dict:
        """JSON types."""
        return {"schema": "avlearn.sync/2", "path": self.path, "status": self.status, "reason": self.reason}

    def text(self, advice: bool = True) -> str:
        """For people, as `SyncResult.text`."""
        return f"{printable(self.path)}: error: {self.reason}"


@dataclass(frozen=True)
class SyncTable:
    """Results of many files, in their order."""

    results: list[SyncResult | SyncFailure]

    @property
    def worst(self) -> str:
        """Of in sync, out of sync, undecidable, error: the last that occurs."""
        return max((result.status for result in self.results), key=_WORST.index, default="in sync")

    def to_dict(self) -> list[dict]:
        """A list of what each file's ``to_dict`` gives."""
        return [result.to_dict() for result in self.results]

    def text(self) -> str:
        """A row a file with what others say below it, how many there are of each status, and what may help."""
        rows = [("status", "offset", "drift", "edits", "confidence", "file"), *map(_row, self.results)]
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[5]]) for row in rows]
        said = [[], *([f"  {a.text()}" for a in getattr(result, "others", ())] for result in self.results)]
        lines = [line for row, answers in zip(lines, said, strict=True) for line in (row, *answers)]
        counts = {status: sum(r.status == status for r in self.results) for status in _WORST}
        advice = dict.fromkeys(a for result in self.results for a in getattr(result, "advice", ()))
        counted = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        return "\n".join([*lines, counted, *(f"note: {clause}" for clause in advice)])


def _row(result: SyncResult | SyncFailure) -> tuple[str, ...]:
    if isinstance(result, SyncFailure):
        return result.status, "", "", "", "", f"{printable(result.path)} ({result.reason})"
    offset = "" if result.offset is None else f"{result.offset * 1000:+.0f} ms"
    drift = f"{result.drift:+.0f} ms/min" if result.drift else ""
    edits = str(len(result.steps)) if result.steps else ""
    reason = f" ({result.reason})" if result.reason else ""
    sure = f"{result.confidence:.2f}{'' if result.calibrated else ', not calibrated'}"
    return result.status, offset, drift, edits, sure, printable(result.path) + reason


def sync_files(
    paths: Sequence[Source],
    model: str,
    *,
    max_offset: float | None = None,
    tolerance: float = 0.04,
    released: Sequence[Path] = (),
    crop: "Crop | None" = None,
    workers: int | None = None,
    device: str = "cpu",
    precision: str = "32",
) -> Generator[tuple[int, SyncResult | SyncFailure], None, None]:
    """`sync_file` for many files; close the generator to end the processes at once.

    Args:
        paths: the files.
        model: name or folder, as for `avlearn.load`.
        max_offset, tolerance: as for `sync_file`.
        released: weight files of networks to ask, too (see `load_released`); every process holds them.
        crop: as for `avlearn.apply.released_sync.sync_with_released`.
        workers: processes of one thread each; all cores by default, and one where an accelerator does the work.
        device, precision: as for `avlearn.load`.

    Raises:
        ModelError: there is no such model, or no such network.

    Yields:
        Number of a file and its result, as they get done.
    """
    # What is wrong is wrong for all files.
    if load(model, device, precision).device.type != "cpu":
        workers = workers or 1
    for path in released:
        _loaded_network(path)
    work = partial(_sync_one, (model, device, precision), max_offset, tolerance, tuple(released), crop)
    for number, result in in_processes(work, paths, workers):
        if result is CRASHED:
            result = SyncFailure(str(paths[number]), "the process died of it")
        yield number, result


@lru_cache(maxsize=1)
def _loaded(model: tuple[str, str, str]) -> AudioVisual:
    torch.set_num_threads(1)
    return load(*model)


@cache
def _loaded_network(path: Path) -> "Network":
    from avlearn.apply.released_sync import load_released

    return load_released(path)


def _sync_one(
    model: tuple[str, str, str],
    max_offset: float | None,
    tolerance: float,
    released: tuple[Path, ...],
    crop: "Crop | None",
    path: Source,
) -> SyncResult | SyncFailure:
    try:
        result = sync_file(path, _loaded(model), max_offset=max_offset, tolerance=tolerance)
        if released:
            from avlearn.apply.released_sync import sync_with_released

            result = replace(
                result, others=sync_with_released(path, [_loaded_network(file) for file in released], crop)
            )
        return result
    except MediaError as error:
        return SyncFailure(str(path), str(error).removeprefix(printable(path)).lstrip(": "))
