"""Objectives by name, and their options as a recipe or a model folder gives them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import TypeAdapter

from avlearn.names import hint
from avlearn.objectives.objective import Objective, ObjectiveOptions
from avlearn.plugins import HINT, load_plugins

OBJECTIVES: dict[str, type[Objective[Any]]] = {}

K = TypeVar("K", bound=type[Objective[Any]])


def register(kind: K) -> K:
    """Make an objective available to recipes, by the name that its options have.

    Raises:
        ValueError: another objective has that name.
    """
    name = kind.Options.name
    if name in OBJECTIVES:
        raise ValueError(f"there are two objectives of the name '{name}'")
    OBJECTIVES[name] = kind
    return kind


def list_objectives() -> list[str]:
    """Names of all objectives, those of plugins too.

    >>> "infonce" in list_objectives()
    True
    """
    load_plugins()
    return sorted(OBJECTIVES)


def find_objective(name: str) -> type[Objective[Any]]:
    """An objective by its name, those of plugins too.

    Raises:
        ValueError: there is none; names the nearest.

    >>> find_objective("infonce").__name__
    'InfoNCE'
    """
    if name not in OBJECTIVES:
        load_plugins()
    if name not in OBJECTIVES:
        raise ValueError(f"no objective is called {name!r}{hint(name, OBJECTIVES)}; {HINT}")
    return OBJECTIVES[name]


def read_options(values: object) -> ObjectiveOptions:
    """Options from a recipe's section, each held to its bounds; what is left out has its default.

    Args:
        values: ``name``, and keys of that objective's options.

    Raises:
        ValueError: there is no such objective, or (pydantic's ValidationError) an option is unknown or out of its
            bounds.

    >>> read_options({"name": "infonce", "temperature": 0.1}).name
    'infonce'
    """
    if isinstance(values, ObjectiveOptions):
        return values
    if not isinstance(values, Mapping) or "name" not in values:
        raise ValueError("objective: write a section with the name of an objective, like {name: dense}")
    try:
        kind = find_objective(str(values["name"])[:100])
    except ValueError as error:
        raise ValueError(f"objective.name: {error}") from error
    options: ObjectiveOptions = TypeAdapter(kind.Options).validate_python(values)
    return options


def option_names(name: str) -> list[str]:
    """Names of all options of an objective, those of its ``shift`` too; of an unknown one none.

    >>> option_names("infonce")
    ['name', 'shift', 'shift.first', 'shift.last', 'shift.until', 'temperature']
    """
    if name not in OBJECTIVES:
        return []
    options = OBJECTIVES[name].Options()
    inner = [f"shift.{field.name}" for field in fields(options.shift)]
    own = [field.name for field in fields(options)]
    return [*own[:2], *inner, *own[2:]]
