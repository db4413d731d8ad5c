"""The recipe of the task ``recognize``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from avlearn.recipe.schema import Augment, Optimizer, Options, Recipe, Text
from avlearn.validation import Section, Share

Alpha = Annotated[float, Field(ge=0, le=10)]


class Recognition(Section):
    """What is recognized, and how the network learns it.

    - ``inputs``: ``video``, ``audio``, or ``both``, whose features lie side by side before one linear classifier.
    - ``fusion``: a network of both by name (``mbt_b``, ``tbn``, ``audio_adaptive``), in place of the encoders of
      ``model``; its options.
    - ``unlabelled``: clips of the domain that the network is to work in, whose labels are not known, a folder or a
      manifest: fusion networks learn of them (``audio_adaptive``).
    - ``segments``: frames of a clip, one out of each of so many parts (TSN); null: all frames of ``clip.seconds``.
    - ``multi_label``: several labels may hold of a clip (sigmoids), not one (softmax).
    - ``class_weights``: ``balanced`` weighs classes by how rare they are, ``audio_balanced`` also the kinds of sound
      within a class (Zhang et al., CVPR 2022).
    - ``smoothing``: share of each target that is spread over all classes.
    - ``image_weights``: a file of the network for images that the video encoder starts from, inflated over time
      (Carreira & Zisserman, CVPR 2017).
    - ``freeze``: layers that do not learn, by name, or ``all``: then the classifier alone does.
    - ``frozen_norms``: batch norms keep the statistics that they started with.
    - ``balance``: of video and audio. ``ogm_ge`` slows the encoder that is ahead (Peng et al., CVPR 2022).
    """

    inputs: Literal["video", "audio", "both"] = "video"
    fusion: Text | None = None
    fusion_options: Options = Field(default_factory=dict)
    unlabelled: Text | None = None
    segments: int | None = Field(None, ge=1, le=4096)
    multi_label: bool = False
    class_weights: Literal["equal", "balanced", "audio_balanced"] = "equal"
    smoothing: Share = 0.0
    image_weights: Text | None = None
    freeze: Annotated[tuple[Text, ...], Field(max_length=256)] = ()
    frozen_norms: bool = False
    balance: Literal["none", "ogm_ge"] = "none"


class StrongAugment(Augment):
    """Largest random changes, strong ones among them; each is off by default.

    - ``area``: smallest share of the frame's area that a random crop keeps; 1: the centre square.
    - ``rand_layers``, ``rand_magnitude``: RandAugment, changes of a clip and their strength (of 30).
    - ``erase``: share of clips in which a box is noise.
    - ``mixup``, ``cutmix``: parameter of the beta distribution by which two clips are mixed.
    - ``mask_bands``, ``mask_frames``: SpecAugment, widest stripes of a spectrogram that are hidden.
    - ``repeats``: windows of a clip in one batch (repeated augmentation, Hoffer et al., CVPR 2020), which grows by it.
    """

    area: float = Field(1.0, ge=0.01, le=1)
    rand_layers: int = Field(0, ge=0, le=14)
    rand_magnitude: int = Field(9, ge=0, le=30)
    erase: Share = 0.0
    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0
    mask_bands: int = Field(0, ge=0, le=4096)
    mask_frames: int = Field(0, ge=0, le=100_000)
    repeats: int = Field(1, ge=1, le=16)


class LayerwiseOptimizer(Optimizer):
    """The optimizer, by layer.

    - ``layer_decay``: of the learning rate, from a layer to the one before it.
    - ``ema``: decay of the moving average of the weights, which is what is validated and exported; null: none.
    """

    layer_decay: float | None = Field(None, gt=0, le=1)
    ema: float | None = Field(None, ge=0, lt=1)


class RecognizeRecipe(Recipe):
    """A recipe of the task ``recognize``: of ``model``, what is not of encoders has no meaning here."""

    task: Literal["recognize"] = "recognize"
    recognize: Recognition = Recognition()
    augment: StrongAugment = StrongAugment()
    optimizer: LayerwiseOptimizer = LayerwiseOptimizer()

    @model_validator(mode="after")
    def _fitting(self) -> "RecognizeRecipe":
        said, trainer = self.recognize, self.trainer
        if trainer.accumulate > 1 or trainer.checkpoint_activations or trainer.compile or trainer.strategy == "fsdp":
            raise ValueError("trainer.accumulate, .checkpoint_activations, .compile, fsdp: not for recognition")
        if said.balance != "none" and (said.inputs != "both" or said.multi_label):
            raise ValueError("recognize.balance: ogm_ge is for recognize.inputs=both and one label a clip")
        if said.fusion and (said.inputs != "both" or said.balance != "none" or said.freeze or self.model.base):
            raise ValueError(
                "recognize.fusion: takes recognize.inputs=both, no recognize.balance, recognize.freeze or model.base"
            )
        if said.unlabelled and (not said.fusion or said.multi_label or self.augment.mixup or self.augment.cutmix):
            raise ValueError(
                "recognize.unlabelled: takes recognize.fusion, one label a clip, no augment.mixup or .cutmix"
            )
        if said.class_weights == "audio_balanced" and (said.inputs == "video" or said.multi_label):
            raise ValueError("recognize.class_weights: audio_balanced takes a network that hears, and one label a clip")
        if said.image_weights and (self.model.base or self.model.video_weights or said.inputs == "audio"):
            raise ValueError(
                "recognize.image_weights: not with model.base, model.video_weights or recognize.inputs=audio"
            )
        if said.segments and self.data.cache:
            raise ValueError("recognize.segments: not with data.cache, whose clips are as short as the shortest")
        if self.augment.area < 1 and self.data.cache:
            raise ValueError("augment.area: not with data.cache, whose clips are centre squares; take augment.zoom")
        return self

    @property
    def clip_seconds(self) -> float:
        """Shorter clips go on with their last frame, and with silence."""
        return 0.0
