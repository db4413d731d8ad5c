"""Tasks: one folder each, with its section of a recipe, what is trained, how it is built and exported."""

from avlearn.tasks.registry import build, complete, find_task, list_tasks, load_recipe, read_recipe, register_task
from avlearn.tasks.task import Experiment, Task

__all__ = [
    "Experiment",
    "Task",
    "build",
    "complete",
    "find_task",
    "list_tasks",
    "load_recipe",
    "read_recipe",
    "register_task",
]
