"""From a recipe to what is trained."""

import sys
from collections.abc import Mapping
from typing import Any

import torch

from avlearn.data.clips import ClipDataset, Clips, WindowRule, collate
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.registry import default_option, time_options
from avlearn.objectives import OBJECTIVES, FeatureSpec, Objective
from avlearn.recipe import Recipe
from avlearn.recipe.schema import Option
from avlearn.tasks import towers
from avlearn.tasks.clips import NAMES, decode_clips, list_clips, origin, usable_clips
from avlearn.tasks.synchronize.module import SynchronizeModule
from avlearn.tasks.synchronize.recipe import SynchronizeRecipe
from avlearn.tasks.task import Experiment
from avlearn.tasks.towers import coarse_steps, initialize


def build(
    recipe: SynchronizeRecipe, resumed: bool = False, sample: tuple[int, int] | None = None
) -> Experiment[SynchronizeModule]:
    """See `Task.build`."""
    words = origin(recipe)
    # Whatever can be wrong with the model is found before clips are rendered or decoded.
    model = build_model(recipe, words)
    if not resumed:
        initialize(model, recipe)
    with torch.random.fork_rng(devices=[]):
        build_objective(recipe, model, recipe.data.world.train_clips if recipe.data.world else 10**4)
    clip = recipe.clip
    grid = recipe.objective.offset_unit(model.step)
    rule = WindowRule(clip.fps, clip.size, clip.sample_rate, clip.seconds, clip.context, grid)
    data: list[Clips] = []
    left_out, counts = 0, []
    for k, (name, (rows, every)) in enumerate(zip(NAMES, list_clips(recipe, sample), strict=True)):
        usable, cache = usable_clips(rows, name, recipe.data.exclude, rule), None
        counts.append(round(len(usable) / len(rows) * every))
        usable = usable[: sample[k]] if sample else usable
        if recipe.data.cache:
            usable, cache = decode_clips(recipe, usable, name)
            left_out += len(cache.bad) if name == "training" else 0
        whole_shards = recipe.data.shard_buffer > 0
        data.append(ClipDataset(usable, rule, cache, "skip", recipe.data.buffer, whole_shards))
    clips = tuple(counts) if sample else (len(data[0]), len(data[1]))
    objective = build_objective(recipe, model, clips[0])
    if objective.frozen:
        # Evaluation mode, so that the statistics of batch norms stay as well.
        model.eval().requires_grad_(False)
    else:
        learned = {"pool_scale": objective.pool_scale, "common_space": objective.common_space}
        model.config = model.config.model_copy(update=learned)
    module = SynchronizeModule(model, objective, recipe.augment.model_dump(), recipe.seed)
    settings = recipe.trainer
    module.configure_towers(settings.accumulate, settings.checkpoint_activations, settings.compile)
    return Experiment(module, data[0], data[1], collate, words, left_out, clips)


def build_model(recipe: SynchronizeRecipe, origin: str) -> AudioVisual:
    """The towers as they are before the training; says so on standard error if they cannot measure offsets."""
    model = towers.build_model(recipe, origin, kept_options(recipe))
    if measures_offsets(recipe):
        for line in coarse_steps(model):
            print(line, file=sys.stderr)
    return model


def measures_offsets(recipe: SynchronizeRecipe) -> bool:
    """Whether the objective tells offsets of the same audio apart."""
    return recipe.objective.shifts_audio


def kept_options(recipe: SynchronizeRecipe) -> dict[str, Option]:
    """Options by which the video encoder's steps keep time, where the recipe says nothing of them."""
    if not measures_offsets(recipe) or recipe.model.base is not None:
        return {}
    found = time_options(recipe.model.video, recipe.clip.fps)
    return {key: value for key, value in found.items() if key not in recipe.model.video_options}


def spell_out(recipe: SynchronizeRecipe, begun: Recipe | None, say: bool) -> SynchronizeRecipe:
    """The recipe with the options that keep time written out, as they are in the run that it goes on with."""
    options = kept_options(recipe)
    for key, value in options.items():
        options[key] = begun.model.video_options.get(key, value) if begun else value
        if options[key] != value and say:
            stays = f"stays {options[key]}, as the run began: a new run would have {value}"
            print(f"note: model.video_options.{key} {stays}", file=sys.stderr)
    return with_options(recipe, options)


def without_kept_options(recipe: SynchronizeRecipe) -> SynchronizeRecipe:
    """The recipe with the encoder's own options where it says nothing of those that keep time."""
    return with_options(recipe, {key: default_option(recipe.model.video, key) for key in kept_options(recipe)})


def with_options(recipe: SynchronizeRecipe, options: Mapping[str, Option]) -> SynchronizeRecipe:
    """A recipe that says these options of its video encoder, too."""
    options = {**recipe.model.video_options, **options}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"video_options": options})})


def build_objective(recipe: SynchronizeRecipe, model: AudioVisual, clips: int) -> Objective[Any]:
    """The recipe's objective for a model, and so many clips to train on."""
    clip, step = recipe.clip, model.step
    spec = FeatureSpec(
        step=step,
        # Whole ones, as the towers give them.
        steps=max(int(clip.seconds / step + 1e-6), 1),
        offsets=int(2 * clip.context / step + 1e-6) + 1,
        video_channels=model.video.num_features,
        audio_channels=model.audio.num_features,
        dim=model.config.dim,
        clips=clips,
    )
    return OBJECTIVES[recipe.objective.name](recipe.objective, spec)
