"""Tasks by name: names that are taken, and recipes of runs from before a task had its present name and sections."""

import pytest

from avlearn.errors import RecipeError
from avlearn.recipe import Recipe
from avlearn.tasks import Task, build, find_task, load_recipe, read_recipe, register_task


@pytest.mark.parametrize("name", ["synchronize", "separate", "pretrain"])
def test_a_name_of_a_task_of_the_package_is_taken(name):
    with pytest.raises(ValueError, match=f"there are two tasks of the name '{name}'"):
        register_task(type("Other", (Task,), {"name": name, "recipe": Recipe}))
    assert load_recipe("sync_world", ["task=pretrain"]).task == "synchronize"


def test_recipes_of_earlier_runs_are_those_of_today():
    sync, separate = load_recipe("sync_world"), load_recipe("separate_world", ["separator.base=default"])
    former = {**sync.model_dump(mode="json"), "task": "pretrain"}
    assert read_recipe(former).objective == sync.objective and read_recipe(former).task == "synchronize"
    former = {**separate.model_dump(mode="json"), "objective": former["objective"]}
    assert read_recipe(former) == separate


@pytest.mark.parametrize("words", [("sync_world",), ("separate_world", "separator.base=null", "separator.query=frame")])
def test_a_recipe_of_neither_clips_nor_a_world_is_told_which_key_to_set(words):
    name, *overrides = words
    recipe = load_recipe(name, ["data.world=null", *overrides])
    with pytest.raises(RecipeError, match=r"data\.train is not set"):
        build(recipe)
    if name == "separate_world":
        with pytest.raises(RecipeError, match=r"data\.train is not set"):
            find_task("separate").sample_sizes(recipe)
