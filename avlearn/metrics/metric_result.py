"""The value of a metric, beside what it has to be compared with."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from avlearn.terminal import aligned


@dataclass(frozen=True)
class MetricResult:
    """The value of a metric, and its references.

    Attributes:
        task, name: what was measured, and how.
        value: what was measured.
        chance: what guessing gives.
        prior, prior_name: what a method that ignores audio or video gives, and which.
        oracle: the best that the protocol allows.
        n: number of items.
        unit: "" for a share in [0, 1], else ``dB`` or ``ms``.
        higher_is_better: False for errors.
        interval: in which the value lies at 95 %; None where that was not worked out.
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
    higher_is_better: bool = True
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, object]:
        """JSON types; what is not finite becomes None, which JSON can hold."""

        def plain(value: object) -> object:
            if isinstance(value, float):
                return round(float(value), 5) if math.isfinite(value) else None
            if isinstance(value, tuple):
                return [plain(float(v)) for v in value]
            return value

        return {key: plain(value) for key, value in asdict(self).items()}

    def cells(self) -> list[str]:
        """Texts under `HEADER`: task, metric, value, chance, prior, oracle, items."""

        def show(value: float | None) -> str:
            if value is None:
                return "-"
            digits = {"": 3, "ms": 0}.get(self.unit, 2)
            # Adding zero makes a rounded "-0.00" a plain one.
            return f"{round(value, digits) + 0.0:.{digits}f} {self.unit}".rstrip()

        name = self.name if self.higher_is_better else f"{self.name} (lower is better)"
        value = show(self.value)
        if self.interval is not None:
            value += f" [{' '.join(show(v).split()[0] for v in self.interval)}]"
        prior = show(self.prior) + (f" ({self.prior_name})" if self.prior is not None else "")
        return [
            self.task, name, value, show(self.chance), prior, show(self.oracle),
            str(self.n),
        ]  # fmt: skip


HEADER = ["task", "metric", "value", "chance", "trivial prior", "oracle", "n"]


def table(metrics: Sequence[MetricResult]) -> str:
    """Metrics as aligned plain text, their references beside them."""
    return aligned(HEADER, [metric.cells() for metric in metrics])
