"""A figure and what it has to be compared with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Attributes:
        task, name: what was measured, and how.
        value: the figure.
        chance: what guessing gives.
        prior, prior_name: what a method that ignores sound or picture gives, and which.
        oracle: the best that the protocol allows.
        n: number of items.
        unit: "" for a share, else e.g. ``dB``, ``ms``.
    """

    task: str
    name: str
    value: float
    chance: float | None = None
    prior: float | None = None
    prior_name: str = ""
    oracle: float | None = None
    n: int = 0
    unit: str = ""

    def to_dict(self) -> dict:
        """JSON types."""
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(self).items()}

    def cells(self) -> list[str]:
        """For a table: task, figure, value, chance, prior, oracle, items."""

        def show(value: float | None) -> str:
            if value is None:
                return "-"
            return f"{value:.2f} {self.unit}" if self.unit else f"{value:.3f}"

        prior = show(self.prior) + (f" ({self.prior_name})" if self.prior is not None else "")
        return [
            self.task, self.name, show(self.value), show(self.chance), prior, show(self.oracle),
            str(self.n),
        ]  # fmt: skip


HEADER = ["task", "figure", "value", "chance", "trivial prior", "oracle", "n"]


def table(figures: Sequence[Figure]) -> str:
    """Figures as aligned text."""
    rows = [HEADER] + [figure.cells() for figure in figures]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADER))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
