"""How far an adaptation is, and how much of its time is gone: one that was stopped goes on from here."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avlearn.errors import OutputError
from avlearn.files import write_text

_LEAST_SHARE = 0.05  # of the time, for a stage that begins too late


@dataclass
class Progress:
    """What is done, and the time that it took.

    Attributes:
        path: of the file that keeps it.
        asked: what the adaptation was begun with, by option.
        minutes: of the clock that it may take.
        spent: seconds of earlier runs, until the last stage that they finished.
        done: stages.
        kept: what later stages need of earlier ones, as JSON.
    """

    path: Path
    asked: dict[str, Any]
    minutes: float
    spent: float = 0.0
    done: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        if not self.path.exists():
            return
        with suppress(ValueError, KeyError, TypeError):
            before = json.loads(self.path.read_text())
            for option, value in before["asked"].items():
                if self.asked[option] != value:
                    said = "of other files" if option == "files" else f"that was begun with {option} {value}"
                    raise OutputError(
                        f"{self.path.parent} has an adaptation {said}: go on with the same, or choose another folder "
                        "with --output"
                    )
            self.spent, self.done, self.kept = before["spent"], before["done"], before["kept"]

    @property
    def gone(self) -> float:
        """Minutes of the clock that are over."""
        return (self.spent + time.monotonic() - self.began) / 60

    def left(self, until: float) -> float:
        """Seconds until a stage has to end that may reach to a share of the time."""
        return max(self.minutes * until - self.gone, self.minutes * _LEAST_SHARE) * 60

    def finish(self, stage: str, **kept: Any) -> None:
        """Note that a stage is done, and what later ones need of it."""
        self.done.append(stage)
        self.kept |= kept
        values = {"asked": self.asked, "spent": self.gone * 60, "done": self.done, "kept": self.kept}
        write_text(self.path, json.dumps(values, indent=1) + "\n")
