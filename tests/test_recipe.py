"""Recipes: composition, overrides, and one-line errors that name the nearest valid key."""

import pytest

from avlearn.errors import RecipeError
from avlearn.objectives import OBJECTIVES
from avlearn.recipe import list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_composes_and_reads_back(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    written = tmp_path / "again.yaml"
    written.write_text(recipe.to_yaml())
    assert load_recipe(written) == recipe


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_a_piece(name):
    recipe = load_recipe("sync_world", [f"objective={name}"])
    assert recipe.objective.name == name


def test_a_wrong_option_of_an_objective_is_named():
    with pytest.raises(
        RecipeError, match=r"no such key 'objective\.temprature'; the nearest is 'objective\.temperature'"
    ):
        load_recipe("sync_world", ["objective=gdt", "objective.temprature=1"])


def test_a_recipe_anywhere_finds_its_pieces(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [{model: r2plus1d}, {data: folder}, _self_]\nname: mine\ntrainer: {max_steps: 3}\n")
    recipe = load_recipe(path, ["data.train=/clips"])
    assert recipe.model.video == "r2plus1d_18"
    assert recipe.data.train == "/clips"
    assert recipe.trainer.max_steps == 3


def test_overrides_set_values_and_choose_pieces():
    words = ["model.video=slowfast_tiny", "trainer.max_epochs=5", "clip=kinetics"]
    recipe = load_recipe("sync_world", words)
    assert (recipe.model.video, recipe.trainer.max_epochs, recipe.clip.size) == ("slowfast_tiny", 5, 112)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective=offst"], "no piece of 'objective' is called 'offst'; the nearest is 'offset'"),
        (["modle.video=x"], "no such key 'modle'; the nearest is 'model'"),
        (["model.vidoe=x"], "no such key 'model.vidoe'; the nearest is 'model.video'"),
        (["trainer.max_steps=many"], "trainer.max_steps"),
        (["optimizer.lr=-1"], "optimizer.lr"),
        (["trainer.precision=64"], "trainer.precision"),
        (["trainer.max_steps=null"], "trainer.max_steps"),
        (["model=unheard_of"], "no piece of 'model' is called 'unheard_of'"),
        (["clip.context=0"], "clip.context: the objective 'dense' needs more sound than picture"),
        (["optimizer.name=adam"], "optimizer.name"),
        (["model.base=default", "model.video_weights=x"], "model.video_weights: the towers of model.base have weights"),
        (["model.video_mean=[0.5,0.5,0.5]"], "model.video_mean, model.video_std: give both"),
        (["nonsense"], "key=value"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(words, said):
    with pytest.raises(RecipeError) as caught:
        load_recipe("sync_world", words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_recipes_and_broken_files(tmp_path):
    with pytest.raises(RecipeError, match="nearest is 'sync_world'"):
        load_recipe("sync_wrld")
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("name: x\n  task: [\n")
    with pytest.raises(RecipeError, match="line 2"):
        load_recipe(tmp_path / "bad.yaml")
