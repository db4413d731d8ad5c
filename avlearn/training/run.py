"""From a recipe to a trained model: what it describes is built, run to the end, and exported."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.environments import ClusterEnvironment

from avlearn.errors import DataError, DivergedError, OutputError
from avlearn.lock import locked
from avlearn.recipe import Recipe
from avlearn.tasks import Experiment, find_task
from avlearn.training.card import model_card
from avlearn.training.checkpoints import BEST, read_checkpoint
from avlearn.training.checks import check_recipe, check_writable
from avlearn.training.divergence import Divergence
from avlearn.training.dry_run import describe
from avlearn.training.fit import fit, quiet
from avlearn.training.launch import environment, follow_starter, global_rank
from avlearn.training.loaders import Loaders, count_steps
from avlearn.training.optimization import OPTIMIZERS
from avlearn.training.precision import settled
from avlearn.training.run_folder import Start, begun_recipe, can_resume, check_free, enter, forget_later_best
from avlearn.training.time_limit import TimeLimit


def pretrain(
    recipe: Recipe, run_dir: Path, *, dry_run: bool = False, resume: bool = False, seconds: float | None = None
) -> Path:
    """Train what the recipe says and export the best model.

    With several processes (``trainer.devices``, ``trainer.nodes``) each runs this. On one node Lightning starts the
    others as copies of the command; torchrun and SLURM are recognized by their environment. ``trainer.batch_size`` is a
    process's. See docs/training.md.

    Args:
        recipe: of any task.
        run_dir: gets ``recipe.yaml``, ``checkpoints/``, ``metrics.jsonl``, TensorBoard events, ``model/``.
        dry_run: build everything, run one batch, print shapes, parameters and memory, write no run. Of a world, or of
            clips that are decoded first, only as many are made as a batch takes, and not kept.
        resume: go on from ``run_dir``'s last checkpoint, to the bit where there are as many processes as before. A
            run that was ended before its first checkpoint begins anew.
        seconds: of the clock that the training may take; the schedule follows the clock then, and the recipe's steps
            are the most that are made.

    Returns:
        The model folder (the run folder, for a dry run).

    Raises:
        OutputError: the run folder is in use, or cannot be written.
        RecipeError, DataError, ModelError: the recipe asks for what is not there.
        DivergedError: the loss, gradients or weights became infinite or no number, and no model is exported.
        AvlearnError: a process that took part, or one that read clips, is gone.
    """
    run_dir = Path(run_dir)
    quiet()
    task = find_task(recipe.task)
    where = environment(recipe.trainer.devices, recipe.trainer.nodes)
    follow_starter(where)
    first = global_rank(where, recipe.trainer.devices) == 0
    if dry_run:
        _describe(recipe)
        return run_dir
    if first:
        check_free(run_dir, resume)
    begun = begun_recipe(run_dir) if resume and can_resume(run_dir) else None
    recipe = settled(task.complete(recipe, begun, say=first), begun)
    check_recipe(recipe)
    check_writable(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with locked(run_dir / ".lock") if first else nullcontext():
        if first:
            check_free(run_dir, resume)  # another run may have ended meanwhile
        return _run_again_if_diverged(recipe, where, run_dir, resume, first, TimeLimit(seconds))


def _describe(recipe: Recipe) -> None:
    """What a dry run does, in a folder of its own."""
    task = find_task(recipe.task)
    recipe = settled(task.complete(recipe))
    check_recipe(recipe)
    if memory := task.describe_memory(recipe):
        print(f"takes       {memory}", flush=True)
    with TemporaryDirectory() as scratch:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": scratch})})
        experiment, loaders = _build(recipe, recipe, False, None, task.sample_sizes(recipe))
        describe(recipe, experiment, loaders)


def _run_again_if_diverged(
    recipe: Recipe, where: ClusterEnvironment, run_dir: Path, resume: bool, first: bool, time_limit: TimeLimit
) -> Path:
    """`_run`, and once more from the last checkpoint at half the learning rate, where the recipe allows that."""
    start = enter(run_dir, recipe, resume, first)
    divergence = Divergence()
    try:
        return _run(recipe, where, run_dir, start, divergence, time_limit)
    except DivergedError as error:
        if divergence.lowered or recipe.trainer.on_divergence == "stop":
            raise DivergedError(_ended(error, recipe, run_dir, divergence)) from error
        print(f"warning: {error}: once more from the last checkpoint at half the learning rate", file=sys.stderr)
    start = enter(run_dir, recipe, True, first)
    if first:
        forget_later_best(run_dir, start.step)
    divergence = Divergence(rate=0.5)
    try:
        return _run(recipe, where, run_dir, start, divergence, time_limit)
    except DivergedError as error:
        raise DivergedError(_ended(error, recipe, run_dir, divergence)) from error


def _ended(error: DivergedError, recipe: Recipe, run_dir: Path, divergence: Divergence) -> str:
    """What to do about a training that diverged."""
    rate = recipe.optimizer.lr * (0.5 if divergence.lowered else 1)
    again = " again" if divergence.lowered else ""
    folder = run_dir / "checkpoints"
    good = f"{folder} has what was good" if any(folder.glob("*.ckpt")) else "there was no checkpoint yet"
    return (
        f"the training diverged{again}: {error}, at an optimizer.lr of {rate:g}. No model is written; {good}. "
        "Start another run with a lower optimizer.lr"
    )


def _build(
    recipe: Recipe, begun: Recipe, resumed: bool, time_limit: TimeLimit | None, sample: tuple[int, int] | None = None
) -> tuple[Experiment[Any], Loaders]:
    """What the recipe describes, with its loaders and optimizer, for as many steps as the run began with."""
    settings, optimizer = recipe.trainer, recipe.optimizer
    torch.set_num_threads(settings.threads or max((os.cpu_count() or 1) // settings.devices, 1))
    lightning.seed_everything(recipe.seed, verbose=False)
    experiment = find_task(recipe.task).build(recipe, resumed=resumed, sample=sample)
    batch = settings.batch_size * settings.processes
    if len(experiment.train) < batch:
        raise DataError(
            f"{len(experiment.train)} training clips do not fill a batch of {batch}: give more clips, or a smaller "
            "trainer.batch_size"
        )
    if len(experiment.val) < settings.processes:
        raise DataError(f"{len(experiment.val)} validation clips are too few for {settings.processes} processes")
    steps = count_steps(begun, experiment.clips[0])
    experiment.module.optimizer_of = lambda module: OPTIMIZERS[optimizer.name](
        module,
        steps,
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        warmup_steps=optimizer.warmup_steps,
        decay_start=optimizer.decay_start,
        schedule=optimizer.schedule,
        at=time_limit.step if time_limit else None,
    )
    return experiment, Loaders(experiment, recipe, steps)


def _run(
    recipe: Recipe,
    where: ClusterEnvironment,
    run_dir: Path,
    start: Start,
    divergence: Divergence,
    time_limit: TimeLimit,
) -> Path:
    """Train from where the folder stands to the end, and export; the model's folder."""
    experiment, loaders = _build(recipe, start.begun, start.checkpoint is not None, time_limit)
    try:
        # Weights, gradients and two moments; three checkpoints, and the one that is being written.
        check_writable(run_dir, 4 * 12 * sum(p.numel() for p in experiment.module.parameters()))
        fit(recipe, where, run_dir, experiment, loaders, start.checkpoint, divergence, time_limit)
        if global_rank(where, recipe.trainer.devices) == 0:
            _export(recipe, experiment, run_dir, divergence)
    except OSError as error:  # a full disk; what the last checkpoint holds stays
        raise OutputError(f"cannot write {run_dir}: {error.strerror or error}") from error
    return run_dir / "model"


def _export(recipe: Recipe, experiment: Experiment[Any], run_dir: Path, divergence: Divergence) -> None:
    """Write the model folder: of the best checkpoint, or of the last step where no validation loss was a number."""
    task, best = find_task(recipe.task), run_dir / "checkpoints" / BEST
    if recipe.trainer.strategy == "fsdp":  # what was trained holds a part of the weights
        if not best.exists():
            raise OutputError(f"{run_dir} has no {BEST}: no validation loss was a number")
        experiment = task.build(recipe, resumed=True)
    if best.exists():
        state = read_checkpoint(best)
        experiment.module.load_state_dict(state["state_dict"])
        experiment.module.on_load_checkpoint(state)
    card = model_card(recipe, experiment, run_dir, divergence, best.exists())
    task.export(experiment, recipe, run_dir / "model", card)
