"""Tasks by name, and recipes of them."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from avlearn.errors import RecipeError
from avlearn.plugins import load_plugins
from avlearn.recipe.compose import checked, compose, nearest
from avlearn.recipe.schema import Recipe
from avlearn.tasks.task import Experiment, Task

# A task of the package is a folder and a line here; one from elsewhere calls `register_task`.
_MODULES = {"synchronize": "avlearn.tasks.synchronize", "separate": "avlearn.tasks.separate"}
_DEFAULT = "synchronize"  # of recipes that name none
_registered: dict[str, Task] = {}


def register_task(task: type[Task]) -> type[Task]:
    """Make a task available to recipes, by its names.

    Raises:
        ValueError: another one has such a name.
    """
    for name in (task.name, *task.former_names):
        if name in _registered and type(_registered[name]) is not task:
            raise ValueError(f"there are two tasks of the name '{name}'")
        _registered[name] = task()
    return task


def list_tasks() -> list[str]:
    """Names of all tasks, those of plugins too."""
    load_plugins()
    return sorted({*_MODULES, *(task.name for task in _registered.values())})


def find_task(name: str) -> Task:
    """A task by its name, or by the one that it had before.

    Raises:
        RecipeError: there is none; names the nearest.
    """
    if name in _MODULES:
        import_module(_MODULES[name])
    if name not in _registered:
        for module in _MODULES.values():  # by a former name
            import_module(module)
        load_plugins()
    if name not in _registered:
        names = list_tasks()
        near = nearest(name, names)
        raise RecipeError(f"task: there is no task {name[:80]!r}; the nearest is '{near}', of {', '.join(names)}")
    return _registered[name]


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Compose a recipe and check it.

    Args:
        name_or_path, overrides: see `avlearn.recipe.compose`.

    Raises:
        RecipeError: one line with the file and line, or the key's full path, and what would be valid.
    """
    composed = compose(name_or_path, overrides)
    task = _task_of(composed.values)
    return checked(composed, task.recipe)


def read_recipe(values: dict) -> Recipe:
    """The recipe that a run folder holds, perhaps of an earlier version.

    Raises:
        RecipeError, ValueError: it is none.
    """
    values = dict(values)
    return _task_of(values).recall(values)


def complete(recipe: Recipe) -> Recipe:
    """A recipe with what it leaves to others; see `Task.complete`."""
    return find_task(recipe.task).complete(recipe)


def build(recipe: Recipe, *, resumed: bool = False) -> Experiment:
    """What a recipe describes, completed where it is not resumed; see `Task.build`."""
    return find_task(recipe.task).build(recipe if resumed else complete(recipe), resumed=resumed)


def _task_of(values: dict) -> Task:
    """The task of a recipe, whose name is written into it as it is now."""
    name = values.get("task", _DEFAULT)
    if not isinstance(name, str):
        raise RecipeError(f"task: {str(name)[:80]!r} is no name of a task")
    task = find_task(name)
    values["task"] = task.name
    return task
