"""Self-supervised pretraining of two towers by synchronization and correspondence."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from avlearn.tasks.registry import register_task
from avlearn.tasks.synchronize.recipe import SynchronizeRecipe
from avlearn.tasks.task import Experiment, Task

if TYPE_CHECKING:
    from avlearn.tasks.synchronize.module import SynchronizeModule


@register_task
class Synchronize(Task[SynchronizeRecipe, "SynchronizeModule"]):
    """Trains the towers of a model under an objective."""

    name = "synchronize"
    former_names = ("pretrain",)
    recipe = SynchronizeRecipe

    def complete(
        self, recipe: SynchronizeRecipe, begun: SynchronizeRecipe | None = None, *, say: bool = False
    ) -> SynchronizeRecipe:
        """With the clock and the encoders of ``model.base``, and the options by which the steps keep time."""
        from avlearn.tasks.base import with_base
        from avlearn.tasks.synchronize.build import spell_out

        return spell_out(with_base(recipe, "model.base", recipe.model.base, begun), begun, say)

    def restore_recipe(self, values: dict[str, Any]) -> SynchronizeRecipe:
        """One that says nothing of an option that keeps time has the encoder's own, as versions had that set none."""
        from avlearn.tasks.synchronize.build import without_kept_options

        return without_kept_options(self.recipe.model_validate(values))

    def describe_memory(self, recipe: SynchronizeRecipe) -> str:
        """Of weights and activations, against the machine's."""
        from avlearn.tasks.synchronize.footprint import check_footprint

        return check_footprint(recipe).text()

    def build(
        self, recipe: SynchronizeRecipe, *, resumed: bool = False, sample: tuple[int, int] | None = None
    ) -> Experiment["SynchronizeModule"]:
        """The towers, the objective, and clips with room for shifts."""
        from avlearn.tasks.synchronize.build import build

        return build(recipe, resumed, sample)

    def export(
        self, experiment: Experiment["SynchronizeModule"], recipe: SynchronizeRecipe, folder: Path, card: str
    ) -> None:
        """The model, what is in-distribution, and an objective that scores offsets by a network of its own."""
        from avlearn.tasks.synchronize.export import export

        export(experiment, folder, card)
