"""What an expert of `sync` says of a file."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avlearn.apply.sync.drift import Course

SURE = 0.85  # confidence from which an expert names an offset: a wrong one is worse than none


@dataclass(frozen=True)
class ExpertAnswer:
    """What an expert says of a file.

    Attributes:
        expert: ``speech`` or ``self-calibration``.
        best: seconds, positive when the audio leads: the offset that fits best; None where it found nothing to judge.
        confidence: probability in [0, 1] that `best` is right within 80 ms.
        reason: why it names no offset; "" where it does.
        offsets: ``[O]`` seconds, the grid of the curve; empty where there is none.
        scores: ``[O]``, how well each fits.
        parts: what it says of parts of the file, one dict each: of every speaker in every shot.
        course: how the offset changes over the file; None where that was not looked at.
    """

    expert: str
    best: float | None
    confidence: float
    reason: str
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    parts: tuple[dict[str, Any], ...] = ()
    course: Course | None = None

    @property
    def offset(self) -> float | None:
        """Seconds, at the start of a file that drifts; None where it is not sure."""
        if self.reason:
            return None
        return self.course.offset if self.course else self.best

    def to_dict(self) -> dict[str, Any]:
        """JSON types, without the curve."""
        return {
            "expert": self.expert,
            "offset": self.offset,
            "drift": self.course.drift if self.course and not self.reason else None,
            "steps": list(self.course.steps) if self.course and not self.reason else [],
            "best": self.best,
            "confidence": self.confidence,
            "reason": self.reason,
            "parts": list(self.parts),
        }
