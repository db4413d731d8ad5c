"""The contract of a task: what its recipes say, what is trained, and what is kept of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from avlearn.recipe import Recipe

if TYPE_CHECKING:  # a recipe is read, and found wrong, without them
    from torch.utils.data import Dataset

    from avlearn.tasks.module import TaskModule


@dataclass(frozen=True)
class Experiment:
    """What a recipe describes.

    Attributes:
        module: what is trained, without an optimizer yet.
        train, val: the clips of each.
        collate: samples to a batch.
        origin: of the clips, in words.
        left_out: training clips that could not be decoded.
        clips: how many there are for training and for validation; of a sample, how many there would be.
        estimated: the latter is not exact.
    """

    module: "TaskModule"
    train: "Dataset"
    val: "Dataset"
    collate: "Callable[[list], dict]"
    origin: str
    left_out: int = 0
    clips: tuple[int, ...] = ()
    estimated: bool = False


class Task:
    """A kind of training.

    Attributes:
        name: that recipes say.
        former_names: that recipes of earlier versions say.
        recipe: class of its recipes.
    """

    name: ClassVar[str]
    former_names: ClassVar[tuple[str, ...]] = ()
    recipe: ClassVar[type[Recipe]]

    def complete(self, recipe: Recipe, begun: Recipe | None = None, *, say: bool = False) -> Recipe:
        """A recipe with what it leaves to others, like the model that it starts from.

        Args:
            recipe: as it was composed.
            begun: the completed recipe of the run that is resumed.
            say: tell on standard error what stays otherwise than a new run would have it.

        Raises:
            RecipeError, ModelError: what it starts from is not there, or is another than it says.
        """
        return recipe

    def recall(self, values: dict) -> Recipe:
        """The recipe that a run folder holds, perhaps of an earlier version.

        Raises:
            ValueError: it is none of this task.
        """
        return self.recipe.model_validate(values)

    def describe_memory(self, recipe: Recipe) -> str:
        """Memory that a training step takes, in words, before any of it is taken; "" where that is not known.

        Raises:
            RecipeError: the machine has less.
        """
        return ""

    def sample_sizes(self, recipe: Recipe) -> tuple[int, int]:
        """Clips for training and validation that are enough to make a batch of each."""
        processes = recipe.trainer.processes
        return recipe.trainer.batch_size * processes, processes

    def build(self, recipe: Recipe, *, resumed: bool = False, sample: tuple[int, int] | None = None) -> Experiment:
        """Build what a recipe describes; a world is rendered where it names no data.

        Args:
            recipe: completed.
            resumed: a checkpoint has the weights, so what they started from is not read and may be gone.
            sample: render, or decode, no more clips for training and validation than these, for a look at what there
                is.

        Raises:
            RecipeError, DataError, ModelError: the recipe asks for what is not there.
        """
        raise NotImplementedError

    def export(self, experiment: Experiment, recipe: Recipe, folder: Path, card: str) -> None:
        """Write the model's folder.

        Args:
            experiment: trained.
            recipe: of it.
            folder: of the model.
            card: its README.
        """
        raise NotImplementedError
