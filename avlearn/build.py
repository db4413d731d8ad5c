"""From a recipe to what is trained: clips, model, objective, task."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import isclose
from pathlib import Path

import lightning
import numpy as np
import torch
from torch.utils.data import Dataset

from avlearn.base import with_base
from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.clips import ClipDataset, WindowRule, collate
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.mixing import Mixing
from avlearn.data.scan import scan_folder
from avlearn.errors import DataError, ModelError, RecipeError
from avlearn.files import printable
from avlearn.models.audiovisual import (
    AudioVisual,
    ModelConfig,
    Spectrogram,
    load,
)
from avlearn.models.encoder import Encoder
from avlearn.models.registry import create_model, model_spec, time_options
from avlearn.models.unet import SeparatorConfig
from avlearn.objectives import OBJECTIVES, FeatureSpec, Objective
from avlearn.recipe import Recipe
from avlearn.tasks.pretrain import READ, Pretrain
from avlearn.tasks.separate import SeenClips, Separate, SeparationLoss
from avlearn.terminal import progress_line

_NAMES = ("training", "validation")
COARSE = 0.16  # seconds: longer steps than the smallest shift that objectives call wrong


@dataclass(frozen=True)
class Experiment:
    """What a recipe describes.

    Attributes:
        task: with its model, and without an optimizer yet (``task.optimizer_of``).
        train, val: the clips of each.
        collate: samples to a batch.
        origin: of the clips, in words.
        left_out: training clips that could not be decoded.
        clips: how many there are for training and for validation; of a sample, how many there would be.
    """

    task: lightning.LightningModule
    train: Dataset
    val: Dataset
    collate: Callable[[list], dict]
    origin: str
    left_out: int = 0
    clips: tuple[int, ...] = ()


def _rows(source: str) -> list[Row]:
    path = Path(source)
    if path.is_dir() and (path / "manifest.parquet").exists():
        path = path / "manifest.parquet"
    rows = scan_folder(path) if path.is_dir() else read_manifest(path)
    if not rows:
        raise DataError(f"{source} names no clip")
    return rows


def _sources(recipe: Recipe, sample: tuple[int, int] | None) -> list[tuple[list[Row], int]]:
    """Training and validation rows, and how many there are of each; a world is rendered where there is no data.

    Of a world that is sampled there are more than rows.
    """
    data = recipe.data
    if data.train is not None:
        return [(rows, len(rows)) for rows in _split(recipe)]
    from avlearn.data.world import WorldConfig, make_world

    if data.world is None:
        raise RecipeError("data.train is not set: give a folder or a manifest (data.train=PATH)")
    config = WorldConfig.preset(data.world.preset)
    found = []
    for k, (split, clips) in enumerate((("train", data.world.train_clips), ("val", data.world.val_clips))):
        out = Path(data.root) / f"{data.world.preset}-{split}-{clips}-{data.world.seed}"
        manifest = make_world(
            out, min(clips, sample[k]) if sample else clips, 2 * data.world.seed + k, config, workers=os.cpu_count(),
            split=split, progress=progress_line(f"rendering {split} clips"),
        )  # fmt: skip
        found.append((read_manifest(manifest), clips))
    return found


def _split(recipe: Recipe) -> tuple[list[Row], list[Row]]:
    """Rows of the data that the recipe names."""
    data = recipe.data
    train = _rows(data.train)
    if data.val is not None:
        return train, _rows(data.val)
    splits = {row.split for row in train}
    if "val" in splits and "train" in splits:
        return [r for r in train if r.split == "train"], [r for r in train if r.split == "val"]
    if "train" in splits:
        train = [row for row in train if row.split == "train"]  # what is held out for a test stays so
    order = np.random.default_rng(recipe.seed).permutation(len(train))
    held = max(len(train) // 10, 1)
    if len(train) < 2:
        raise DataError(f"{data.train} has one clip: nothing is left for validation")
    return [train[i] for i in order[held:]], [train[i] for i in order[:held]]


def _decoded(recipe: Recipe, rows: list[Row], name: str) -> tuple[list[Row], ClipCache]:
    """Clips decoded once, and the rows of those that could be; says which could not.

    Raises:
        DataError: more of them could not be than the recipe allows.
    """
    clip, data = recipe.clip, recipe.data
    cache = decode_once(
        rows, Path(data.root) / "decoded", clip.fps, clip.size, clip.sample_rate, os.cpu_count() or 1,
        progress_line("decoding clips"), data.bad_files,
    )  # fmt: skip
    for number, reason in cache.bad.items():
        print(f"left out {rows[number].path}: {reason}", file=sys.stderr)
    if cache.bad:
        said = f"{len(cache.bad)} of {len(rows)} {name} clips cannot be read"
        if len(cache.bad) > data.max_bad * len(rows):
            number, reason = next(iter(cache.bad.items()))
            raise DataError(f"{said} (data.max_bad allows a share of {data.max_bad:g}); {rows[number].path}: {reason}")
        print(f"left out {said}", file=sys.stderr)
    return [row for number, row in enumerate(rows) if number not in cache.bad], cache


def _usable(rows: Sequence[Row], name: str, exclude: Sequence[str], rule: WindowRule) -> list[Row]:
    """Rows that windows can be cut from; says which are left out and why."""
    for row in rows:
        if row.reason:
            print(f"left out {printable(row.path)}: {printable(row.reason)}", file=sys.stderr)
    usable = [row for row in rows if not row.reason]
    for flag in exclude:
        kept = [row for row in usable if flag not in row.flags]
        if len(kept) < len(usable):
            print(f"left out {len(usable) - len(kept)} {name} clips: {flag}", file=sys.stderr)
        usable = kept
    if not usable:
        raise DataError(
            f"none of {len(rows)} {name} clips can be used: why is said above; data.exclude chooses the flags"
        )
    kept = [row for row in usable if row.duration >= rule.sound_seconds - 1e-3]
    if not kept:
        raise DataError(
            f"no {name} clip lasts {rule.sound_seconds:g} s (clip.seconds + 2 clip.context), the longest "
            f"{max(row.duration for row in usable):.2f} s: lower clip.seconds or clip.context, or give longer clips"
        )
    if len(kept) < len(usable):
        print(
            f"left out {len(usable) - len(kept)} {name} clips: shorter than {rule.sound_seconds:g} s", file=sys.stderr
        )
    return kept


def build(recipe: Recipe, resumed: bool = False, sample: tuple[int, int] | None = None) -> Experiment:
    """Build what a recipe describes; a world is rendered where it names no data.

    Args:
        recipe: what to build.
        resumed: a checkpoint has the towers' weights, so what they started from is not read and may be gone.
        sample: render, or decode, no more clips for training and validation than these, for a look at what there is.

    Raises:
        RecipeError, DataError, ModelError: the recipe asks for what is not there.
    """
    recipe = recipe if resumed else with_base(recipe)
    origin = recipe.data.train or f"the synthetic world ({recipe.data.world.preset})"
    if recipe.task == "separate":
        return _build_separation(recipe, origin, sample)
    # Whatever can be wrong with the model is found before clips are rendered or decoded.
    model = build_model(recipe, origin)
    if not resumed:
        _start(model, recipe)
    with torch.random.fork_rng(devices=[]):
        build_objective(recipe, model, recipe.data.world.train_clips if recipe.data.world else 10**4)
    clip = recipe.clip
    grid = recipe.objective.offset_unit(model.step)
    rule = WindowRule(clip.fps, clip.size, clip.sample_rate, clip.seconds, clip.context, grid)
    data: list[Dataset] = []
    left_out, counts = 0, []
    for k, (name, (rows, every)) in enumerate(zip(_NAMES, _sources(recipe, sample), strict=True)):
        usable, cache = _usable(rows, name, recipe.data.exclude, rule), None
        counts.append(round(len(usable) / len(rows) * every))
        usable = usable[: sample[k]] if sample else usable
        if recipe.data.cache:
            usable, cache = _decoded(recipe, usable, name)
            left_out += len(cache.bad) if name == "training" else 0
        data.append(ClipDataset(usable, rule, cache, "skip", recipe.data.buffer))
    clips = tuple(counts) if sample else tuple(map(len, data))
    objective = build_objective(recipe, model, clips[0])
    if objective.frozen:
        # Evaluation mode, so that the statistics of batch norms stay as well.
        model.eval().requires_grad_(False)
    else:
        model.config = replace(model.config, pool_scale=objective.pool_scale, common_space=objective.common_space)
    task = Pretrain(model, objective, recipe.augment.model_dump(), None, recipe.seed)
    return Experiment(task, *data, collate, origin, left_out, clips)


def measures_offsets(recipe: Recipe) -> bool:
    """Whether the objective tells sounds apart by when they are heard."""
    return recipe.task == "pretrain" and recipe.objective.shifts_audio


def kept_options(recipe: Recipe) -> dict[str, int]:
    """Options by which the video encoder's steps keep time, where the recipe says nothing of them."""
    if not measures_offsets(recipe) or recipe.model.base is not None:
        return {}
    found = time_options(recipe.model.video, recipe.clip.fps)
    return {key: value for key, value in found.items() if key not in recipe.model.video_options}


