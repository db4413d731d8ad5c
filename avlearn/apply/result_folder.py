"""Results of a tool for very many files: a row a file, in a folder of Parquet files that a run goes on from."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from avlearn import __version__
from avlearn.apply.part_folder import PartFolder, path_text
from avlearn.apply.run_many import ERROR, WORSE, Failure, InferenceOptions, Tool
from avlearn.data.part import Part
from avlearn.files import printable
from avlearn.media.source import Source

FORMAT = "avlearn.results/1"


class ResultFolder(PartFolder):
    """A `PartFolder` of results: of each file ``path``, ``status``, ``reason`` ("" but for errors), and ``result``.

    The last is the JSON that a command writes of the file. What could not be worked on is tried again by the next run.

    Args:
        folder: made where it is not there.
        tool, inference, options: as for `avlearn.apply.run_many.run_many`.
        part: of the files; others may write to the folder at the same time.

    Raises:
        OutputError: the folder holds something else, results of other options, or cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        tool: Tool,
        inference: InferenceOptions,
        options: Mapping[str, object],
        part: Part | None = None,
    ):
        self._tool, self._asked = tool, set[str]()
        about = {
            "format": FORMAT, "results": tool.schema, "version": __version__, "model": inference.model,
            "files": _state(inference.model), "precision": inference.precision,
            "audio": [inference.track, inference.channel],
            "options": json.loads(json.dumps(dict(options), default=repr)),
        }  # fmt: skip
        super().__init__(folder, about, "results", part)

    def missing(self, sources: Sequence[Source]) -> list[Source]:
        """As `PartFolder.missing`; `summary` is of these files."""
        self._asked |= {path_text(str(source)) for source in sources}
        return super().missing(sources)

    def _is_done(self, name: str, mark: str) -> bool:
        return super()._is_done(name, mark) and self._done[name][1][1] != ERROR

    def add(self, result: Any) -> None:
        """Keep a file's result, or its `Failure`; it is written when there are enough of them, or after a minute."""
        failed = isinstance(result, Failure)
        status = "error" if failed else self._tool.status(result)
        name = path_text(str(result.path))
        row = {
            "path": name,
            "status": status,
            "reason": path_text(result.reason) if failed else "",
            "result": json.dumps(result.to_dict()),
        }
        note = [status, ERROR if failed else self._tool.exit_code(result)]
        self.add_rows(name, pyarrow.Table.from_pylist([row]), note)

    def summary(self) -> "ResultSummary":
        """How many of the files that were asked for are there, by their status; others' parts are not counted."""
        notes = [self._done[name][1] for name in self._asked & self._done.keys()]
        counts = Counter(status for status, _ in notes)
        codes = {code for _, code in notes}
        return ResultSummary(
            str(self.folder),
            dict(sorted(counts.items(), key=lambda it: (-it[1], it[0]))),
            max(codes, key=WORSE.index, default=0),
        )


def _state(model: str) -> str:
    """What changes when the files of a model's folder do; "" of one that is known by its name."""
    folder = Path(model)
    if not folder.exists():
        return ""
    files = sorted(path for path in (folder, *folder.rglob("*")) if path.is_file())
    marks = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(marks).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class ResultSummary:
    """Where results are, how many files have each status, and the command's exit code: the worst of the files'."""

    folder: str
    counts: dict[str, int]
    exit_code: int

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"schema": FORMAT, "results": self.folder, "files": sum(self.counts.values()), "counts": self.counts}

    def text(self) -> str:
        """Human-readable text."""
        told = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        return f"wrote {printable(self.folder)}: {told or 'no files'}"
