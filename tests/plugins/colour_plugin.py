"""A plugin from outside the package: a task, an encoder, an objective, a corpus and an evaluator, as small as can be.

The task ``brightness`` has the video tower tell how bright a clip is.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from avlearn.data.clips import ClipDataset, WindowRule, collate
from avlearn.data.corpora import register_corpus
from avlearn.data.manifest import Entry
from avlearn.evaluation import Evaluator, EvaluatorResult, register_evaluator
from avlearn.metrics import MetricResult
from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.folder import save
from avlearn.models.registry import Spec, register
from avlearn.models.two_tower import frames_to_input
from avlearn.objectives import Objective, ObjectiveOptions, ObjectiveOutput
from avlearn.objectives import register as register_objective
from avlearn.recipe import Recipe
from avlearn.recipe.schema import Section
from avlearn.tasks import Experiment, Task, register_task
from avlearn.tasks.clips import NAMES, list_clips, origin, usable_clips
from avlearn.tasks.module import TaskModule
from avlearn.tasks.towers import build_model

# A task: its section of a recipe, its module, its folder (here, one class each).


class Brightness(Section):
    weight: float = 1.0


class BrightnessRecipe(Recipe):
    task: Literal["brightness"] = "brightness"
    brightness: Brightness = Brightness()


def brightness_of(model: nn.Module, video: torch.Tensor) -> torch.Tensor:
    """``[B]`` of ``[B, 3, T, H, W]``."""
    return model.video_head(model.video_features(video).mean((2, 3, 4)))[:, 0]


class BrightnessModule(TaskModule):
    def __init__(self, model: nn.Module, seed: int, weight: float) -> None:
        super().__init__(model, seed)
        self.weight = weight

    def try_batch(self, batch: dict) -> tuple[torch.Tensor, dict[str, list[int]]]:
        video = frames_to_input(batch["video"])
        loss = (brightness_of(self.model, video) - video.mean((1, 2, 3, 4))).square().mean() * self.weight
        return loss, {}

    def training_step(self, batch: dict, batch_index: int) -> torch.Tensor:
        loss = self.try_batch(batch)[0]
        self.log("loss", loss.detach())
        return loss

    def validation_step(self, batch: dict, batch_index: int) -> None:
        self.log("val_loss", self.try_batch(batch)[0])


@register_task
class BrightnessTask(Task):
    name, recipe = "brightness", BrightnessRecipe

    def build(self, recipe: Recipe, *, resumed: bool = False, sample: tuple[int, int] | None = None) -> Experiment:
        words, clip = origin(recipe), recipe.clip
        model = build_model(recipe, words)
        rule = WindowRule(clip.fps, clip.size, clip.sample_rate, clip.seconds, 0.0, model.step)
        data = [
            ClipDataset(usable_clips(rows, name, (), rule), rule)
            for name, (rows, _) in zip(NAMES, list_clips(recipe, sample), strict=True)
        ]
        module = BrightnessModule(model, recipe.seed, recipe.brightness.weight)
        return Experiment(module, *data, collate, words, clips=tuple(map(len, data)))

    def export(self, experiment: Experiment, recipe: Recipe, folder, card: str) -> None:
        save(experiment.module.model.eval(), folder, card)


@register_evaluator
class BrightnessEvaluator(Evaluator):
    task = "brightness"

    def choose(self, listed):
        return listed.rows

    def measure(self, rows):
        frames = frames_to_input(torch.from_numpy(self.subject.decoded(rows).video[:, :10]))
        with torch.inference_mode():
            found = brightness_of(self.subject.model, frames).numpy()
        error = float(np.abs(found - frames.mean((1, 2, 3, 4)).numpy()).mean())
        return EvaluatorResult([MetricResult("brightness", "mean error", error, n=len(rows), higher_is_better=False)])


# An encoder.


class Pixels(Encoder):
    in_chans, least_frames, least_side = 3, 2, 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, (2, 8, 8), (2, 8, 8))
        self.feature_info = FeatureInfo(8, (2, 8, 8))
        self.stage_info = (self.feature_info,)

    def stages(self):
        return [("features", lambda x: self.conv(x).relu())]


@register(Spec("video", "nobody", 3080))
def pixels() -> Pixels:
    return Pixels()


# An objective.


@dataclass(frozen=True)
class CosineOptions(ObjectiveOptions):
    name: Literal["cosine"] = "cosine"


@register_objective
class Cosine(Objective[CosineOptions]):
    Options = CosineOptions

    def forward(self, batch):
        similarity = (batch.video.mean((2, 3, 4)) * batch.audio.mean(2)).sum(1)
        return ObjectiveOutput(-similarity.mean(), {})


# A corpus: files named CLASS_NUMBER.mp4.


def flat(media, lists) -> list[Entry]:
    return [Entry(path, (path.stem.split("_")[0],), "train") for path in sorted(media.folder.glob("*.mp4"))]


register_corpus("flat", flat)