def with_options(recipe: Recipe, options: dict[str, int]) -> Recipe:
    """A recipe that says these options of its video encoder, too."""
    options = {**recipe.model.video_options, **options}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"video_options": options})})


def model_config(recipe: Recipe, origin: str) -> ModelConfig:
    """What the recipe's towers are, where it leaves things open as their encoders need them.

    ``resample`` is true where that is open: only the built model tells.

    Raises:
        ModelError: an encoder is unknown, or of the other kind.
    """
    clip, options = recipe.clip, recipe.model
    model_spec(options.video, "video")
    audio = model_spec(options.audio, "audio")
    heard = {key: value for key, value in options.spectrogram.model_dump().items() if value is not None}
    if heard.get("kind", audio.front_end.get("kind", "log_mel")) == audio.front_end.get("kind", "log_mel"):
        heard = {**audio.front_end, **heard}
    if "n_fft" not in heard:  # the usual length, or the next power of two that holds the window
        samples = round(heard.get("window", Spectrogram.window) * clip.sample_rate)
        heard["n_fft"] = min(max(Spectrogram.n_fft, 1 << max(samples - 1, 0).bit_length()), 8192)
    return ModelConfig(
        video=options.video,
        audio=options.audio,
        video_options={**kept_options(recipe), **options.video_options},
        audio_options={**audio.tower, **options.audio_options},
        video_mean=options.video_mean or (),
        video_std=options.video_std or (),
        dim=options.dim,
        fps=clip.fps,
        size=clip.size,
        sample_rate=clip.sample_rate,
        seconds=clip.seconds,
        spectrogram=Spectrogram(**heard),
        resample=options.resample is not False,
        segment=options.segment,
        trained_on=origin,
    )


