"""Names and shapes of the parameters in files that the field has released.

A row of ``released/FAMILY.tsv.xz``: the file, a parameter's name in it without the wrapper's prefix, and its shape as
AxBxC (empty for a scalar), in the file's order.
"""

import csv
import lzma
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from released_layers import Shapes
from torch import Tensor


@cache
def _families() -> dict[str, Shapes]:
    files: dict[str, Shapes] = {}
    for family in sorted((Path(__file__).parent / "released").glob("*.tsv.xz")):
        with lzma.open(family, "rt", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                shape = tuple(int(side) for side in row["shape"].split("x") if side)
                files.setdefault(row["file"], {})[row["parameter"]] = shape
    return files


def released_shapes(file: str) -> Shapes:
    """Shapes by the names of a released file, in its order."""
    return dict(_families()[file])


def with_released_names(tensors: dict[str, Tensor], file: str, rename: Callable[[dict], dict]) -> dict[str, Tensor]:
    """Tensors of a small model of ours, by the names of a released file.

    Args:
        tensors: by our names.
        file: whose names they get; those of layers that the small model does not have are left out.
        rename: from the file's names to ours, as the importer does it.
    """
    names = list(released_shapes(file))
    numbered = rename({name: torch.full((1,), float(number)) for number, name in enumerate(names)})
    found = {}
    for ours, tensor in tensors.items():
        numbers = [int(number) for number in numbered[ours]]
        parts = tensor.chunk(len(numbers)) if len(numbers) > 1 else [tensor]
        found |= {names[number]: part for number, part in zip(numbers, parts, strict=True)}
    return found
