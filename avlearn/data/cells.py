"""What a cell of a manifest may hold: values that cannot be true are a ValueError that says why."""

import json
from typing import Any

from avlearn.files import printable

SPLITS = ("train", "val", "test", "")


def as_text(value: object, longest: int = 65536) -> str:
    """Text of up to so many characters, none of them zero."""
    if not isinstance(value, str):
        raise ValueError(f"{short(value)} is no text")
    if len(value) > longest:
        raise ValueError(f"the text has {len(value)} characters: {longest} at most")
    if "\0" in value:
        raise ValueError(f"{short(value)} holds a zero character")
    return value


def as_path(value: object) -> str:
    """The name of a file."""
    return as_text(value, 4096)


def as_number(value: object, low: float, high: float) -> float:
    """A number within bounds, or its text."""
    if isinstance(value, str) and "_" not in value:
        text = value
        try:
            value = float(text)
        except ValueError:
            comma = "; write a decimal point" if "," in text else ""
            raise ValueError(f"{short(text)} is no number{comma}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{short(value)} is no number")
    if not low <= value <= high:  # not of NaN
        raise ValueError(f"{short(value)} is not from {low:g} to {high:g}")
    return float(value)


def as_whole(value: object, high: int) -> int:
    """A whole number from 0 on, or its text."""
    number = as_number(value, 0, high)
    if not number.is_integer():
        raise ValueError(f"{short(value)} is no whole number")
    return int(number)


def as_list(value: object) -> list[Any]:
    """A list, of its JSON."""
    try:
        found = json.loads(as_text(value, 2**24))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise ValueError(f'{short(value)} is no list: write one, like ["dog"]')
    return found


def as_split(value: object) -> str:
    """One of `SPLITS`."""
    if value not in SPLITS:
        raise ValueError(f"{short(value)} is no split: write {', '.join(SPLITS[:-1])}, or nothing")
    return str(value)


def as_folds(value: object) -> tuple[str, ...]:
    """Splits, of a list's JSON."""
    return tuple(map(as_split, as_words(value)))


def as_words(value: object) -> tuple[str, ...]:
    """Words, of a list's JSON."""
    found = as_list(value)
    if not all(isinstance(word, str | int) and not isinstance(word, bool) for word in found):
        raise ValueError(f"{short(value)} is no list of words")
    return tuple(as_text(str(word)) for word in found)


def short(value: object) -> str:
    """A value as it is written in a message."""
    text = value.hex() if isinstance(value, bytes) else repr(value) if isinstance(value, str) else str(value)
    return printable(text if len(text) <= 80 else f"{text[:80]}...")
