"""The weights that are known by name: ``released.tsv``."""

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Released:
    """Weights that were released.

    Attributes:
        encoder, name: what to call them by; the name says who released them.
        data: what they were trained on.
        top1: published accuracy on it, percent; empty where another measure is published.
        address: see `download`.
        needs: what the file does not show and its layout does not say: options of the builder, ``mean`` and ``std``.
    """

    encoder: str
    name: str
    data: str
    top1: str
    address: str
    needs: dict[str, object]


@cache
def released_weights() -> tuple[Released, ...]:
    """All that are known by name."""
    with Path(__file__).with_name("released.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return tuple(Released(**{**row, "needs": json.loads(row["needs"] or "{}")}) for row in rows)
