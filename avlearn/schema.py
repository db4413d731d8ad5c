"""What a recipe may say: its sections, their keys, defaults and bounds."""

import re
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# Every number has bounds: beyond them lies nonsense that hangs or takes all memory long after the recipe was read.
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e4)]
Seconds = Annotated[float, Field(ge=1e-4, le=600)]
Weight = Annotated[float, Field(ge=0, le=1e4)]
Count = Annotated[int, Field(ge=1, le=10**5)]
Steps = Annotated[int, Field(ge=1, le=10**8)]
Width = Annotated[int, Field(ge=1, le=16384)]  # channels, samples of a transform
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Colours = tuple[Share, Share, Share]
Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Whole = Annotated[int, Field(ge=-(10**6), le=10**6)]
Real = Annotated[float, Field(ge=-1e6, le=1e6)]
Option = Whole | Real | bool | Text | Annotated[list[Whole], Field(max_length=64)]
Options = Annotated[dict[Text, Option], Field(max_length=64)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True, allow_inf_nan=False)


class World(_Section):
    """A synthetic world to be rendered."""

    preset: Text = "standard"
    train_clips: int = Field(1000, ge=1, le=10**6)
    val_clips: int = Field(100, ge=1, le=10**6)
    seed: Seed = 0


class Data(_Section):
    """Clips: a folder or manifest each, or a world where ``train`` is null."""

    train: Text | None = None
    val: Text | None = None
    world: World | None = None
    root: Text = "runs/data"
    cache: bool = False
    workers: int = Field(0, ge=0, le=1024)
    windows: int = Field(1, ge=1, le=1024)
    buffer: Count = 512
    exclude: tuple[Text, ...] = ("silent", "static", "duplicate")
    bad_files: Literal["skip", "error"] = "skip"
    max_bad: Share = 0.05


class ClipWindow(_Section):
    """What a training window holds; seconds, pixels, samples a second."""

    fps: float = Field(25.0, ge=0.01, le=250)
    size: int = Field(64, ge=16, le=2048)
    sample_rate: int = Field(16000, ge=4000, le=192000)
    seconds: Seconds = 2.0
    context: float = Field(0.96, ge=0, le=600)


class SpectrogramOptions(_Section):
    """What the audio encoder hears (`avlearn.signal.Spectrogram`); seconds. Null: as that encoder needs it.

    A transform (``n_fft``) that neither the recipe nor the encoder sets is long enough for the window.
    """

    kind: Literal["log_mel", "log_linear", "mfcc", "waveform"] | None = None
    n_fft: Width | None = None
    window: Seconds | None = None
    hop: Seconds | None = None
    mels: Width | None = None
    bins: int | None = Field(None, ge=2, le=16384)
    floor: Positive | None = None
    mean: Real | None = None
    std: Positive | None = None
    margin: int | None = Field(None, ge=0, le=16384)


# Of the section `model`, what is said of one encoder and of no other.
BOUND = {
    "video": ("video_options", "video_weights", "video_mean", "video_std"),
    "audio": ("audio_options", "audio_weights", "spectrogram"),
}


class Model(_Section):
    """The two towers, by the names of their encoders; they start as those of the trained model ``base``, if given.

    - ``video_weights``, ``audio_weights``: what a tower starts from instead, as `create_model` takes it. What such
      weights need besides stands in the recipe, so that nothing but the recipe is needed later.
    - ``video_mean``, ``video_std``: of the colours, in [0, 1], where they are not to be the encoder's own.
    - ``resample``: the sound's steps to the picture's; null: where they last otherwise.

    What is said of an encoder goes when a recipe, or an override, that builds on this one names another
    (`BOUND`): each brings its own front end, and the options that keep time where offsets are measured.
    """

    base: Text | None = None
    video: Text = "dsconv_tiny"
    audio: Text = "conv2d_tiny"
    video_options: Options = {}
    audio_options: Options = {}
    video_weights: Text | None = None
    audio_weights: Text | None = None
    video_mean: Colours | None = None
    video_std: Colours | None = None
    dim: Width = 128
    spectrogram: SpectrogramOptions = SpectrogramOptions()
    resample: bool | None = None
    segment: Seconds | None = None

    @model_validator(mode="after")
    def _one_start(self) -> "Model":
        for key in ("video_weights", "audio_weights"):
            if self.base is not None and getattr(self, key) is not None:
                raise ValueError(f"model.{key}: the towers of model.base have weights; give one of the two")
        if (self.video_mean is None) != (self.video_std is None):
            raise ValueError("model.video_mean, model.video_std: give both, or neither")
        return self


class Separator(_Section):
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


