"""The contract of an evaluator: it chooses clips, and measures a model on them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.manifest import Row
from avlearn.evaluation.result import EvaluatorResult
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.released.localizers import Localizer, ObjectMap
from avlearn.objectives import Objective
from avlearn.objectives.fusion import ShiftBCE

NO_COMMON_SPACE = "the model's objective taught it no common space of video and audio"


class NotMeasurableError(Exception):
    """Model and clips do not allow a measurement; the reason."""


@dataclass(frozen=True)
class Subject:
    """The model that is measured, and what it is measured beside.

    Attributes:
        model: in evaluation mode.
        folder: for decoded clips.
        seed: of the windows and mixtures.
        objective: of the model's folder, where it has one.
        baseline: a separator that sees nothing.
        released: localizers.
        objects: maps of objects, to be combined with each network's.
    """

    model: AudioVisual
    folder: Path
    seed: int = 0
    objective: Objective[Any] | None = None
    baseline: AudioVisual | None = None
    released: Sequence[Localizer] = ()
    objects: ObjectMap | None = None

    @property
    def common_space(self) -> bool:
        """Whether video and audio embeddings can be compared."""
        return self.model.config.common_space

    @property
    def fused(self) -> ShiftBCE | None:
        """The objective, where it is a network that fuses video and audio early and has class activation maps."""
        return self.objective if isinstance(self.objective, ShiftBCE) else None

    def decoded(self, rows: Sequence[Row]) -> ClipCache:
        """Clips as the model takes them; all of them can be decoded."""
        return self._decode(rows, "error")

    def readable(self, rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, str]]]:
        """Rows whose clips can be decoded, and path and reason of the others.

        Raises:
            DataError: none of the clips can be decoded.
        """
        if not rows:
            return [], []
        cache = self._decode(rows, "skip")
        return (
            [row for number, row in enumerate(rows) if number not in cache.bad],
            [(str(rows[number].source), reason) for number, reason in cache.bad.items()],
        )

    def _decode(self, rows: Sequence[Row], bad_files: Literal["skip", "error"]) -> ClipCache:
        config = self.model.config
        shape = config.fps, config.size, config.sample_rate
        return decode_once(rows, self.folder, *shape, os.cpu_count() or 1, bad_files=bad_files)


@dataclass(frozen=True)
class CandidateClips:
    """Clips of the manifests that evaluators choose from.

    Attributes:
        rows: that can be used, and last as long as the search for an offset needs.
        boxed: that have annotated boxes, and hold a window of the model.
        needed: seconds that the search for an offset needs.
    """

    rows: list[Row]
    boxed: list[Row] = field(default_factory=list)
    needed: float = 0.0


class Evaluator:
    """A group of metrics of a task.

    Attributes:
        task: by whose name it is asked for.
        decodes: clips are decoded before, and those that cannot be are left out; else `measure` reads them itself.
        skipped: path and reason of each clip that `measure` could not read.
    """

    task: ClassVar[str]
    decodes: ClassVar[bool] = True

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.skipped: list[tuple[str, str]] = []

    def choose(self, listed: CandidateClips) -> list[Row]:
        """Clips to measure on, in their order.

        Raises:
            NotMeasurableError: model and clips do not allow it.
        """
        raise NotImplementedError

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        """Metrics on the clips that were chosen."""
        raise NotImplementedError
