"""Results of a tool for very many files: a row a file, in a folder of Parquet files that a run goes on from."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from avlearn import __version__
from avlearn.apply.part_folder import PartFolder, path_text
from avlearn.apply.run_many import ERROR, WORSE, Failure, InferenceOptions, Tool
from avlearn.data.part import Part
from avlearn.files import printable

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
        self._tool = tool
        about = {
            "format": FORMAT, "results": tool.schema, "version": __version__, "model": inference.model,
            "precision": inference.precision, "audio": [inference.track, inference.channel],
            "options": json.loads(json.dumps(dict(options), default=repr)),
        }  # fmt: skip
        super().__init__(folder, about, "results", part)

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
        """How many files are there, by their status."""
        counts = Counter(status for status, _ in self.notes)
        codes = {code for _, code in self.notes}
        return ResultSummary(str(self.folder), dict(counts.most_common()), max(codes, key=WORSE.index, default=0))


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