class Shift(_Section):
    """The smallest shift that counts as wrong, in seconds: from ``first`` to ``last`` by a share of the training."""

    first: Seconds = 0.16
    last: Seconds = 0.16
    until: Share = 0.0


class DenseObjective(_Section):
    """Which clip's sound, and at which offset?"""

    name: Literal["dense"] = "dense"
    shift: Shift = Shift()
    temperature: Positive = 0.05
    pool_scale: Positive = 20.0
    learn_temperature: bool = True


class ClipObjective(_Section):
    """Whose sound? ``gdt``: also when, and in which direction?"""

    name: Literal["infonce", "gdt"]
    shift: Shift = Shift()
    temperature: Positive = 0.07


class SegmentsObjective(_Section):
    """Which of all segments of the batch?"""

    name: Literal["segments"]
    shift: Shift = Shift()
    temperature: Positive = 0.07
    seconds: Seconds = 0.64


class MarginObjective(_Section):
    """Distances within and beyond a margin."""

    name: Literal["margin"]
    shift: Shift = Shift()
    margin: Positive = 0.99
    hard_share: Share = 0.25
    hard_from: Share = 0.3


class AVIDObjective(_Section):
    """Whose sound, of all clips? From ``agreement_from`` of the training on with positives by agreement."""

    name: Literal["avid"]
    shift: Shift = Shift()
    temperature: Positive = 0.07
    negatives: Count = 1024
    positives: Count = 32
    agreement_from: Share = 0.5
    whole_sound: bool = False


class ClustersObjective(_Section):
    """Which cluster, by the clips' own features? Made anew after so many steps."""

    name: Literal["clusters"]
    shift: Shift = Shift()
    assign: Literal["kmeans", "sinkhorn"] = "kmeans"
    clusters: int = Field(64, ge=2, le=10**5)
    every: Steps = 100


class ShiftBCEObjective(_Section):
    """Aligned or shifted? Until ``slow_until`` of the training with every fourth frame only."""

    name: Literal["shift_bce"]
    shift: Shift = Shift(first=0.96, last=0.96)
    width: Width = 64
    slow_until: Share = 0.05


class OffsetObjective(_Section):
    """Which of all offsets, and is there any? ``frozen``: the towers stay as ``model.base`` has them.

    ``grid``: seconds from one offset to the next; null for a step.
    """

    name: Literal["offset"]
    shift: Shift = Shift()
    dim: Width = 64
    layers: int = Field(2, ge=1, le=64)
    heads: int = Field(2, ge=1, le=256)
    grid: Seconds | None = None
    frozen: bool = False
    sync_weight: Weight = 1.0


class MILInfoNCEObjective(_Section):
    """Whose sound, by the place that fits best?"""

    name: Literal["mil_infonce"]
    shift: Shift = Shift()
    temperature: Positive = 0.03


class FNACObjective(_Section):
    """The same, where some of the other clips sound or look alike."""

    name: Literal["fnac"]
    shift: Shift = Shift()
    temperature: Positive = 0.03
    suppression: Weight = 100.0
    enhancement: Weight = 100.0
    foreground: Share = 0.6


class TriMapObjective(_Section):
    """Which sound, by the places from which it comes, and not from the others of the picture?"""

    name: Literal["trimap"]
    shift: Shift = Shift()
    temperature: Positive = 0.07
    positive: float = Field(0.65, ge=-1, le=1)
    negative: float = Field(0.4, ge=-1, le=1)
    sharpness: Positive = 0.03


class SLAVCObjective(_Section):
    """Which sound, and from where? ``momentum``: of the copy of the towers that both are compared with."""

    name: Literal["slavc"]
    shift: Shift = Shift()
    temperature: Positive = 0.03
    momentum: float = Field(0.999, ge=0, lt=1)
    dropout: float = Field(0.9, ge=0, lt=1)


class CorrespondenceObjective(_Section):
    """Its sound or another's, by the place that fits best?"""

    name: Literal["correspondence"]
    shift: Shift = Shift()
    temperature: Positive = 0.1


Objective = Annotated[
    DenseObjective
    | ClipObjective
    | SegmentsObjective
    | MarginObjective
    | AVIDObjective
    | ClustersObjective
    | ShiftBCEObjective
    | OffsetObjective
    | MILInfoNCEObjective
    | FNACObjective
    | TriMapObjective
    | SLAVCObjective
    | CorrespondenceObjective,
    Field(discriminator="name"),
]


# Objectives that shift no sound.
TIMELESS = ("infonce", "segments", "avid", "clusters", "mil_infonce", "fnac", "trimap", "slavc", "correspondence")