def build_model(recipe: Recipe, origin: str) -> AudioVisual:
    """The recipe's towers, as they are before the training on clips of some origin; says so if they tell no offsets."""
    model = AudioVisual(model_config(recipe, origin))
    if recipe.model.resample is None:
        model.config = replace(model.config, resample=model.audio_step_differs)
    if measures_offsets(recipe):
        for line in coarse_steps(model):
            print(line, file=sys.stderr)
    return model


def coarse_steps(model: AudioVisual) -> list[str]:
    """A line for each encoder whose steps are too long for offsets to be measured, and what mends it."""
    config, said = model.config, []
    finer = time_options(config.video, config.fps).get("temporal_stride")
    if finer is not None and finer / config.fps <= COARSE:
        mend = f"model.video_options.temporal_stride={finer} keeps time"
    else:
        mend = "take more frames a second (clip.fps), or another encoder"
    for tower, step, how in (("video", model.step, mend), ("audio", model.audio_step, "take another encoder")):
        if step > COARSE + 1e-6:
            name = getattr(config, tower)
            said.append(f"model.{tower}: steps of {step * 1000:.0f} ms ({name}) are too coarse to measure sync: {how}")
    return said


def _start(model: AudioVisual, recipe: Recipe) -> None:
    """Give a model what the recipe starts from, if anything."""
    if recipe.model.base is not None:
        _start_from(model, recipe.model.base)
    for tower in ("video", "audio"):
        source = getattr(recipe.model, f"{tower}_weights")
        if source is not None:
            _start_released(model, tower, source)


