"""Every readout of a model on held-out clips with known truth, each figure beside its references."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.evaluation.boxes import annotated, box_figures, readable_boxes
from avlearn.evaluation.duets import duet_figures
from avlearn.evaluation.localization import AROUND, localization_figures
from avlearn.evaluation.multi_source import multi_source_figures
from avlearn.evaluation.negative_audio import negative_audio_figures
from avlearn.evaluation.recognition import cached_features, recognition_figures
from avlearn.evaluation.separation import separation_figures
from avlearn.evaluation.sync import ClassFigures, sync_figures
from avlearn.evaluation.windows import held_out, long_enough, readable, search_room, told, usable_rows
from avlearn.metrics import Figure, table
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.localizers import Localizer, ObjectMap
from avlearn.objectives import Objective
from avlearn.objectives.fusion import ShiftBCE

__all__ = ["TASKS", "Evaluation", "cached_features", "evaluate"]

TASKS = ("sync", "localization", "separation", "recognition")
_NO_SPACE = "the model's objective taught it no common space of picture and sound"
_MIXABLE, _SOLOS = 16, 40  # clips with one source alone, for separation and for recognition
_SYNC = 3  # clips for synchronization: the threshold is set on a third of them


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on clips.

    Attributes:
        figures: with their references.
        classes: the main figures of synchronization for each label that has clips enough.
        items: SHA-256 of the list of clips, so that two evaluations can be told to be of the same ones.
        mixtures: the same of each list of mixtures.
        skipped: path and reason of each clip that could not be read, and is in no figure.
    """

    figures: list[Figure]
    classes: list[ClassFigures]
    items: str
    mixtures: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict:
        """JSON types under the schema ``avlearn.evaluate/2``.

        ``items``, ``mixtures``: as the attributes. ``figures``: a list of `Figure.to_dict`, ``interval`` being its
        lowest and highest value at 95 % or None. ``classes``: a list of ``label`` and ``figures`` (aligned over
        shifted, and the offset within a step). ``skipped``: a list of ``path`` and ``reason``.
        """
        return {
            "schema": "avlearn.evaluate/2",
            "items": self.items,
            "mixtures": list(self.mixtures),
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "figures": [f.to_dict() for f in self.figures],
            "classes": [c.to_dict() for c in self.classes],
        }

    def text(self) -> str:
        """For people."""
        parts = [table(self.figures)]
        if self.classes:
            parts.append(_class_table(self.classes))
        return (
            "\n\n".join(parts)
            + f"\nclips: sha256 {self.items[:16]}"
            + "".join(f"\nmixtures: sha256 {digest[:16]}" for digest in self.mixtures)
            + told(self.skipped)
        )


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
    baseline: AudioVisual | None = None,
    released: Sequence[Localizer] = (),
    objects: ObjectMap | None = None,
) -> Evaluation:
    """Measure a model.

    Synchronization and retrieval are measured on every clip; localization on clips of a world with one
    sounding and one silent thing, or with two sounding ones, and on clips with boxes; separation and recognition on
    clips with one source alone.

    Args:
        model: from `avlearn.load`.
        manifests: of clips that the model was not trained on; of one with a test split, that is measured.
        seed: of the windows and mixtures.
        tasks: out of `TASKS`; by default all that model and clips allow.
        objective: of the model's folder (`avlearn.objectives.folder.load_objective`), where it has one.
        baseline: a separator that sees nothing, beside the model's.
        released: localizers to be measured beside the model, on clips with boxes.
        objects: measures all of them there a second time, their maps combined with this one.

    Raises:
        DataError: no clip is long enough; model and clips do not allow a task that was asked for, or any; or released
            networks are given, and nothing to measure them on.
    """
    for task in tasks:
        if task not in TASKS:
            raise DataError(f"there is no task '{task}'; there are {', '.join(TASKS)}")
    with tempfile.TemporaryDirectory() as folder:
        return _evaluate(model, manifests, seed, tasks, objective, baseline, released, objects, Path(folder))


