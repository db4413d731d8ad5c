"""Recognition: linear classifiers of video, of audio and of both, on the frozen towers of a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING

from avlearn.tasks.recognize.recipe import RecognizeRecipe
from avlearn.tasks.registry import register_task
from avlearn.tasks.task import Experiment, Task

if TYPE_CHECKING:
    from avlearn.tasks.recognize.module import RecognizeModule


@register_task
class Recognize(Task[RecognizeRecipe, "RecognizeModule"]):
    """Trains the classifiers of a model on labelled clips."""

    name = "recognize"
    recipe = RecognizeRecipe

    def complete(
        self, recipe: RecognizeRecipe, begun: RecognizeRecipe | None = None, *, say: bool = False
    ) -> RecognizeRecipe:
        """With the clock and the encoders of ``recognize.base``, or of ``model.base``."""
        from avlearn.tasks.base import with_own_base

        return with_own_base(recipe, "recognize", recipe.recognize.base, begun)

    def build(
        self, recipe: RecognizeRecipe, *, resumed: bool = False, sample: tuple[int, int] | None = None
    ) -> Experiment["RecognizeModule"]:
        """A model with classifiers, and clips with one label each."""
        from avlearn.tasks.recognize.build import build

        return build(recipe, sample)

    def export(
        self, experiment: Experiment["RecognizeModule"], recipe: RecognizeRecipe, folder: Path, card: str
    ) -> None:
        """The model with its classifiers, which take features as they are."""
        from avlearn.models.folder import save

        save(experiment.module.classifying_model().eval(), folder, card)
