"""The sections that all recipes share: their keys, defaults and bounds."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, create_model, field_validator, model_validator
from pydantic.fields import FieldInfo

from avlearn.config import ClipWindow, Spectrogram, Towers
from avlearn.validation import Count, Positive, Section, Share, Steps, Weight

# Every number has bounds, see avlearn.validation.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Whole = Annotated[int, Field(ge=-(10**6), le=10**6)]
Real = Annotated[float, Field(ge=-1e6, le=1e6)]
Option = Whole | Real | bool | Text | Annotated[list[Whole], Field(max_length=64)]
Options = Annotated[dict[Text, Option], Field(max_length=64)]


class World(Section):
    """A synthetic world to be rendered."""

    preset: Text = "standard"
    train_clips: int = Field(1000, ge=1, le=10**6)
    val_clips: int = Field(100, ge=1, le=10**6)
    seed: Seed = 0


class Data(Section):
    """Clips: a folder or manifest each, or a world where ``train`` is null; ``fold`` of a corpus that has several."""

    train: Text | None = None
    val: Text | None = None
    fold: int | None = Field(None, ge=1, le=1000)
    world: World | None = None
    root: Text = "runs/data"
    cache: bool = False
    workers: int = Field(0, ge=0, le=1024)
    windows: int = Field(1, ge=1, le=1024)
    buffer: Count = 512
    shard_buffer: int = Field(0, ge=0, le=10**6)
    exclude: tuple[Text, ...] = ("silent", "static", "duplicate")
    bad_files: Literal["skip", "error"] = "skip"
    max_bad: Share = 0.05

    @model_validator(mode="after")
    def _shards_or_cache(self) -> "Data":
        if self.shard_buffer and self.cache:
            raise ValueError("data.shard_buffer: data.cache decodes clips out of their shards; give one of the two")
        return self


def _left_open(field: FieldInfo) -> tuple[Any, None]:
    """A field with its bounds, which may be left to the encoder."""
    annotation: Any = field.annotation
    return Annotated[annotation | None, field], None


_OPEN: dict[str, Any] = {name: _left_open(field) for name, field in Spectrogram.model_fields.items()}
SpectrogramOptions = create_model("SpectrogramOptions", __base__=Section, **_OPEN)


# Of the section `model`, what is said of one encoder and of no other.
BOUND = {
    "video": ("video_options", "video_weights", "video_mean", "video_std"),
    "audio": ("audio_options", "audio_weights", "spectrogram"),
}


class Model(Towers):
    """The two towers (`avlearn.config.Towers`); they start as those of the trained model ``base``, if given.

    - ``video_weights``, ``audio_weights``: what a tower starts from instead, as `create_model` takes it. What such
      weights need besides stands in the recipe, so that nothing but the recipe is needed later.
    - ``spectrogram``: what is not said, or null, is as the audio encoder needs it; a transform (``n_fft``) that neither
      says is long enough for the window.
    - ``resample``: null: where steps last otherwise.

    What is said of an encoder goes when a recipe, or an override, that builds on this one names another
    (`BOUND`): each brings its own front end, and the options that keep time where offsets are measured.
    """

    base: Text | None = None
    video_options: Options = Field(default_factory=dict)
    audio_options: Options = Field(default_factory=dict)
    video_weights: Text | None = None
    audio_weights: Text | None = None
    spectrogram: SpectrogramOptions = SpectrogramOptions()
    resample: bool | None = None

    @model_validator(mode="after")
    def _one_start(self) -> "Model":
        for key in ("video_weights", "audio_weights"):
            if self.base is not None and getattr(self, key) is not None:
                raise ValueError(f"model.{key}: the towers of model.base have weights; give one of the two")
        if (self.video_mean is None) != (self.video_std is None):
            raise ValueError("model.video_mean, model.video_std: give both, or neither")
        return self


class Augment(Section):
    """Largest random changes."""

    flip: bool = True
    brightness: Share = 0.25
    contrast: Share = 0.25
    colour: Share = 0.15
    zoom: Share = 0.0
    gain: float = Field(0.35, ge=0, le=10)


class Optimizer(Section):
    """The optimizer, and its schedule.

    - ``schedule``: after the warm-up, ``linear`` is constant until ``decay_start`` of the training and falls to 2 %;
      ``cosine`` falls from ``decay_start`` on along half a wave.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Weight = 0.02
    warmup_steps: int = Field(40, ge=0, le=10**8)
    schedule: Literal["linear", "cosine"] = "linear"
    decay_start: Share = 0.6
    grad_clip: Positive = 2.0


class Trainer(Section):
    """Length, batch size and devices of a training.

    - ``batch_size``: clips a process and optimizer step; the objective's negatives come from ``batch_size`` x
      ``devices`` x ``nodes`` clips. ``accumulate``: the towers see them in so many micro-batches.
    - ``devices``: processes on each of the ``nodes``. Where torchrun or SLURM starts them, as many as these start.
    - ``strategy``: all weights in each process (``ddp``, and ``auto`` where there are several), or parts (``fsdp``).
    - ``precision``: ``auto`` is ``bf16-mixed`` where the GPU or processor computes in it, else ``32-true``.
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
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
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


class Recipe(Section):
    """A whole experiment: what all tasks share. Each task has a subclass, with sections and checks of its own."""

    name: Text
    task: Text
    seed: Seed = 0
    data: Data = Data()
    clip: ClipWindow = ClipWindow()
    model: Model = Model()
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
    def _limited(self) -> "Recipe":
        if self.trainer.max_epochs is None and self.trainer.max_steps is None:
            raise ValueError("trainer.max_steps: set it, or trainer.max_epochs")
        return self

    @property
    def clip_seconds(self) -> float:
        """What a clip has to last."""
        return self.clip.seconds

    @classmethod
    def known_keys(cls, values: Mapping[str, object]) -> list[str]:
        """Full paths of all keys, for a recipe that says ``values``."""
        return section_keys(cls)

    def to_yaml(self) -> str:
        """The whole recipe, every default spelled out."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text


def refuse_tower_settings(recipe: Recipe) -> None:
    """Raise ValueError for settings that only a training of towers has a use for."""
    trainer = recipe.trainer
    if trainer.accumulate > 1 or trainer.checkpoint_activations or trainer.compile or trainer.strategy == "fsdp":
        raise ValueError(
            f"trainer.accumulate, .checkpoint_activations, .compile, fsdp: the task '{recipe.task}' trains no towers"
        )


def section_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Full paths of all keys of a section and of those within."""
    found = []
    for name, field in section.model_fields.items():
        found.append(prefix + name)
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += section_keys(kind, f"{prefix}{name}.")
    return found
