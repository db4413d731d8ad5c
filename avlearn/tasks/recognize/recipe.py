"""The recipe of the task ``recognize``."""

from typing import Literal

from pydantic import model_validator

from avlearn.recipe.schema import Recipe, Text, refuse_tower_settings
from avlearn.validation import Section


class Recognition(Section):
    """The model that the classifiers stand on.

    - ``base``: the trained model with the towers; null for those of the recipe's ``model``.
    """

    base: Text | None = None


class RecognizeRecipe(Recipe):
    """A recipe of the task ``recognize``."""

    task: Literal["recognize"] = "recognize"
    recognize: Recognition = Recognition()

    @model_validator(mode="after")
    def _fitting(self) -> "RecognizeRecipe":
        refuse_tower_settings(self)
        return self
