"""Checks of the labels of training and validation clips, before anything is trained."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from avlearn.data.manifest import Row, select, value_counts
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
        if not several:
            for row in select(rows, "labels", lambda labels: len(labels) != 1)[:1]:
                if not row.labels:
                    raise DataError(f"the {part} clip {_clip(row)} has no label")
                said = ", ".join(map(repr, row.labels[:3]))
                raise DataError(f"the {part} clip {_clip(row)} has several labels ({said}): recognize.multi_label=true")
        _check_words(part, rows)
    found = label_counts(train)
    if len(found) < _FEWEST:
        raise DataError(f"the training clips are all of {len(found)} class: recognition takes several")
    for row, label in _first(train, lambda label: found[label] < _FEWEST):
        raise DataError(f"the class {label!r} has one training clip, {_clip(row)}: give more, or leave it out")
    for row, label in _first(val, lambda label: label not in found):
        raise DataError(f"the label {label!r} of the validation clip {_clip(row)} is of no training clip")
    _check_apart(train, val)
    names = tuple(sorted(found))
    if len(names) > _MOST or len(json.dumps(names, indent=2)) > _ALL:
        raise DataError(f"the {len(names)} labels are more than a model keeps: {_MOST}, {_ALL} characters together")
    return names


def label_counts(rows: Sequence[Row]) -> Counter[str]:
    """How many rows have each label."""
    found: Counter[str] = Counter()
    for labels, count in value_counts(rows, "labels").items():
        found.update(dict.fromkeys(labels, count))
    return found


def _first(rows: Sequence[Row], bad: Callable[[str], bool]) -> list[tuple[Row, str]]:
    """The first row with a bad label, and the label, where there is one."""
    found = select(rows, "labels", lambda labels: any(map(bad, labels)))[:1]
    return [(row, next(filter(bad, row.labels))) for row in found]


def _check_words(part: str, rows: Sequence[Row]) -> None:
    """Hold labels to what is written as it is: one line, which the settings of a model keep unchanged."""
    for row, label in _first(rows, lambda label: not 0 < len(label) <= _LONGEST or printable(label) != label):
        what = "holds characters that are not printed" if printable(label) != label else f"has {len(label)} characters"
        raise DataError(
            f"a label of the {part} clip {_clip(row)} {what}: labels are one line of 1 to {_LONGEST} characters"
        )


def _check_apart(train: Sequence[Row], val: Sequence[Row]) -> None:
    held_out = {_identity(row): row for row in val}
    hashes = {row.hash for row in val}
    for row in select(train, "hash", hashes.__contains__):
        other = held_out.get(_identity(row))
        if other is not None:
            raise DataError(f"the validation clip {_clip(other)} is the training clip {_clip(row)}: keep them apart")


def _identity(row: Row) -> tuple[object, ...]:
    """What two rows of the same stretch of the same content have in common."""
    path = row.path.absolute() if isinstance(row.path, Path) else row.path
    return row.hash or str(path), row.offset if not row.hash else None, round(row.start, 3)


def _clip(row: Row) -> str:
    place = f" at {row.start:g} s" if row.start else ""
    number = f" (row {row.number})" if row.number else ""
    return f"{printable(row.path)}{place}{number}"


def balanced_weights(rows: Sequence[Row], names: Sequence[str]) -> Tensor:
    """Weights of classes, inverse to how many clips each has; their mean over clips is 1."""
    found = label_counts(rows)
    weights = torch.tensor([1 / found[name] for name in names])
    return weights * found.total() / len(names)
