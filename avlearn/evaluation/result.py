"""Metrics of a model on clips, and what an evaluator gives of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avlearn.files import printable
from avlearn.metrics import MetricResult, table
from avlearn.terminal import aligned

_SHOWN = 10  # reasons that people are told


@dataclass(frozen=True)
class ClassMetrics:
    """The main metrics of the clips of a class.

    Attributes:
        label: of the manifest.
        two_afc: aligned over shifted.
        within: offset within a step.
    """

    label: str
    two_afc: MetricResult
    within: MetricResult

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"label": self.label, "figures": [self.two_afc.to_dict(), self.within.to_dict()]}


@dataclass(frozen=True)
class EvaluatorResult:
    """The result of one evaluator.

    Attributes:
        metrics: with their references.
        classes: the main metrics of each label.
        mixtures: SHA-256 of each list of mixtures that was separated.
    """

    metrics: Sequence[MetricResult]
    classes: Sequence[ClassMetrics] = ()
    mixtures: Sequence[str] = ()


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model on clips.

    Attributes:
        metrics: with their references.
        classes: the main metrics of synchronization for each label that has clips enough.
        items: SHA-256 of the list of clips, so that two evaluations can be told to be of the same ones.
        mixtures: the same of each list of mixtures.
        skipped: path and reason of each clip that could not be read, and is in no metric.
    """

    metrics: list[MetricResult]
    classes: list[ClassMetrics]
    items: str
    mixtures: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.evaluate/2``.

        ``items``, ``mixtures``: as the attributes. ``figures``: a list of `MetricResult.to_dict`, ``interval`` being
        its lowest and highest value at 95 % or None. ``classes``: a list of ``label`` and ``figures`` (aligned over
        shifted, and the offset within a step). ``skipped``: a list of ``path`` and ``reason``.
        """
        return {
            "schema": "avlearn.evaluate/2",
            "items": self.items,
            "mixtures": list(self.mixtures),
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "figures": [f.to_dict() for f in self.metrics],
            "classes": [c.to_dict() for c in self.classes],
        }

    def text(self) -> str:
        """Human-readable text."""
        parts = [table(self.metrics)]
        if self.classes:
            parts.append(_class_table(self.classes))
        return (
            "\n\n".join(parts)
            + f"\nclips: sha256 {self.items[:16]}"
            + "".join(f"\nmixtures: sha256 {digest[:16]}" for digest in self.mixtures)
            + list_skipped(self.skipped)
        )


def list_skipped(skipped: Sequence[tuple[str, str]]) -> str:
    """Lines about clips that were left out; "" for none."""
    lines = [f"\n{len(skipped)} clips are left out:"] if skipped else []
    lines += [f"\n  {printable(path)}: {reason}" for path, reason in skipped[:_SHOWN]]
    return "".join(lines + [f"\n  and {len(skipped) - _SHOWN} more"] * (len(skipped) > _SHOWN))


def _class_table(classes: list[ClassMetrics]) -> str:
    names = [metric.name for metric in (classes[0].two_afc, classes[0].within)]
    headings = ["class", "n", names[0], "chance", names[1], "chance", "always in sync"]
    rows = []
    for one in classes:
        afc, within = one.two_afc.cells(), one.within.cells()
        rows.append([one.label, str(one.within.n), afc[2], afc[3], within[2], within[3], within[4].split()[0]])
    return aligned(headings, rows)
