"""Tasks by name, and recipes of them."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from avlearn.errors import RecipeError
from avlearn.files import printable
from avlearn.plugins import HINT, load_plugins
from avlearn.recipe.compose import Composed, checked, compose
from avlearn.recipe.schema import Recipe
from avlearn.tasks.task import Experiment, Task

AnyTask = Task[Any, Any]

# A task of the package is a folder and a line here; one from elsewhere calls `register_task`.
_MODULES = {
    "synchronize": "avlearn.tasks.synchronize",
    "separate": "avlearn.tasks.separate",
    "recognize": "avlearn.tasks.recognize",
}
_DEFAULT = "synchronize"  # of recipes that name none
_registered: dict[str, AnyTask] = {}

T = TypeVar("T", bound=type[AnyTask])


def register_task(task: T) -> T:
    """Make a task available to recipes, by its names.

    Raises:
        ValueError: another one has such a name.
    """
    if task.__module__ not in _MODULES.values():  # the names of the package's own are taken, wherever it is imported
        _import_own()
    for name in (task.name, *task.former_names):
        if name in _registered and type(_registered[name]) is not task:
            raise ValueError(f"there are two tasks of the name '{name}'")
        _registered[name] = task()
    return task


def list_tasks() -> list[str]:
    """Names of all tasks, those of plugins too."""
    load_plugins()
    return sorted({*_MODULES, *(task.name for task in _registered.values())})


def find_task(name: str) -> AnyTask:
    """A task by its name, or by the one that it had before.

    Raises:
        RecipeError: there is none; names those that there are.
    """
    if name in _MODULES:
        import_module(_MODULES[name])
    if name not in _registered:
        _import_own()  # by a former name
        load_plugins()
    if name not in _registered:
        names = list_tasks()
        raise RecipeError(f"task: there is no task {name[:80]!r}; there are {', '.join(names)}; {HINT}")
    return _registered[name]


def _import_own() -> None:
    for module in _MODULES.values():
        import_module(module)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Compose a recipe and check it.

    Args:
        name_or_path, overrides: see `avlearn.recipe.compose`.

    Raises:
        RecipeError: one line with the file and line, or the key's full path, and what would be valid.
    """
    composed = compose(name_or_path, overrides)
    task = _task_of(composed.values)
    _refuse_sections_of_others(composed, task)
    return checked(composed, task.recipe)


def read_recipe(values: Mapping[str, Any]) -> Recipe:
    """The recipe that a run folder holds, perhaps of an earlier version.

    Raises:
        RecipeError, ValueError: it is none.
    """
    own = dict(values)
    return _task_of(own).restore_recipe(own)


def complete(recipe: Recipe) -> Recipe:
    """A recipe with what it leaves to others; see `Task.complete`."""
    return find_task(recipe.task).complete(recipe)


def build(recipe: Recipe, *, resumed: bool = False) -> Experiment[Any]:
    """What a recipe describes, completed where it is not resumed; see `Task.build`."""
    return find_task(recipe.task).build(recipe if resumed else complete(recipe), resumed=resumed)


def _refuse_sections_of_others(composed: Composed, task: AnyTask) -> None:
    """Raise RecipeError where a section is of another task, which checks of this one could only call unknown."""
    for key in [key for key in composed.values if key not in task.recipe.model_fields]:
        for other in list_tasks():
            if key in find_task(other).recipe.model_fields:
                raise RecipeError(
                    f"{printable(composed.path.name)}: the section '{key}' is of the task '{other}', and the recipe's "
                    f"task is '{task.name}': leave the section out, or write task: {other}"
                )


def _task_of(values: dict[str, Any]) -> AnyTask:
    """The task of a recipe, whose name is written into it as it is now."""
    name = values.get("task", _DEFAULT)
    if not isinstance(name, str):
        raise RecipeError(f"task: {str(name)[:80]!r} is no name of a task")
    task = find_task(name)
    values["task"] = task.name
    return task
