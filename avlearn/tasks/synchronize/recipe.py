"""The recipe of the task ``synchronize``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from avlearn.recipe.schema import Recipe, section_keys


def _objective(values: object) -> object:
    """Options of an objective, as the objective itself declares them."""
    from avlearn.objectives import read_options  # PyTorch is slow to import, and a recipe that is not there needs none

    return read_options(values)


# An `avlearn.objectives.ObjectiveOptions`, by its name.
Objective = Annotated[Any, PlainValidator(_objective)]


class SynchronizeRecipe(Recipe):
    """A recipe of the task ``synchronize``."""

    task: Literal["synchronize"] = "synchronize"
    objective: Objective = Field(default_factory=lambda: _objective({"name": "dense"}))

    @model_validator(mode="after")
    def _fitting(self) -> "SynchronizeRecipe":
        from avlearn.objectives import TrainingSetup

        sharded, pretrained = self.trainer.strategy == "fsdp", self.model.base is not None
        self.objective.check(TrainingSetup(self.model.dim, self.clip.context, pretrained, sharded))
        return self

    @property
    def clip_seconds(self) -> float:
        """What a clip has to last."""
        return self.clip.seconds + 2 * self.clip.context

    @classmethod
    def known_keys(cls, values: Mapping[str, object]) -> list[str]:
        """Full paths of all keys, those of the objective that is named too."""
        from avlearn.objectives import option_names

        section = values.get("objective")
        name = section.get("name", "") if isinstance(section, dict) else ""
        return [*section_keys(cls), *(f"objective.{key}" for key in option_names(name))]
