"""What a model found of where the sound comes from, along a file: ours, or a released system."""

from dataclasses import dataclass

import numpy as np

from avlearn.apply.localize.expert_maps import ExpertMaps
from avlearn.apply.localize.file_maps import FileMaps


@dataclass(frozen=True)
class Localization:
    """Maps along a file, and how far they can be believed; N windows.

    Attributes:
        found: the maps.
        audible: ``[N]`` probability in [0, 1] that something on screen makes the sound; None where nobody can tell.
        drawn: ``[N]`` in [0, 1], how strongly each map is drawn.
        calibrated: whether ``audible`` was held to clips with known truth.
        verdict, reason, in_distribution, delay, notes, notice, expert, maps_by, experts: as of `LocalizeResult`.
        system: the released system that looked in place of our model; else "".
    """

    found: FileMaps
    audible: np.ndarray | None
    drawn: np.ndarray
    calibrated: bool
    verdict: str
    reason: str
    in_distribution: dict[str, bool | None]
    delay: float = 0.0
    notes: tuple[str, ...] = ()
    notice: str | None = None
    system: str = ""
    expert: str = ""
    maps_by: str = "model"
    experts: tuple[ExpertMaps, ...] = ()
