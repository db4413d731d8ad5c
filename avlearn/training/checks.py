"""Checks of a recipe before anything is rendered or decoded."""

import os
import shutil
from pathlib import Path

import torch

from avlearn.data.cache import require_room
from avlearn.data.world import WorldConfig
from avlearn.errors import DataError, OutputError, RecipeError
from avlearn.files import in_bytes
from avlearn.recipe import Recipe
from avlearn.remote.address import is_address


def check_recipe(recipe: Recipe) -> None:
    """Check data, world, device and room.

    Raises:
        RecipeError, DataError, OutputError: one line with the key.
    """
    _check_device(recipe)
    data = recipe.data
    if data.train is None:
        _check_world(recipe)
    for key in ("train", "val"):
        source = getattr(data, key)
        if source is not None and not is_address(source) and not Path(source).exists():
            raise DataError(f"data.{key}: there is no file or folder {source}")


def check_writable(folder: Path, needed: int = 0) -> None:
    """Raise OutputError where a folder cannot be made or written, or its disk holds less than ``needed`` bytes more."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {folder}: {there} is no folder that can be written to")
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OutputError(f"{folder} needs {in_bytes(needed)} for checkpoints and the disk has {in_bytes(free)}")


def _check_device(recipe: Recipe) -> None:
    trainer = recipe.trainer
    if trainer.accelerator == "gpu" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise RecipeError("trainer.accelerator: there is no GPU here; take auto or cpu")
    if trainer.accelerator != "cpu" and torch.cuda.is_available() and trainer.devices > torch.cuda.device_count():
        raise RecipeError(f"trainer.devices: {trainer.devices} GPUs, and there are {torch.cuda.device_count()} here")
    on_cpu = trainer.accelerator == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if trainer.precision == "16-mixed" and on_cpu:
        raise RecipeError("trainer.precision: 16-mixed takes a GPU; on a processor take bf16-mixed or 32-true")


def _check_world(recipe: Recipe) -> None:
    data, clip = recipe.data, recipe.clip
    if data.world is None:
        raise RecipeError("data.train is not set: give a folder or a manifest (data.train=PATH)")
    config = WorldConfig.preset(data.world.preset)
    needed = recipe.clip_seconds
    if config.duration < needed - 1e-3:
        raise DataError(f"clips of the world last {config.duration:g} s, and the recipe wants {needed:g} s")
    check_writable(Path(data.root))
    if data.cache:
        clips = data.world.train_clips + data.world.val_clips
        require_room(Path(data.root).absolute(), clips, config.duration, clip.fps, clip.size, clip.sample_rate)
