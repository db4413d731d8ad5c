"""Separation learned by mixing, on the towers of a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from avlearn.tasks.registry import register_task
from avlearn.tasks.separate.recipe import SeparateRecipe
from avlearn.tasks.task import Experiment, Task

if TYPE_CHECKING:
    from avlearn.tasks.separate.module import SeparateModule

_FEW = 8  # times the clips of a batch, where not all clips are mixed


@register_task
class Separate(Task[SeparateRecipe, "SeparateModule"]):
    """Trains the separator of a model."""

    name = "separate"
    recipe = SeparateRecipe

    def complete(
        self, recipe: SeparateRecipe, begun: SeparateRecipe | None = None, *, say: bool = False
    ) -> SeparateRecipe:
        """With the clock and the encoders of ``separator.base``, or of ``model.base``."""
        from avlearn.tasks.base import with_own_base

        return with_own_base(recipe, "separator", recipe.separator.base, begun)

    def restore_recipe(self, values: dict[str, Any]) -> SeparateRecipe:
        """Recipes of earlier versions have the section ``objective``, which says nothing here."""
        return self.recipe.model_validate({key: value for key, value in values.items() if key != "objective"})

    def sample_sizes(self, recipe: SeparateRecipe) -> tuple[int, int]:
        """More where only clips with one source alone are mixed."""
        train, val = super().sample_sizes(recipe)
        val = max(val, recipe.separator.sources)
        few = _FEW if self._takes_a_part(recipe) else 1
        return few * train, few * val

    def _takes_a_part(self, recipe: SeparateRecipe) -> bool:
        """One source alone must be heard in each clip."""
        from avlearn.data.world import WorldConfig
        from avlearn.tasks.clips import world_of

        if recipe.separator.places > 1 or recipe.data.train is not None:
            return False
        world = WorldConfig.preset(world_of(recipe).preset)
        return world.sources != (1, 1) or world.offscreen_share > 0

    def build(
        self, recipe: SeparateRecipe, *, resumed: bool = False, sample: tuple[int, int] | None = None
    ) -> Experiment["SeparateModule"]:
        """A model with a separator, and clips with one source each."""
        from avlearn.tasks.separate.build import build

        return build(recipe, sample)

    def export(self, experiment: Experiment["SeparateModule"], recipe: SeparateRecipe, folder: Path, card: str) -> None:
        """The model with its separator."""
        from avlearn.models.folder import save

        save(experiment.module.model.eval(), folder, card)
