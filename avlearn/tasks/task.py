"""The contract of a task: what its recipes say, what is trained, and what is kept of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from avlearn.recipe import Recipe

if TYPE_CHECKING:  # a recipe is read, and found wrong, without them
    from avlearn.data.clips import Clips
    from avlearn.tasks.module import TaskModule

R = TypeVar("R", bound=Recipe)
M = TypeVar("M", bound="TaskModule")


@dataclass(frozen=True)
class Experiment(Generic[M]):
    """An experiment that a recipe describes.

    Attributes:
        module: what is trained, without an optimizer yet.
        train, val: the clips of each.
        collate: samples to a batch.
        origin: of the clips, in words.
        left_out: training clips that could not be decoded.
        clips: how many there are for training and for validation; of a sample, how many there would be.
        estimated: the latter is not exact.
    """

    module: M
    train: "Clips"
    val: "Clips"
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]
    origin: str
    left_out: int = 0
    clips: tuple[int, ...] = ()
    estimated: bool = False


class Task(Generic[R, M]):
    """A kind of training: recipes of a class, and what they train.

    Attributes:
        name: that recipes say.
        former_names: that recipes of earlier versions say.
        recipe: class of its recipes.
    """

    name: ClassVar[str]
    former_names: ClassVar[tuple[str, ...]] = ()
    recipe: type[R]

    def complete(self, recipe: R, begun: R | None = None, *, say: bool = False) -> R:
        """A recipe with what it leaves to others, like the model that it starts from.

        Args:
            recipe: as it was composed.
            begun: the completed recipe of the run that is resumed.
            say: tell on standard error what stays otherwise than a new run would have it.

        Raises:
            RecipeError, ModelError: what it starts from is not there, or is another than it says.
        """
        return recipe

    def restore_recipe(self, values: dict[str, Any]) -> R:
        """The recipe that a run folder holds, perhaps of an earlier version.

        Raises:
            ValueError: it is none of this task.
        """
        return self.recipe.model_validate(values)

    def describe_memory(self, recipe: R) -> str:
        """Memory that a training step takes, in words, before any of it is taken; "" where that is not known.

        Raises:
            RecipeError: the machine has less.
        """
        return ""

    def sample_sizes(self, recipe: R) -> tuple[int, int]:
        """Clips for training and validation that are enough to make a batch of each."""
        processes = recipe.trainer.processes
        return recipe.trainer.batch_size * processes, processes

    def build(self, recipe: R, *, resumed: bool = False, sample: tuple[int, int] | None = None) -> Experiment[M]:
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

    def export(self, experiment: Experiment[M], recipe: R, folder: Path, card: str) -> None:
        """Write the model's folder.

        Args:
            experiment: trained.
            recipe: of it.
            folder: of the model.
            card: its README.
        """
        raise NotImplementedError
