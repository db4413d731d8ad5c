"""Checks of the labels of training and validation clips, before anything is trained."""

import json
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.files import printable

_FEWEST = 2  # classes, and training clips of each
_LONGEST, _MOST, _ALL = 4096, 100_000, 1_000_000  # of a label, of labels, of all together: what a model's settings hold


def class_names(train: Sequence[Row], val: Sequence[Row], *, several: bool) -> tuple[str, ...]:
    """Names of the classes, sorted.

    Args:
        train, val: clips that can be used.
        several: clips may have several labels.

    Raises:
        DataError: a clip has no label, or several where it may have one; a class is in validation alone, or has one
            training clip; training and validation share a clip; there is one class; or a model cannot keep a label,
            or all of them. Clip, label and row of the manifest are named.
    """
    for part, rows in (("training", train), ("validation", val)):
        for row in rows:
            if not row.labels and not several:
                raise DataError(f"the {part} clip {_clip(row)} has no label")
            if len(row.labels) > 1 and not several:
                said = ", ".join(map(repr, row.labels[:3]))
                raise DataError(f"the {part} clip {_clip(row)} has several labels ({said}): recognize.multi_label=true")
        _check_words(part, rows)
    counts = Counter(label for row in train for label in row.labels)
    if len(counts) < _FEWEST:
        raise DataError(f"the training clips are all of {len(counts)} class: recognition takes several")
    for row in train:
        for label in row.labels:
            if counts[label] < _FEWEST:
                raise DataError(f"the class {label!r} has one training clip, {_clip(row)}: give more, or leave it out")
    for row in val:
        for label in row.labels:
            if label not in counts:
                raise DataError(f"the label {label!r} of the validation clip {_clip(row)} is of no training clip")
    _check_apart(train, val)
    names = tuple(sorted(counts))
    if len(names) > _MOST or len(json.dumps(names, indent=2)) > _ALL:
        raise DataError(f"the {len(names)} labels are more than a model keeps: {_MOST}, {_ALL} characters together")
    return names


def _check_words(part: str, rows: Sequence[Row]) -> None:
    """Hold labels to what is written as it is: one line, which the settings of a model keep unchanged."""
    for row in rows:
        for label in row.labels:
            if not 0 < len(label) <= _LONGEST or printable(label) != label:
                what = (
                    "holds characters that are not printed"
                    if printable(label) != label
                    else f"has {len(label)} characters"
                )
                raise DataError(
                    f"a label of the {part} clip {_clip(row)} {what}: labels are one line of 1 to {_LONGEST} characters"
                )


def _check_apart(train: Sequence[Row], val: Sequence[Row]) -> None:
    seen = {_identity(row): row for row in train}
    for row in val:
        other = seen.get(_identity(row))
        if other is not None:
            raise DataError(f"the validation clip {_clip(row)} is the training clip {_clip(other)}: keep them apart")


def _identity(row: Row) -> tuple[object, ...]:
    """What two rows of the same stretch of the same content have in common."""
    return row.hash or str(row.path.absolute()), row.offset if not row.hash else None, round(row.start, 3)


def _clip(row: Row) -> str:
    place = f" at {row.start:g} s" if row.start else ""
    number = f" (row {row.number})" if row.number else ""
    return f"{printable(row.path)}{place}{number}"


def balanced_weights(rows: Sequence[Row], names: Sequence[str]) -> Tensor:
    """Weights of classes, inverse to how many clips each has; their mean over clips is 1."""
    counts = Counter(label for row in rows for label in row.labels)
    weights = torch.tensor([1 / counts[name] for name in names])
    return weights * sum(counts.values()) / len(names)
