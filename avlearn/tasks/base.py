"""Settings that a trained model decides for a recipe that starts from it, or trains a separator on it."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from avlearn.config import ModelConfig, Towers
from avlearn.errors import RecipeError
from avlearn.models.folder import load
from avlearn.recipe import Recipe
from avlearn.recipe.schema import SpectrogramOptions

_CLIP = ("fps", "size", "sample_rate")
_MODEL = tuple(Towers.model_fields)

R = TypeVar("R", bound=Recipe)


def with_base(recipe: R, key: str, name: str | None, begun: Recipe | None = None) -> R:
    """A recipe with its base's encoders, spectrogram and clock; unchanged where it has no base.

    What the recipe's pieces say of them is passed over; what its own file or an override says must be the same.

    Args:
        recipe: to complete.
        key: of the recipe, which names the base.
        name: of the base.
        begun: the completed recipe of a run that is resumed, whose base may be gone.

    Raises:
        RecipeError: the recipe says otherwise; names the key.
        ModelError: there is no such base.
    """
    if name is None:
        return recipe
    clip, model = _of_run(begun) if begun else _of_config(load(name).config)
    require_agreement(recipe.clip, clip, "clip", f"{key} {name}")
    require_agreement(recipe.model, model, "model", f"{key} {name}")
    return recipe.model_copy(
        update={"clip": recipe.clip.model_copy(update=clip), "model": recipe.model.model_copy(update=model)}
    )


def with_own_base(recipe: R, section: str, name: str | None, begun: Recipe | None = None) -> R:
    """`with_base` of the base that a task's own section names, and of ``model.base`` where it names none.

    Raises:
        RecipeError: as `with_base`, or the recipe names both.
        ModelError: as `with_base`.
    """
    if name is None:
        return with_base(recipe, "model.base", recipe.model.base, begun)
    for key in ("base", "video_weights", "audio_weights"):
        if getattr(recipe.model, key) is not None:
            raise RecipeError(f"model.{key}: the towers are those of {section}.base; give one of the two")
    return with_base(recipe, f"{section}.base", name, begun)


def require_agreement(section: BaseModel, theirs: Mapping[str, object], path: str, base: str) -> None:
    """Raise RecipeError where a key that is set differs from the base's.

    Args:
        section: of a recipe.
        theirs: values of the base.
        path: of the section.
        base: in words.
    """
    for key, value in theirs.items():
        said = getattr(section, key)
        if key not in section.model_fields_set:
            continue
        if isinstance(said, BaseModel) and isinstance(value, BaseModel):
            require_agreement(said, dict(value), f"{path}.{key}", base)
        elif said != value:
            raise RecipeError(f"{path}.{key}: the recipe has {said}, and {base} has {value}: leave it out")


def _of_run(begun: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    return {key: getattr(begun.clip, key) for key in _CLIP}, {key: getattr(begun.model, key) for key in _MODEL}


def _of_config(config: ModelConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    stored = {key: getattr(config, key) for key in _MODEL}
    stored["spectrogram"] = SpectrogramOptions(**config.spectrogram.model_dump())
    return {key: getattr(config, key) for key in _CLIP}, stored
