"""One of several parts of work over many files, each done by a command that knows nothing of the others."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from avlearn.errors import AvlearnError

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Every ``of``-th item, from ``number`` (1 to ``of``) on."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Of a text like "3/10".

        Raises:
            AvlearnError: it is none.
        """
        numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        part = cls(*map(int, numbers.groups())) if numbers else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise AvlearnError(f"--part {text}: give a number and of how many, from 1/10 to 10/10")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def among(self, items: Sequence[T]) -> Sequence[T]:
        """Those of the items that are this part's."""
        return items[self.number - 1 :: self.of]

    def of_its_own(self, path: Path) -> Path:
        """The name of what this part writes in place of a file that people read: its suffix stays."""
        return path.with_name(f"{path.stem}.{self.number}-of-{self.of}{path.suffix}")

    def beside(self, path: Path) -> Path:
        """The name of what this part keeps in place of a file."""
        return path.with_name(f"{path.name}.{self.number}-of-{self.of}")


def all_beside(path: Path) -> list[Path]:
    """What parts keep in place of a file, in the order of their names."""
    named = re.compile(rf"{re.escape(path.name)}\.\d+-of-\d+")
    return sorted(found for found in path.parent.iterdir() if named.fullmatch(found.name))
