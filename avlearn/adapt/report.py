"""What an adaptation came to: a table of held-out figures, a line a file, JSON, and a page."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avlearn.adapt.judge import Said, Skill
from avlearn.files import printable
from avlearn.metrics.interval import wilson_interval
from avlearn.terminal import aligned

SCHEMA = "avlearn.adapt/1"


@dataclass(frozen=True)
class HeldOut:
    """A stretch with a known delay, judged by towers and read by calibrations that have not seen it.

    Attributes:
        file, start: where it is, seconds from the file's first frame.
        fold: whose judge it was.
        delay: seconds by which its audio was moved for this.
        furthest: seconds within which delays were drawn, on each side.
        before, after: what the base makes of it, calibrated in the same way, and what the adapted towers do.
    """

    file: str
    start: float
    fold: int
    delay: float
    furthest: float
    before: Said
    after: Said


@dataclass(frozen=True)
class HeldOutCounts:
    """Counts over held-out stretches.

    Attributes:
        right: whose best offset is right to a step of the model, 80 ms of ours.
        named: that it answers; ``named_right``: rightly so.
        deceived: that it answers with another stretch's audio, where nothing is right.
        known: that are in-distribution.
    """

    right: int
    named: int
    named_right: int
    deceived: int
    known: int

    @classmethod
    def of(cls, found: Sequence[Said]) -> "HeldOutCounts":
        """Count."""
        return cls(
            sum(s.right for s in found),
            sum(s.named for s in found),
            sum(s.named and s.right for s in found),
            sum(s.deceived for s in found),
            sum(s.known for s in found),
        )


@dataclass(frozen=True)
class AdaptResult:
    """What an adaptation came to.

    Attributes:
        out: its folder; the model is in ``model``.
        base: that it began with.
        better: whether the adapted model is better on what it had not seen; else ``model`` is the base as it was.
        why: the reason for that, in words.
        files: fold of each file that was used; None of one whose halves are in both.
        unused: path and reason of each that was not.
        notes: lines about offsets, about the time, and about what is not kept.
        steps: of the trainings, by fold and ``all``.
        held_out: judged stretches.
        skill: of the confidence in offsets, before and after.
        minutes: that it took.
    """

    out: Path
    base: str
    better: bool
    why: str
    files: dict[str, int | None]
    unused: list[tuple[str, str]]
    notes: list[str]
    steps: dict[str, int]
    held_out: list[HeldOut]
    skill: dict[str, Skill | None]
    minutes: float

    @property
    def before(self) -> HeldOutCounts:
        """Of the base."""
        return HeldOutCounts.of([stretch.before for stretch in self.held_out])

    @property
    def after(self) -> HeldOutCounts:
        """Of the adapted towers."""
        return HeldOutCounts.of([stretch.after for stretch in self.held_out])

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "schema": SCHEMA,
            "out": str(self.out),
            "base": self.base,
            "better": self.better,
            "why": self.why,
            "minutes": round(self.minutes, 2),
            "steps": self.steps,
            "stretches": len(self.held_out),
            "before": asdict(self.before),
            "after": asdict(self.after),
            "chance": self._chance(),
            "offset_0": self._offset_0(),
            "skill": {name: None if found is None else asdict(found) for name, found in self.skill.items()},
            "files": [{"path": path, "fold": fold, **self._of(path)} for path, fold in self.files.items()],
            "unused": [{"path": path, "reason": reason} for path, reason in self.unused],
            "notes": self.notes,
        }

    def _of(self, path: str) -> dict[str, Any]:
        own = [stretch for stretch in self.held_out if stretch.file == path]
        before, after = (HeldOutCounts.of([getattr(s, name) for s in own]) for name in ("before", "after"))
        return {"stretches": len(own), "right_before": before.right, "right": after.right, "named": after.named,
                "named_right": after.named_right}  # fmt: skip

    def _chance(self) -> float:
        """Share of right ones of a guess within the delays that were drawn."""
        shares = [min(0.08 / stretch.furthest, 1.0) for stretch in self.held_out]
        return round(sum(shares) / max(len(shares), 1), 3)

    def _offset_0(self) -> float:
        """Share of right ones of whoever always says that a file is in sync."""
        return round(sum(abs(s.delay) <= 0.08 for s in self.held_out) / max(len(self.held_out), 1), 3)

    def rows(self) -> list[dict[str, str]]:
        """The figures as a table, a row each."""
        n = len(self.held_out)

        def share(count: int, of: int) -> str:
            if not of:
                return "-"
            low, high = wilson_interval(count / of, of)
            return f"{count} of {of} [{low:.2f} {high:.2f}]"

        told = []
        for name, figures in (("before", self.before), ("after", self.after)):
            skill = self.skill.get(name)
            told.append({
                "model": f"{self.base}, calibrated here" if name == "before" else "adapted, by the other fold",
                "best offset right": share(figures.right, n),
                "answered": share(figures.named, n),
                "of them right": share(figures.named_right, figures.named),
                "answered without a truth": share(figures.deceived, n),
                "in-distribution": share(figures.known, n),
                "AUC": "-" if skill is None else f"{skill.auc:.2f}",
            })  # fmt: skip
        for name, value in (("chance", self._chance()), ("always 0 ms", self._offset_0())):
            told.append({"model": name, "best offset right": f"{value:.2f}"})
        return told

    def lines(self) -> list[str]:
        """The figures as text, for a card."""
        rows = self.rows()
        head = list(rows[0])
        table = aligned(head, [[row.get(name, "") for name in head] for row in rows])
        return [*self.notes, "", *table.splitlines(), "", self.why]

    def text(self) -> str:
        """Human-readable text."""
        reasons: dict[str, int] = {}
        for _, reason in self.unused:
            reasons[reason] = reasons.get(reason, 0) + 1
        counted = ", ".join(f"{count} {printable(reason)}" for reason, count in reasons.items())
        used = f"{len(self.files)} files were used" + (f", {len(self.unused)} not: {counted}" if self.unused else "")
        judged = [path for path in self.files if self._of(path)["stretches"]]
        table = aligned(
            ("fold", "stretches", "right before", "after", "answered", "rightly", "file"),
            [
                [str(value) for value in (
                    "both" if self.files[path] is None else self.files[path], *self._of(path).values(), printable(path)
                )]
                for path in judged
            ],
        )  # fmt: skip
        return "\n".join(
            [used, *self.lines()[:-1], table, "", self.why, f"wrote {printable(self.out)} ({self.minutes:.1f} minutes)"]
        )


def write_page(result: AdaptResult, path: Path, curves: dict[str, list[dict[str, Any]]]) -> None:
    """The report as one HTML file.

    Args:
        result: to be told.
        path: of the page.
        curves: rows of each training's ``metrics.jsonl``, by name.
    """
    from avlearn.report.page import Page
    from avlearn.report.plots import training_curves

    page = Page(f"{result.base} adapted", result.why)
    page.section("Held out", "Each stretch was judged by towers that had not seen it, with a delay put in.")
    page.table(result.rows())
    page.text("\n\n".join(result.notes))
    page.section("Training")
    for name, rows in curves.items():
        page.image(training_curves(rows), f"Towers of {name}")
    page.section("Files")
    page.table([{"file": path, "fold": fold, **result._of(path)} for path, fold in result.files.items()])
    page.table([{"not used": path, "why": reason} for path, reason in result.unused])
    page.save(path)
