"""An objective is one class with its options: a recipe knows it as soon as it is registered."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

import pytest
import torch
from planted import SPEC, planted

from avlearn.errors import ModelError, RecipeError
from avlearn.objectives import (
    OBJECTIVES,
    Dense,
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    TrainingSetup,
    read_options,
    register,
)
from avlearn.tasks import load_recipe
from avlearn.validation import Positive

ALONE = [name for name in OBJECTIVES if name not in ("avid", "clusters")]  # these need to know how many clips there are


@dataclass(frozen=True)
class ToyOptions(ObjectiveOptions):
    name: Literal["toy"] = "toy"
    weight: Positive = 2.0

    def check(self, setup: TrainingSetup) -> None:
        super().check(setup)
        if setup.dim > 256:
            raise ValueError(f"model.dim: {setup.dim} is too much for a toy")


class Toy(Objective[ToyOptions]):
    Options = ToyOptions

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        return ObjectiveOutput(self.options.weight * (batch.video.mean() - batch.audio.mean()).square(), {})


@pytest.fixture
def toy():
    yield register(Toy)
    OBJECTIVES.pop("toy")


def test_an_objective_of_ones_own_is_in_recipes(toy, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [sync_world, _self_]\nname: mine\nobjective: {name: toy, weight: 3}\n")
    assert load_recipe(path).objective == ToyOptions(weight=3.0)  # without what the objective of sync_world has
    with pytest.raises(RecipeError, match=r"no such key 'objective\.temperature'"):
        load_recipe(path, ["objective.temperature=0.1"])
    path.write_text(
        "defaults: [{data: folder}]\nname: mine\nobjective: {name: toy, weight: 3}\ntrainer: {max_steps: 1}\n"
    )
    recipe = load_recipe(path)
    assert recipe.objective == ToyOptions(weight=3.0)
    assert float(toy(recipe.objective, SPEC)(planted(7)).loss) >= 0
    with pytest.raises(RecipeError, match=r"no such key 'objective\.wieght'; the nearest is 'objective\.weight'"):
        load_recipe(path, ["objective.wieght=1"])
    with pytest.raises(RecipeError, match=r"model\.dim: 512 is too much for a toy"):
        load_recipe(path, ["model.dim=512"])
    with pytest.raises(RecipeError, match=r"clip\.context: the objective 'toy' needs more audio than video"):
        load_recipe(path, ["clip.context=0"])


def test_an_objective_of_ones_own_is_chosen_by_its_name(toy):
    assert load_recipe("sync_world", ["objective=toy", "objective.weight=5"]).objective == ToyOptions(weight=5.0)
    with pytest.raises(RecipeError, match="no piece of 'objective' is called 'toyy'; the nearest is 'toy'"):
        load_recipe("sync_world", ["objective=toyy"])


def test_a_name_belongs_to_one_objective(toy):
    with pytest.raises(ValueError, match="two objectives of the name 'toy'"):
        register(toy)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_options_read_back_as_they_are_written(name):
    options = OBJECTIVES[name].Options()
    assert options.name == name
    assert read_options(asdict(options)) == options


@pytest.mark.parametrize("name", ALONE)
def test_an_objective_is_made_without_arguments_and_called_on_embeddings(name):
    torch.manual_seed(0)
    objective, (video, audio) = OBJECTIVES[name](), (torch.randn(4, 128, 25, 2, 2), torch.randn(4, 128, 49))
    video, audio = (torch.nn.functional.normalize(x, dim=1).requires_grad_() for x in (video, audio))
    batch = EmbeddedBatch(video, audio)
    loss, logs = objective(replace(batch, target=batch))
    loss.backward()
    assert loss.isfinite() and logs and video.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["avid", "clusters"])
def test_objectives_with_a_memory_ask_how_many_clips_there_are(name):
    with pytest.raises(RecipeError, match="clips"):
        OBJECTIVES[name]()


@pytest.mark.parametrize(("video", "audio"), [((4, 8, 10), (4, 8, 10)), ((4, 8), (4, 8, 1, 1)), ((8,), (4, 8))])
def test_a_batch_takes_embeddings_with_the_axes_that_it_names(video, audio):
    with pytest.raises(ValueError, match=r"takes \[B, D, T, Y, X\] and \[B, D, U\], or \[B, D\] of whole clips"):
        EmbeddedBatch(torch.zeros(video), torch.zeros(audio))


def test_wrong_offsets_need_as_many_as_were_announced():
    batch = EmbeddedBatch(torch.zeros(2, 4, 10, 1, 1), torch.zeros(2, 4, 14))
    with pytest.raises(ValueError, match=r"allows 5 offsets: give FeatureSpec\(offsets=5\)"):
        Dense().wrong_offsets(batch)
    assert Dense(spec=FeatureSpec(offsets=5)).wrong_offsets(batch).max() < 5


@pytest.mark.parametrize("options", [Dense.Options(temperature=-1.0), Dense.Options(pool_scale=float("nan"))])
def test_what_could_not_be_read_back_is_not_made(options):
    with pytest.raises(ModelError, match="objective"):
        Dense(options)
