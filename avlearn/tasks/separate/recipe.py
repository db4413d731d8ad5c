"""The recipe of the task ``separate``."""

from typing import Literal

from pydantic import Field, model_validator

from avlearn.config import Separator
from avlearn.recipe.schema import Recipe, Text, refuse_tower_settings
from avlearn.validation import Share


class SeparatorTraining(Separator):
    """The separator (`avlearn.config.Separator` says what each key chooses), and what it is held to.

    - ``base``: the trained model whose towers it stands on; null for those of the recipe's ``model``.
    - ``loss``: of masks (``bce``, ``l1``) or of waveforms.
    - ``places``: sources sought in each video; with several, co-separation.
    - ``alone_share``: of mixtures whose sources do not know of each other.
    - ``train_video``: the video tower learns too.
    """

    base: Text | None = None
    sources: int = Field(2, ge=2, le=4)
    loss: Literal["bce", "l1", "snr", "si_sdr", "multi_stft"] = "bce"
    places: int = Field(1, ge=1, le=64)
    same_class_share: Share = 0.3
    offscreen_share: Share = 0.0
    alone_share: Share = 0.4
    train_video: bool = False

    @model_validator(mode="after")
    def _trainable(self) -> "SeparatorTraining":
        if self.mask == "complex" and self.loss in ("bce", "l1"):
            raise ValueError("separator.mask: complex takes loss=snr, si_sdr or multi_stft")
        if self.base is None and self.query == "place":
            raise ValueError("separator.base: to find the place that a sound comes from takes a trained model")
        if self.places > 1 and (self.query != "place" or self.conditioning == "none"):
            raise ValueError("separator.places: several take query=place and a conditioning by what is seen")
        return self


class SeparateRecipe(Recipe):
    """A recipe of the task ``separate``."""

    task: Literal["separate"] = "separate"
    separator: SeparatorTraining

    @model_validator(mode="after")
    def _fitting(self) -> "SeparateRecipe":
        if self.data.cache and (self.separator.places > 1 or self.separator.train_video):
            raise ValueError("data.cache: videos are looked at once; not with separator.places or .train_video")
        refuse_tower_settings(self)
        return self
