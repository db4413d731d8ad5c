"""Stored settings are input from strangers: JSON files by a schema, and options by the signature that takes them."""

import inspect
import json
import math
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from avlearn.errors import ModelError
from avlearn.files import printable
from avlearn.names import hint

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # of dataclasses that are stored
_MAX_FILE = 2**20  # bytes of settings
_MAX_NUMBER, _MAX_REAL, _MAX_ITEMS, _MAX_TEXT = 4096, 1000, 64, 64  # of an option

# Bounds of options: beyond them lies nonsense that hangs or takes all memory long after it was read.
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e4)]
Seconds = Annotated[float, Field(ge=1e-4, le=600)]
Weight = Annotated[float, Field(ge=0, le=1e4)]
Count = Annotated[int, Field(ge=1, le=10**5)]
Steps = Annotated[int, Field(ge=1, le=10**8)]
Width = Annotated[int, Field(ge=1, le=16384)]  # channels, samples of a transform

Line = Annotated[str, Field(max_length=4096), AfterValidator(printable)]  # of text that is printed


class Section(BaseModel):
    """Base of the settings that are declared once, and read from recipes and model folders."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T")


def read_object(path: Path, stated: str) -> dict[str, Any]:
    """The object of a JSON file, without its ``format``.

    Args:
        path: of the file.
        stated: the format that it must state.

    Raises:
        ModelError: it cannot be read, is too large, is no object, or of another format.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise ValueError(f"it has more than {_MAX_FILE} bytes")
        values = json.loads(data)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON that can be read: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != stated:
        raise ModelError(f"{path} is not of the format {stated}")
    return values


def validated(kind: type[T], values: object, where: object) -> T:
    """Values of JSON's types as a dataclass (or another type) whose annotations they keep to.

    Args:
        kind: of what is to come out.
        values: what there is.
        where: the file, or the section, that a message names.

    Raises:
        ModelError: a key is missing, unknown or of another type, or a number is out of its bounds.
    """
    try:
        found: T = _adapter(cast(Hashable, kind)).validate_json(json.dumps(values), strict=True)
        return found
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part)[:_MAX_TEXT] for part in first["loc"])
        raise ModelError(f"{where}: {key or 'all of it'}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:  # what JSON cannot hold
        raise ModelError(f"{where}: {error}") from error


def check_options(function: Callable[..., object], options: Mapping[str, object], title: str) -> None:
    """Hold options to the parameters of the function that takes them.

    Options are numbers, truth values, short strings and short lists of those: whole numbers from 0 to 4096 (in lists
    from 1), others from 0 to 1000. Any of them suits a parameter that has no annotation.

    Raises:
        ModelError: one is unknown (the nearest is named), of another type, or out of these bounds.
    """
    known = inspect.signature(function).parameters
    for key, value in options.items():
        if key not in known:
            raise ModelError(f"{title} has no option '{str(key)[:_MAX_TEXT]}'{hint(key, known)}")
        if not _is_modest(value):
            raise ModelError(f"{title}: the option '{key}' is out of all bounds")
        try:
            _adapter(_hints(function).get(key, Any)).validate_python(value, strict=True)
        except ValidationError as error:
            said = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise ModelError(f"{title}: the option '{key}': {said}") from error


def _is_modest(value: object, inner: bool = False) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT
    if isinstance(value, int):
        return inner <= value <= _MAX_NUMBER
    if isinstance(value, float):
        return math.isfinite(value) and 0 <= value <= _MAX_REAL
    return isinstance(value, list | tuple) and not inner and len(value) <= _MAX_ITEMS and all(
        _is_modest(item, inner=True) for item in value
    )  # fmt: skip


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _hints(function: Callable[..., object]) -> dict[str, Any]:
    return get_type_hints(function.__init__ if inspect.isclass(function) else function)