def _start_released(model: AudioVisual, tower: str, source: str) -> None:
    """Give a tower released weights; the recipe must say what they need besides."""
    key, encoder, config = f"model.{tower}_weights", getattr(model, tower), model.config
    options = getattr(config, f"{tower}_options")
    try:
        released = create_model(getattr(config, tower), weights=source, **options)
    except ModelError as error:
        raise RecipeError(f"{key}: {error}") from error
    needs = {f"{tower}_options.{k}": value for k, value in released.config["options"].items() if k not in options}
    theirs = _statistics(released)
    if theirs != _statistics(encoder):
        if tower == "video":
            needs |= dict(zip(("video_mean", "video_std"), theirs, strict=True))
        else:
            # The front end standardises, where the encoder alone would have done it.
            needs |= {
                f"spectrogram.{k}": value
                for k, (value,) in zip(("mean", "std"), theirs, strict=True)
                if not isclose(value, getattr(config.spectrogram, k), rel_tol=1e-5)
            }
    if needs:
        words = " ".join(f"model.{k}={json.dumps(value, separators=(',', ':'))}" for k, value in needs.items())
        raise RecipeError(f"{key}: the recipe must have what {source} needs besides: {words}")
    encoder.load_state_dict(released.state_dict())
    print(f"{key}: {released.loaded.taken} tensors by the names of {released.loaded.layout}", file=sys.stderr)


def _statistics(encoder: Encoder) -> tuple[list[float], list[float]]:
    """Mean and deviation of the channels, to the digits that single precision has; of none, empty."""
    parts = ([] if part is None else part.tolist() for part in (encoder.mean, encoder.std))
    mean, std = ([float(f"{value:.7g}") for value in part] for part in parts)
    return mean, std


def _start_from(model: AudioVisual, name_or_path: str) -> None:
    """Give a model the towers of another, by which it was built."""
    base = load(name_or_path)
    for part in ("video", "audio", "video_head", "audio_head"):
        getattr(model, part).load_state_dict(getattr(base, part).state_dict())
    model.config = replace(model.config, **{key: getattr(base.config, key) for key in READ})


def build_objective(recipe: Recipe, model: AudioVisual, clips: int) -> Objective:
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


def _build_separation(recipe: Recipe, origin: str, sample: tuple[int, int] | None) -> Experiment:
    settings = recipe.separator
    towers = build_model(recipe, origin) if settings.base is None else load(settings.base)
    if settings.base is None:
        _start(towers, recipe)
    keys = {field.name for field in fields(SeparatorConfig)}
    separator = SeparatorConfig(**{key: value for key, value in settings.model_dump().items() if key in keys})
    model = AudioVisual(replace(towers.config, separator=separator, common_space=settings.base is not None))
    kept = {k: v for k, v in towers.state_dict().items() if not k.startswith(("separator.", "classifiers."))}
    model.load_state_dict(kept, strict=False)
    model.eval()  # pictures are looked at as they will be, and the towers' norms stay
    config = model.config
    rule = WindowRule(config.fps, config.size, config.sample_rate, recipe.clip.seconds, 0.0, model.step)
    data: list[Dataset] = []
    left_out, counts = 0, []
    for k, (name, (rows, every)) in enumerate(zip(_NAMES, _sources(recipe, sample), strict=True)):
        looked_at, rows = len(rows), _usable(rows, name, recipe.data.exclude, rule)
        # A mixture's truth is a clip's own sound: what is not seen of it should not be there.
        if any(row.truth for row in rows):
            rows = [r for r in rows if "offscreen" not in r.flags and (settings.places > 1 or "sources:1" in r.flags)]
        if len(rows) < settings.sources:
            raise DataError(f"{len(rows)} {name} clips are too few for mixtures of {settings.sources}")
        counts.append(round(len(rows) / looked_at * every))
        rows, cache = rows[: sample[k]] if sample else rows, None
        if recipe.data.cache:
            rows, cache = _decoded(recipe, rows, name)
            left_out += len(cache.bad) if name == "training" else 0
        clips = ClipDataset(rows, rule, None, "skip", recipe.data.buffer)
        if cache:
            labels = torch.stack([clips.labels_of(k) for k in range(len(rows))])
            clips = SeenClips(model, cache, labels, recipe.clip.seconds)
        data.append(clips)
    loss = SeparationLoss(settings.loss, settings.alone_share, settings.places)
    mixing = Mixing(settings.sources, settings.same_class_share, settings.offscreen_share)
    augment = recipe.augment.model_dump(exclude={"gain"})
    task = Separate(model, loss, mixing, augment, None, recipe.seed, settings.train_video)
    clips = tuple(counts) if sample else tuple(map(len, data))
    return Experiment(task, *data, collate, origin, left_out, clips)
