"""Losses: features to a scalar and what to log. Each names the negatives that it uses."""

from avlearn.objectives.clusters import Clusters
from avlearn.objectives.contrastive import GDT, InfoNCE, Margin, Segments
from avlearn.objectives.dense import Dense
from avlearn.objectives.fusion import ShiftBCE
from avlearn.objectives.localization import FNAC, Correspondence, MILInfoNCE, TriMap
from avlearn.objectives.memory import AVID
from avlearn.objectives.objective import EmbeddedBatch, FeatureSpec, Objective, ObjectiveOutput, ShiftSchedule
from avlearn.objectives.offset import OffsetClassifier
from avlearn.objectives.slavc import SLAVC

OBJECTIVES: dict[str, type[Objective]] = {
    "dense": Dense,
    "infonce": InfoNCE,
    "gdt": GDT,
    "segments": Segments,
    "margin": Margin,
    "avid": AVID,
    "clusters": Clusters,
    "shift_bce": ShiftBCE,
    "offset": OffsetClassifier,
    "mil_infonce": MILInfoNCE,
    "fnac": FNAC,
    "trimap": TriMap,
    "slavc": SLAVC,
    "correspondence": Correspondence,
}

__all__ = ["OBJECTIVES", "Dense", "EmbeddedBatch", "FeatureSpec", "Objective", "ObjectiveOutput", "ShiftSchedule"]
