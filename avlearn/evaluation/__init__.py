"""Every readout of a model on held-out clips with known truth, each figure beside its references."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.evaluation.localization import AROUND, localization_figures
from avlearn.evaluation.recognition import cached_features, recognition_figures
from avlearn.evaluation.separation import separation_figures
from avlearn.evaluation.sync import ClassFigures, sync_figures
from avlearn.evaluation.windows import long_enough, usable_rows
from avlearn.metrics import Figure, table
from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives import Objective

__all__ = ["TASKS", "Evaluation", "cached_features", "evaluate"]

TASKS = ("sync", "localization", "separation", "recognition")
_NO_SPACE = "the model's objective taught it no common space of picture and sound"
_SOLOS = 40  # clips with one source alone, for separation and recognition


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on clips.

    Attributes:
        figures: with their references.
        classes: the main figures of synchronization for each label that has clips enough.
        items: SHA-256 of the list of clips, so that two evaluations can be told to be of the same ones.
    """

    figures: list[Figure]
    classes: list[ClassFigures]
    items: str

    def to_dict(self) -> dict:
        """JSON types under the schema ``avlearn.evaluate/2``.

        ``items``: as the attribute. ``figures``: a list of `Figure.to_dict`, ``interval`` being its lowest and highest
        value at 95 % or None. ``classes``: a list of ``label`` and ``figures`` (aligned over shifted, and the offset
        within a step).
        """
        return {
            "schema": "avlearn.evaluate/2",
            "items": self.items,
            "figures": [f.to_dict() for f in self.figures],
            "classes": [c.to_dict() for c in self.classes],
        }

    def text(self) -> str:
        """For people."""
        parts = [table(self.figures)]
        if self.classes:
            parts.append(_class_table(self.classes))
        return "\n\n".join(parts) + f"\nclips: sha256 {self.items[:16]}"


def _class_table(classes: list[ClassFigures]) -> str:
    names = [figure.name for figure in (classes[0].two_afc, classes[0].within)]
    rows = [["class", "n", names[0], "chance", names[1], "chance", "always in sync"]]
    for one in classes:
        afc, within = one.two_afc.cells(), one.within.cells()
        rows.append([one.label, str(one.within.n), afc[2], afc[3], within[2], within[3], within[4].split()[0]])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def evaluate(
    model: AudioVisual,
    manifests: Sequence[str | Path],
    seed: int = 0,
    *,
    tasks: Sequence[str] = (),
    objective: Objective | None = None,
) -> Evaluation:
    """Measure a model.

    Synchronization and retrieval are measured on every clip; localization on clips of a world with one
    sounding and one silent thing; separation and recognition on clips with one source alone.

    Args:
        model: from `avlearn.load`.
        manifests: of clips that the model was not trained on; of one with a test split, that is measured.
        seed: of the windows and mixtures.
        tasks: out of `TASKS`; by default all that model and clips allow.
        objective: of the model's folder (`avlearn.objectives.folder.load_objective`), where it has one.

    Raises:
        DataError: no clip is long enough; or model and clips do not allow a task that was asked for, or any.
    """
    for task in tasks:
        if task not in TASKS:
            raise DataError(f"there is no task '{task}'; there are {', '.join(TASKS)}")
    rows = usable_rows(model, manifests, objective)
    items = hashlib.sha256("\n".join(f"{r.path.name} {r.hash}" for r in rows).encode()).hexdigest()
    plain = [r for r in rows if not {"muted", "twins"} & set(r.flags)]
    solos = [r for r in plain if "sources:1" in r.flags and "offscreen" not in r.flags]
    one_of_two = [
        r for r in rows
        if r.truth and "sources:1" in r.flags and "muted" in r.flags and "offscreen" not in r.flags
    ]  # fmt: skip
    one_of_two = long_enough(one_of_two, model, 2 * AROUND * model.step + 1 / model.config.fps)
    mixed = [r for r in rows if r not in one_of_two and r not in solos] or rows
    common = model.config.common_space
    lacking = {
        "sync": "" if common or objective else "the model has neither a common space nor an objective in its folder",
        "localization": _NO_SPACE if not common else "" if one_of_two else
        "no clip shows one sounding and one silent thing, with their places",
        "separation": _NO_SPACE if not common else "the model has no separator" if model.separator is None else
        _few(solos),
        "recognition": _few(solos),
    }  # fmt: skip
    for task in tasks:
        if lacking[task]:
            raise DataError(f"{task} cannot be measured: {lacking[task]}")
    wanted = [task for task in TASKS if not lacking[task] and (not tasks or task in tasks)]
    figures: list[Figure] = []
    classes: list[ClassFigures] = []
    with tempfile.TemporaryDirectory() as folder:

        def decoded(chosen: list[Row]) -> ClipCache:
            config = model.config
            return decode_once(chosen, Path(folder), config.fps, config.size, config.sample_rate, 4)

        labels = [r.labels[0] for r in solos]
        if "sync" in wanted:
            found, classes = sync_figures(model, objective, decoded(mixed), [r.labels for r in mixed], seed)
            figures += found
        if "localization" in wanted:
            for name, keep in (("other class", False), ("twin", True)):
                chosen = [r for r in one_of_two if ("twins" in r.flags) == keep]
                if chosen:
                    figures += localization_figures(model, decoded(chosen), chosen, name)
        if "separation" in wanted:
            figures += separation_figures(model, decoded(solos), labels, seed)
        if "recognition" in wanted:
            figures += recognition_figures(model, decoded(solos), labels, seed)
    if not figures:
        reasons = sorted(set(filter(None, lacking.values()))) or ["there are too few clips of each class"]
        raise DataError(f"nothing can be measured: {'; '.join(reasons)}")
    return Evaluation(figures, classes, items)


def _few(solos: list[Row]) -> str:
    return "" if len(solos) >= _SOLOS else f"{len(solos)} clips have one source alone, and {_SOLOS} are needed"
