"""Names and shapes of the parameters in files that the field has released.

A row of ``released/FAMILY.tsv.xz``: the file, a parameter's name in it without the wrapper's prefix, and its shape as
AxBxC (empty for a scalar), in the file's order.
"""

import csv
import lzma
from functools import cache
from pathlib import Path

from released_layers import Shapes


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
