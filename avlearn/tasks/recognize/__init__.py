"""Recognition: encoders of video, of audio, or of both, and a classifier, trained on labelled clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from avlearn.tasks.recognize.recipe import RecognizeRecipe
from avlearn.tasks.registry import register_task
from avlearn.tasks.task import Experiment, Task

if TYPE_CHECKING:
    from avlearn.tasks.recognize.module import RecognizeModule


@register_task
class Recognize(Task[RecognizeRecipe, "RecognizeModule"]):
    """Trains a network that names what a clip shows."""

    name = "recognize"
    recipe = RecognizeRecipe

    def complete(
        self, recipe: RecognizeRecipe, begun: RecognizeRecipe | None = None, *, say: bool = False
    ) -> RecognizeRecipe:
        """With what its start says: see `avlearn.tasks.recognize.start.with_start`."""
        from avlearn.tasks.recognize.start import with_start

        return with_start(recipe, begun)

    def restore_recipe(self, values: dict[str, Any]) -> RecognizeRecipe:
        """The recipe of a run folder.

        Raises:
            ValueError: it is of a version in which the task fitted linear classifiers to frozen towers.
        """
        if "base" in (values.get("recognize") or {}):
            raise ValueError(
                "the run fitted linear classifiers to frozen towers: avlearn linear-probe --out MODEL does that now"
            )
        return super().restore_recipe(values)

    def build(
        self, recipe: RecognizeRecipe, *, resumed: bool = False, sample: tuple[int, int] | None = None
    ) -> Experiment["RecognizeModule"]:
        """A recognizer, and labelled clips."""
        from avlearn.tasks.recognize.build import build

        return build(recipe, resumed=resumed, sample=sample)

    def export(
        self, experiment: Experiment["RecognizeModule"], recipe: RecognizeRecipe, folder: Path, card: str
    ) -> None:
        """The recognizer, and what its validation clips are like."""
        from avlearn.models.recognizer_folder import save_recognizer
        from avlearn.tasks.recognize.export import in_distribution_of

        model = experiment.module.model.eval()
        model.in_distribution = in_distribution_of(model, experiment.val)
        save_recognizer(model, folder, card)