class Augment(_Section):
    """Largest random changes."""

    flip: bool = True
    brightness: Share = 0.25
    contrast: Share = 0.25
    colour: Share = 0.15
    zoom: Share = 0.0
    gain: float = Field(0.35, ge=0, le=10)


class Optimizer(_Section):
    """What makes the steps, and its schedule."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Weight = 0.02
    warmup_steps: int = Field(40, ge=0, le=10**8)
    decay_start: Share = 0.6
    grad_clip: Positive = 2.0


class Trainer(_Section):
    """How long, how much at once, and where.

    - ``batch_size``: clips a process and optimizer step; the objective's negatives come from ``batch_size`` x
      ``devices`` x ``nodes`` clips. ``accumulate``: the towers see them in so many micro-batches.
    - ``devices``: processes on each of the ``nodes``. Where torchrun or SLURM starts them, as many as these start.
    - ``strategy``: all weights in each process (``ddp``, and ``auto`` where there are several), or parts (``fsdp``).
    - ``on_divergence``: go back to the last checkpoint, once, at half the learning rate (``retry``), or ``stop``.
    """

    max_epochs: Steps | None = None
    max_steps: Steps | None = None
    batch_size: int = Field(16, ge=2, le=65536)
    accumulate: Count = 1
    val_every: Steps = 100
    checkpoint_every: Steps = 50
    log_every: Steps = 10
    devices: int = Field(1, ge=1, le=1024)
    nodes: int = Field(1, ge=1, le=65536)
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    checkpoint_activations: bool = False
    compile: bool = False
    threads: int | None = Field(None, ge=1, le=4096)
    on_divergence: Literal["retry", "stop"] = "retry"

    @property
    def processes(self) -> int:
        """On all nodes."""
        return self.devices * self.nodes

    @model_validator(mode="after")
    def _divisible(self) -> "Trainer":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"trainer.accumulate: a batch of {self.batch_size} does not split into {self.accumulate} equal parts"
            )
        if self.compile and self.checkpoint_activations:
            raise ValueError(
                "trainer.compile: not with trainer.checkpoint_activations; trainer.accumulate goes with both"
            )
        if self.strategy == "fsdp" and (self.compile or self.precision == "16-mixed" or self.processes == 1):
            raise ValueError(
                "trainer.strategy: fsdp takes several processes, trainer.compile=false, and not 16-mixed precision"
            )
        return self


class Recipe(_Section):
    """A whole experiment."""

    name: Text
    task: Literal["pretrain", "separate"] = "pretrain"
    seed: Seed = 0
    data: Data = Data()
    clip: ClipWindow = ClipWindow()
    model: Model = Model()
    separator: Separator | None = None
    objective: Objective = DenseObjective()
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    trainer: Trainer = Trainer()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        """A name of a folder in ``runs/``, that leads nowhere else."""
        if not re.fullmatch(r"\w[\w .+-]{0,99}", name):
            raise ValueError(f"name: {name[:100]!r} is no plain folder name: give letters, digits, _ - + and .")
        return name

    @model_validator(mode="after")
    def _complete(self) -> "Recipe":
        if self.trainer.max_epochs is None and self.trainer.max_steps is None:
            raise ValueError("trainer.max_steps: set it, or trainer.max_epochs")
        if self.task == "separate" and self.separator is None:
            raise ValueError("separator: the task 'separate' needs that section")
        if self.task == "separate" and self.data.cache and (self.separator.places > 1 or self.separator.train_video):
            raise ValueError("data.cache: pictures are looked at once; not with separator.places or .train_video")
        trainer = self.trainer
        of_towers = trainer.accumulate > 1 or trainer.checkpoint_activations or trainer.compile
        if self.task == "separate" and (of_towers or trainer.strategy == "fsdp"):
            raise ValueError(
                "trainer.accumulate, .checkpoint_activations, .compile, fsdp: the task 'separate' trains no towers"
            )
        if isinstance(self.objective, OffsetObjective) and self.objective.frozen and self.model.base is None:
            raise ValueError("objective.frozen: towers that are not trained stay so; set model.base")
        if isinstance(self.objective, SLAVCObjective) and trainer.strategy == "fsdp":
            raise ValueError("trainer.strategy: the towers' copy of the objective 'slavc' is not shared out; take ddp")
        if isinstance(self.objective, SLAVCObjective) and self.model.dim % 2:
            raise ValueError(f"model.dim: {self.model.dim} does not split into the two halves of the objective 'slavc'")
        if self.task == "pretrain" and self.clip.context == 0 and self.objective.name not in TIMELESS:
            raise ValueError(f"clip.context: the objective '{self.objective.name}' needs more sound than picture")
        return self

    def to_yaml(self) -> str:
        """The whole recipe, every default spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
