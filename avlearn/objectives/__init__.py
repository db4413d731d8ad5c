"""Losses: features to a scalar and what to log. Each names the negatives that it uses."""

from avlearn.objectives.contrastive import GDT, InfoNCE, Margin, Segments
from avlearn.objectives.dense import Dense
from avlearn.objectives.objective import Objective, ObjectiveOutput, Pair, Setting, ShiftSchedule

OBJECTIVES: dict[str, type[Objective]] = {
    "dense": Dense,
    "infonce": InfoNCE,
    "gdt": GDT,
    "segments": Segments,
    "margin": Margin,
}

__all__ = ["OBJECTIVES", "Dense", "Objective", "ObjectiveOutput", "Pair", "Setting", "ShiftSchedule"]
