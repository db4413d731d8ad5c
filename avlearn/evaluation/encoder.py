"""Evaluation of an encoder alone: how well its frozen features tell classes apart."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from avlearn.apply.encoder_alone import EncoderAlone
from avlearn.data.manifest import Row, read_manifest
from avlearn.errors import DataError
from avlearn.evaluation.linear_probe import probe_model
from avlearn.evaluation.result import Evaluation

_TASK = "recognition"


def evaluate_encoder(model: EncoderAlone, manifests: Sequence[str | Path], tasks: Sequence[str] = ()) -> Evaluation:
    """A linear probe of labelled clips (`probe_model`): an encoder of video, or of audio, knows of no offset.

    Args:
        model: from an encoder's folder.
        manifests: of labelled clips, with or without splits.
        tasks: that are asked for; no other than recognition can be measured.

    Raises:
        DataError: another task is asked for, or the clips are not enough.
    """
    for task in tasks:
        if task != _TASK:
            raise DataError(f"{task} cannot be measured: the folder holds an encoder alone; of it {_TASK} can be")
    rows: list[Row] = [row for manifest in manifests for row in read_manifest(manifest)]
    found = probe_model(model, rows)
    items = hashlib.sha256("\n".join(f"{row.name} {row.hash}" for row in rows).encode()).hexdigest()
    return Evaluation(found.metrics, [], items, skipped=tuple(found.skipped))
