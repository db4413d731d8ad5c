"""What a recipe of the task says."""

from typing import Literal

from pydantic import Field, model_validator

from avlearn.recipe.schema import Recipe, Section, Text
from avlearn.validation import Seconds, Share, Width


class Separator(Section):
    """The U-Net (`avlearn.models.unet.SeparatorConfig` says what each key chooses), and what it is held to.

    - ``base``: the trained model whose towers look and listen; null for those of the recipe's ``model``.
    - ``loss``: of masks (``bce``, ``l1``) or of sounds.
    - ``places``: sources sought in each picture; with several, co-separation.
    - ``alone_share``: of mixtures whose sources do not know of each other.
    - ``train_video``: the video tower learns too.
    """

    base: Text | None = None
    channels: tuple[Width, Width, Width, Width, Width] = (16, 32, 64, 96, 128)
    window: Seconds = 0.064
    hop: Seconds = 0.016
    scale: Literal["log", "linear"] = "log"
    bins: int = Field(256, ge=16, le=16384)
    mask: Literal["ratio", "binary", "phase_sensitive", "complex"] = "phase_sensitive"
    conditioning: Literal["film", "bottleneck", "product", "none"] = "film"
    query: Literal["place", "frame", "pooled"] = "place"
    loss: Literal["bce", "l1", "snr", "si_sdr", "multi_stft"] = "bce"
    sources: int = Field(2, ge=2, le=4)
    places: int = Field(1, ge=1, le=64)
    same_class_share: Share = 0.3
    offscreen_share: Share = 0.0
    alone_share: Share = 0.4
    train_video: bool = False

    @model_validator(mode="after")
    def _fitting(self) -> "Separator":
        if self.mask == "complex" and (self.scale == "log" or self.loss in ("bce", "l1")):
            raise ValueError("separator.mask: complex takes scale=linear, and loss=snr, si_sdr or multi_stft")
        if self.base is None and self.query == "place":
            raise ValueError("separator.base: to find the place that a sound comes from takes a trained model")
        if self.places > 1 and (self.query != "place" or self.conditioning == "none"):
            raise ValueError("separator.places: several take query=place and a conditioning by what is seen")
        return self


class SeparateRecipe(Recipe):
    """A recipe of the task ``separate``."""

    task: Literal["separate"] = "separate"
    separator: Separator

    @model_validator(mode="after")
    def _fitting(self) -> "SeparateRecipe":
        if self.data.cache and (self.separator.places > 1 or self.separator.train_video):
            raise ValueError("data.cache: pictures are looked at once; not with separator.places or .train_video")
        trainer = self.trainer
        if trainer.accumulate > 1 or trainer.checkpoint_activations or trainer.compile or trainer.strategy == "fsdp":
            raise ValueError(
                "trainer.accumulate, .checkpoint_activations, .compile, fsdp: the task 'separate' trains no towers"
            )
        return self
