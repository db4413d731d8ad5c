"""Losses of video and audio embeddings: plain functions of tensors, and modules that hold what is learned.

A function takes tensors and gives the loss and what to log; its negatives come from all processes:

>>> import torch
>>> loss, logs = info_nce(torch.randn(8, 128), torch.randn(8, 128), temperature=0.07)

A module holds the temperature, the memory bank or the classifier, and is called on a batch. To train two encoders:

>>> video_encoder, audio_encoder, objective = torch.nn.Linear(10, 16), torch.nn.Linear(12, 16), InfoNCE()
>>> parameters = [*video_encoder.parameters(), *audio_encoder.parameters(), *objective.parameters()]
>>> optimizer = torch.optim.AdamW(parameters, lr=1e-3)
>>> for frames, waveform in [(torch.randn(8, 10), torch.randn(8, 12))] * 3:
...     loss, logs = objective(EmbeddedBatch(video_encoder(frames), audio_encoder(waveform)))
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()
>>> sorted(logs)
['audio_to_video', 'retrieval', 'scale', 'video_to_audio']

Embeddings over time and space, ``[B, D, T, Y, X]`` and ``[B, D, U]``, go the same way, with each clip's ``offset``:

>>> video, audio = (torch.nn.functional.normalize(torch.randn(*s), dim=1) for s in ((4, 16, 10, 3, 3), (4, 16, 34)))
>>> loss, logs = Dense()(EmbeddedBatch(video, audio, offset=torch.tensor([12, 0, 24, 7])))

An objective of one's own is one file: its options, its function, its module under `register`.
"""

from avlearn.objectives.clusters import Clusters, cluster_classification, sinkhorn
from avlearn.objectives.contrastive import (
    GDT,
    InfoNCE,
    Margin,
    Segments,
    gdt,
    info_nce,
    margin_contrastive,
    segment_info_nce,
)
from avlearn.objectives.dense import Dense, dense_info_nce
from avlearn.objectives.fusion import ShiftBCE, shift_bce
from avlearn.objectives.localization import (
    FNAC,
    Correspondence,
    MILInfoNCE,
    TriMap,
    correspondence,
    fnac,
    mil_infonce,
    trimap,
)
from avlearn.objectives.memory import AVID, avid
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    ShiftSchedule,
    TrainingSetup,
)
from avlearn.objectives.offset import OffsetClassifier, offset_classification
from avlearn.objectives.registry import (
    OBJECTIVES,
    find_objective,
    list_objectives,
    option_names,
    read_options,
    register,
)
from avlearn.objectives.slavc import SLAVC, slavc

__all__ = [
    "AVID",
    "FNAC",
    "GDT",
    "OBJECTIVES",
    "SLAVC",
    "Clusters",
    "Correspondence",
    "Dense",
    "EmbeddedBatch",
    "FeatureSpec",
    "InfoNCE",
    "MILInfoNCE",
    "Margin",
    "Objective",
    "ObjectiveOptions",
    "ObjectiveOutput",
    "OffsetClassifier",
    "Segments",
    "ShiftBCE",
    "ShiftSchedule",
    "TrainingSetup",
    "TriMap",
    "avid",
    "cluster_classification",
    "correspondence",
    "dense_info_nce",
    "find_objective",
    "fnac",
    "gdt",
    "info_nce",
    "list_objectives",
    "margin_contrastive",
    "mil_infonce",
    "offset_classification",
    "option_names",
    "read_options",
    "register",
    "segment_info_nce",
    "shift_bce",
    "sinkhorn",
    "slavc",
    "trimap",
]