def _evaluate(
    model: AudioVisual, manifests: Sequence[str | Path], seed: int, tasks: Sequence[str], objective: Objective | None,
    baseline: AudioVisual | None, released: Sequence[Localizer], objects: ObjectMap | None, folder: Path,
) -> Evaluation:  # fmt: skip
    """`evaluate`, with decoded clips in ``folder``."""
    listed = held_out(manifests)
    boxed = annotated(long_enough(listed, model, 0.0))
    room = search_room(model, objective)
    rows = long_enough(listed, model, room) if boxed else usable_rows(model, manifests, objective)
    rows, skipped = readable(model, rows, folder)
    boxed, unread = readable_boxes(model, boxed)
    skipped += unread
    measured = dict.fromkeys([*rows, *(item.row for item in boxed)])
    items = hashlib.sha256("\n".join(f"{r.path.name} {r.hash}" for r in measured).encode()).hexdigest()
    plain = [r for r in rows if not {"muted", "twins"} & set(r.flags)]
    solos = [r for r in plain if "sources:1" in r.flags and "offscreen" not in r.flags]
    one_of_two = [
        r for r in rows
        if r.truth and "sources:1" in r.flags and "muted" in r.flags and "offscreen" not in r.flags
    ]  # fmt: skip
    one_of_two = long_enough(one_of_two, model, 2 * AROUND * model.step + 1 / model.config.fps)
    # Of real clips nothing is known: as in their training, each counts as one source.
    mixable = solos or [r for r in rows if r.labels and not r.truth]
    duets = [
        r for r in long_enough(plain, model, 0.0)
        if r.truth and "sources:2" in r.flags and "offscreen" not in r.flags
        and r.sample_rate == model.config.sample_rate
    ]  # fmt: skip
    mixed = [r for r in rows if r not in one_of_two and r not in solos] or rows
    common = model.config.common_space
    fused = objective if isinstance(objective, ShiftBCE) else None
    lacking = {
        "sync": "the model has neither a common space nor an objective in its folder" if not (common or objective) else
        f"no clip lasts the {model.config.seconds + room:.2f} s that the search for an offset needs" if not rows else
        "" if len(mixed) >= _SYNC else f"too few clips can be used: {len(mixed)}, and {_SYNC} are needed",
        "localization": _NO_SPACE if not (common or fused) else "" if boxed or one_of_two or (common and duets) else
        "no clip shows one sounding and one silent thing, or two sounding ones, with their places, and none has boxes",
        "separation": "the model has no separator" if model.separator is None else
        _NO_SPACE if not common and model.config.separator.query == "place" else _few(mixable, _MIXABLE),
        "recognition": _few(solos, _SOLOS),
    }  # fmt: skip
    if (released or objects) and not (boxed and (not tasks or "localization" in tasks)):
        raise DataError("released localizers, and objects, take clips with boxes and the task 'localization'")
    for task in tasks:
        if lacking[task]:
            raise DataError(f"{task} cannot be measured: {lacking[task]}")
    wanted = [task for task in TASKS if not lacking[task] and (not tasks or task in tasks)]
    figures: list[Figure] = []
    mixtures: list[str] = []
    classes: list[ClassFigures] = []

    def decoded(chosen: list[Row]) -> ClipCache:
        config = model.config
        return decode_once(chosen, folder, config.fps, config.size, config.sample_rate, 4)

    labels = [r.labels[0] for r in solos]
    if "sync" in wanted:
        found, classes = sync_figures(model, objective, decoded(mixed), [r.labels for r in mixed], seed)
        figures += found
    if "localization" in wanted:
        for name, keep in (("other class", False), ("twin", True)):
            chosen = [r for r in one_of_two if ("twins" in r.flags) == keep]
            if chosen:
                figures += localization_figures(model, decoded(chosen), chosen, name, fused)
        if len(one_of_two) > 1 and common:
            figures += negative_audio_figures(model, decoded(one_of_two), one_of_two, seed)
        if duets and common:
            figures += multi_source_figures(model, decoded(duets), duets)
        if boxed:
            for network in (model, *released):
                name = network.paper if isinstance(network, Localizer) else ""
                figures += box_figures(network, boxed, name, objective=fused)
                if objects is not None:
                    name = f"{name}, with objects".removeprefix(", ")
                    figures += box_figures(network, boxed, name, objective=fused, objects=objects)
    if "separation" in wanted:
        found, mixtures = separation_figures(model, decoded(mixable), mixable, seed, baseline)
        figures += found
        whole = [r for r in duets if r.offset is None]  # `separate_file` takes files of their own
        if whole and common and model.config.separator.conditioning != "none":
            figures += duet_figures(model, whole)
    if "recognition" in wanted:
        figures += recognition_figures(model, decoded(solos), labels, seed)
    if not figures:
        reasons = sorted(set(filter(None, lacking.values()))) or ["there are too few clips of each class"]
        raise DataError(f"nothing can be measured: {'; '.join(reasons)}")
    return Evaluation(figures, classes, items, tuple(mixtures), tuple(dict.fromkeys(skipped)))


def _few(solos: list[Row], needed: int) -> str:
    return "" if len(solos) >= needed else f"{len(solos)} clips have one source alone, and {needed} are needed"
