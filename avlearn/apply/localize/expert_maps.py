"""What an expert of `localize` makes of a file."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from avlearn.apply.expert_answer import SURE
from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.maps import peak_of
from avlearn.apply.windows import SILENCE

HOP = 0.5  # seconds from one map of an expert to the next
_CELLS, _MOST = 12, 48  # of the frame's short side; of the long one at most


@dataclass(frozen=True)
class ExpertMaps:
    """Maps by an expert.

    Attributes:
        expert: ``speech`` or ``motion``.
        found: maps along the file; None where it has nothing to judge.
        audible: ``[N]`` probability in [0, 1] that the peak of each map makes the sound; 0 in silence, and of a guess.
        reason: why it would not tell, where it is not sure.
    """

    expert: str
    found: FileMaps | None
    audible: np.ndarray
    reason: str

    @property
    def sure(self) -> np.ndarray:
        """``[N]``: the maps that it stands for."""
        return self.audible >= SURE

    def to_dict(self) -> dict[str, Any]:
        """JSON types: how sure it is at best, where its maps point on average, and why it does not tell, or ""."""
        return {
            "expert": self.expert,
            "confidence": round(float(self.audible.max(initial=0.0)), 4),
            "peak": self.peak,
            "reason": "" if self.sure.any() else self.reason,
        }

    @property
    def peak(self) -> tuple[float, float] | None:
        """x and y of the strongest place on average, the surer the more; None without maps."""
        if self.found is None:
            return None
        weights = self.audible if self.sure.any() else (self.found.levels >= SILENCE).astype(float)
        return peak_of(np.average(self.found.maps, axis=0, weights=weights if weights.any() else None))


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Cells of a column and of a row, of a frame of such sides: about square."""
    rows, columns = (min(round(_CELLS * side / min(height, width)), _MOST) for side in (height, width))
    return rows, columns
