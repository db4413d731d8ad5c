"""YAML as plain data: mappings, lists, text and numbers, bounded in size and depth; each fault with its line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from avlearn.errors import RecipeError
from avlearn.files import printable

MAX_BYTES = 64 * 1024  # of a file; the longest recipe with every default spelled out has 3 kB
MAX_DEPTH = 16

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?\d{1,30}")
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,5})?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        RecipeError: the file cannot be read or is too long, is not UTF-8 or not YAML, nests too deep, has a key twice
            or one that is no text, or uses an alias, a tag or an interpolation; with the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{path} is longer than {MAX_BYTES // 1024} kB: that is no recipe")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}, line {line}: not UTF-8: save the file in that encoding") from error
    values = parse_yaml(text, str(path))
    if values is None:
        raise RecipeError(f"{path} is empty")
    if not isinstance(values, dict):
        raise RecipeError(f"{path}, line 1: not a mapping: write keys, like name: mine")
    return values


def parse_yaml(text: str, where: str) -> object:
    """The value of a YAML document; None of an empty one. Raises RecipeError, as `read_yaml`; ``where`` names it."""
    try:
        events = yaml.parse(text, yaml.SafeLoader)
        value = _document(events, where)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise RecipeError(f"{where}{line}: not valid YAML: {printable(problem)}") from error
    return value


def plain_value(text: str) -> object:
    """What an unquoted word means: null, a truth value, a number, or else itself (YAML 1.2's core schema)."""
    if text in _NULL:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "", 1)) if _SPECIAL.fullmatch(text) else text


def _document(events: Iterator[yaml.Event], where: str) -> object:
    value = None
    documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _fault(event, where, "a second document begins: write one")
        elif isinstance(event, yaml.NodeEvent):
            value = _node(event, events, where, 1)
    return value


def _node(event: yaml.NodeEvent, events: Iterator[yaml.Event], where: str, depth: int) -> object:
    if isinstance(event, yaml.AliasEvent):
        raise _fault(event, where, f"the alias *{event.anchor} is not supported: write the value out")
    if event.tag is not None and event.tag != "!":
        raise _fault(event, where, f"the tag {event.tag} is not supported: write plain values")
    if depth > MAX_DEPTH:
        raise _fault(event, where, f"nested more than {MAX_DEPTH} deep")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, where)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_node(item, events, where, depth + 1))
        return items
    values: dict[str, object] = {}
    while not isinstance(key := next(events), yaml.MappingEndEvent):
        name = _key(key, where)
        if name in values:
            raise _fault(key, where, f"the key '{name}' is there twice")
        values[name] = _node(next(events), events, where, depth + 1)
    return values


def _key(event: yaml.NodeEvent, where: str) -> str:
    if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
        raise _fault(event, where, "a key is a word")
    if event.implicit[0] and not isinstance(plain_value(event.value), str):
        raise _fault(event, where, f"the key {event.value or 'null'} is no word")
    return str(event.value)


def _scalar(event: yaml.ScalarEvent, where: str) -> object:
    if "${" in event.value:
        raise _fault(event, where, f"{event.value[:60]!r}: interpolation is not supported: write the value")
    return plain_value(event.value) if event.implicit[0] else event.value


def _fault(event: yaml.Event, where: str, problem: str) -> RecipeError:
    return RecipeError(f"{where}, line {event.start_mark.line + 1}: {problem}")
