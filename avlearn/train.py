"""From a recipe to a trained model: what it describes is built, run to the end, and exported."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM
from tempfile import TemporaryDirectory

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import ClusterEnvironment
from torch import Tensor
from torchdata.stateful_dataloader import StatefulDataLoader

from avlearn.base import with_base
from avlearn.build import Experiment, build
from avlearn.checks import check_recipe, check_writable
from avlearn.data.loader import clip_loader
from avlearn.data.sampling import StepSampler
from avlearn.dry_run import describe, sample_sizes
from avlearn.errors import AvlearnError, DataError, DivergedError, OutputError
from avlearn.footprint import check_footprint
from avlearn.interrupts import Terminated, handled_by
from avlearn.lock import locked
from avlearn.models.audiovisual import (
    AudioVisual,
    meet,
    save,
)
from avlearn.recipe import Recipe
from avlearn.run_folder import (
    METRICS,
    Start,
    begun_recipe,
    can_resume,
    check_free,
    enter,
    forget_later_best,
    spelled_out,
)
from avlearn.tasks.callbacks import Checkpoints, Figures, ProgressLine, Stop
from avlearn.tasks.checkpoints import BEST, CheckpointFiles, read_checkpoint
from avlearn.tasks.clock import Clock
from avlearn.tasks.divergence import Divergence
from avlearn.tasks.objective_folder import save_objective
from avlearn.tasks.optimization import OPTIMIZERS
from avlearn.tasks.processes import (
    ENDED,
    Watch,
    data_parallel,
    environment,
    follow_starter,
    global_rank,
    of_lost_process,
    sharded,
)

_MET = 256  # clips from which a model learns what is familiar, at most
_FEW = 64  # clips that it learns from, if there are so many
_WINDOWS = 4  # of each clip, at most

READER_ENDED = "a process that reads clips was killed (out of memory?): --resume goes on from the last checkpoint"


def pretrain(
    recipe: Recipe, run_dir: Path, *, dry_run: bool = False, resume: bool = False, seconds: float | None = None
) -> Path:
    """Train what the recipe says and export the best model.

    With several processes (``trainer.devices``, ``trainer.nodes``) each runs this. On one node Lightning starts the
    others as copies of the command; torchrun and SLURM are recognized by their environment. ``trainer.batch_size`` is a
    process's. See docs/training.md.

    Args:
        recipe: task ``pretrain`` (the towers) or ``separate`` (the separator of a trained model).
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
    _quiet()
    where = environment(recipe.trainer.devices, recipe.trainer.nodes)
    follow_starter(where)
    first = global_rank(where, recipe.trainer.devices) == 0
    if dry_run:
        recipe = with_base(recipe)
        check_recipe(recipe)
        if recipe.task == "pretrain":
            print(f"takes       {check_footprint(recipe).text()}", flush=True)
        with TemporaryDirectory() as scratch:
            data = recipe.data.model_copy(update={"root": scratch})
            recipe = recipe.model_copy(update={"data": data})
            describe(*_built(recipe, recipe, False, None, sample_sizes(recipe)))
        return run_dir
    if first:
        check_free(run_dir, resume)
    begun = begun_recipe(run_dir) if resume and can_resume(run_dir) else None
    recipe = spelled_out(with_base(recipe, begun), begun, first)
    check_recipe(recipe)
    check_writable(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with locked(run_dir / ".lock") if first else nullcontext():
        if first:
            check_free(run_dir, resume)  # another run may have ended meanwhile
        clock = Clock(seconds)
        start = enter(run_dir, recipe, resume, first)
        divergence = Divergence()
        try:
            return _run(recipe, where, run_dir, start, divergence, clock)
        except DivergedError as error:
            if divergence.lowered or recipe.trainer.on_divergence == "stop":
                raise DivergedError(_ended(error, recipe, run_dir, divergence)) from error
            print(f"warning: {error}: once more from the last checkpoint at half the learning rate", file=sys.stderr)
        start = enter(run_dir, recipe, True, first)
        if first:
            forget_later_best(run_dir, start.step)
        divergence = Divergence(rate=0.5)
        try:
            return _run(recipe, where, run_dir, start, divergence, clock)
        except DivergedError as error:
            raise DivergedError(_ended(error, recipe, run_dir, divergence)) from error


def _ended(error: DivergedError, recipe: Recipe, run_dir: Path, divergence: Divergence) -> str:
    """What to do about a training that diverged."""
    rate = recipe.optimizer.lr * (0.5 if divergence.lowered else 1)
    again = " again" if divergence.lowered else ""
    return (
        f"the training diverged{again}: {error}, at an optimizer.lr of {rate:g}. No model is written; "
        f"{run_dir / 'checkpoints'} has what was good. Start another run with a lower optimizer.lr"
    )


def _built(
    recipe: Recipe, begun: Recipe, resumed: bool, clock: Clock | None, sample: tuple[int, int] | None = None
) -> tuple[Recipe, Experiment, "_Loaders"]:
    """What the recipe describes, with its loaders and optimizer, for as many steps as the run began with."""
    settings = recipe.trainer
    torch.set_num_threads(settings.threads or max((os.cpu_count() or 1) // settings.devices, 1))
    lightning.seed_everything(recipe.seed, verbose=False)
    experiment = build(recipe, resumed=resumed, sample=sample)
    task = experiment.task
    batch = settings.batch_size * settings.processes
    if len(experiment.train) < batch:
        raise DataError(f"{len(experiment.train)} training clips do not fill a batch of {batch}")
    if len(experiment.val) < settings.processes:
        raise DataError(f"{len(experiment.val)} validation clips are too few for {settings.processes} processes")
    steps = _steps(begun, experiment.clips[0])
    if recipe.task == "pretrain":
        task.economize(settings.accumulate, settings.checkpoint_activations, settings.compile)
    task.optimizer_of = lambda module: OPTIMIZERS[recipe.optimizer.name](
        module,
        steps,
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        warmup_steps=recipe.optimizer.warmup_steps,
        decay_start=recipe.optimizer.decay_start,
        at=clock.step if clock else None,
    )
    return recipe, experiment, _Loaders(experiment, recipe, steps)


def _run(
    recipe: Recipe, where: ClusterEnvironment, run_dir: Path, start: Start, divergence: Divergence, clock: Clock
) -> Path:
    """Train from where the folder stands to the end, and export; the model's folder."""
    _, experiment, module = _built(recipe, start.begun, start.checkpoint is not None, clock)
    try:
        # Weights, gradients and two moments; three checkpoints, and the one that is being written.
        check_writable(run_dir, 4 * 12 * sum(p.numel() for p in experiment.task.parameters()))
        _fit(recipe, where, run_dir, experiment, module, start.checkpoint, divergence, clock)
        if global_rank(where, recipe.trainer.devices) == 0:
            _export(recipe, experiment, run_dir, divergence)
    except OSError as error:  # a full disk; what the last checkpoint holds stays
        raise OutputError(f"cannot write {run_dir}: {error.strerror or error}") from error
    return run_dir / "model"


def _export(recipe: Recipe, experiment: Experiment, run_dir: Path, divergence: Divergence) -> None:
    """Write the model folder: of the best checkpoint, or of the last step where no validation loss was a number."""
    task, best = experiment.task, run_dir / "checkpoints" / BEST
    if recipe.trainer.strategy == "fsdp":  # what was trained holds a part of the weights
        if not best.exists():
            raise OutputError(f"{run_dir} has no {BEST}: no validation loss was a number")
        task = build(recipe, resumed=True).task
    if best.exists():
        state = read_checkpoint(best)
        task.load_state_dict(state["state_dict"])
        task.on_load_checkpoint(state)
    model = task.model.eval()
    if recipe.task == "pretrain":
        if not task.objective.frozen:
            scale = torch.as_tensor(task.objective.scale).item()
            model.config = replace(model.config, score_scale=round(scale, 4))
        _meet(model, experiment)
    save(model, run_dir / "model", _card(recipe, experiment, run_dir, divergence, best.exists()))
    if recipe.task == "pretrain":
        save_objective(task.objective, run_dir / "model")


def _meet(model: AudioVisual, experiment: Experiment) -> None:
    """Learn what familiar pictures and sounds are like, from validation clips; from training clips too if they are few.

    Of each clip several windows are looked at, the more the fewer clips there are.
    """
    clips = [(experiment.val, k) for k in range(min(len(experiment.val), _MET))]
    clips += [(experiment.train, k) for k in range(min(len(experiment.train), _FEW - len(clips)))]
    each = max(_MET // len(clips), 1)

    def windows() -> Iterator[tuple[int, Tensor, Tensor]]:
        for number, (data, index) in enumerate(clips):
            for seed in range(min(each, _WINDOWS)):
                batch = experiment.collate([data[(index, index + seed * len(data))]])
                if "video" in batch:
                    yield number, batch["video"], batch["audio"]

    meet(model, windows())


def _steps(recipe: Recipe, clips: int) -> int:
    per_epoch = max(clips // (recipe.trainer.batch_size * recipe.trainer.processes), 1)
    limits = []
    if recipe.trainer.max_steps is not None:
        limits.append(recipe.trainer.max_steps)
    if recipe.trainer.max_epochs is not None:
        limits.append(recipe.trainer.max_epochs * per_epoch)
    return min(limits)


class _Loaders(lightning.LightningDataModule):
    """The loaders; Lightning keeps the training loader's state in its checkpoints."""

    def __init__(self, experiment: Experiment, recipe: Recipe, steps: int):
        super().__init__()
        self.train_data, self.val_data, self.fold = experiment.train, experiment.val, experiment.collate
        self.recipe, self.steps = recipe, steps

    def train_dataloader(self) -> StatefulDataLoader:
        data, batch = self.recipe.data, self.recipe.trainer.batch_size
        sampler = StepSampler(
            len(self.train_data),
            batch,
            self.steps,
            self.recipe.seed,
            self.trainer.global_rank if self.trainer else 0,
            self.trainer.world_size if self.trainer else 1,
            windows=data.windows,
            pool=max(data.buffer // (batch * data.windows), 1),
            workers=data.workers,
        )
        return clip_loader(self.train_data, sampler, data.workers, self.fold)

    def val_dataloader(self) -> StatefulDataLoader:
        trainer, clips = self.recipe.trainer, len(self.val_data)
        # Processes share batches that are as large as one process' alone, so that they have the same negatives.
        batch = max(min(trainer.batch_size, clips) // trainer.processes, 1)
        steps = clips // (batch * trainer.processes)
        rank = self.trainer.global_rank
        sampler = StepSampler(clips, batch, steps, self.recipe.seed + 1, rank, trainer.processes)
        return clip_loader(self.val_data, sampler, self.recipe.data.workers, self.fold)


class _SkipBadFiles(lightning.Callback):
    """Counts what the loader skipped; stops the run past the share that the recipe allows, or at once.

    It is here that a clip ends the run: an error that came through a loader's process is a traceback.
    """

    def __init__(self, figures: Figures, allowed: bool):
        self.figures, self.allowed = figures, allowed

    def on_validation_batch_start(self, trainer, module, batch, batch_index, dataloader_index=0) -> None:
        self._allow(batch)

    def _allow(self, batch: dict) -> None:
        if batch.get("skipped") and not self.allowed:
            raise DataError(f"{batch['skipped'][0]} (data.bad_files=skip leaves such clips out)")

    def on_train_batch_start(self, trainer, module, batch, batch_index) -> None:
        self._allow(batch)
        skipped = batch.get("skipped", [])
        good = len(batch.get("audio", ()))
        for reason in skipped:
            print(f"skipped {reason}", file=sys.stderr)
        if not self.figures.count(good, skipped) or ("skipped" in batch and not good):
            raise DataError(
                f"{len(self.figures.skipped)} of {self.figures.seen} clips could not be read "
                f"(data.max_bad allows a share of {self.figures.max_bad:g}); the last: {skipped[-1]}"
            )


def _quiet() -> None:
    """Keep Lightning's advice and adverts out of our progress."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than cores, as was asked for


def _trainer(recipe: Recipe, where: ClusterEnvironment, task, steps: int, **options: object) -> lightning.Trainer:
    settings = recipe.trainer
    plugins = [where]
    if settings.strategy == "fsdp":
        strategy = sharded(settings.processes)
    else:
        strategy = "auto" if settings.processes == 1 and settings.strategy == "auto" else data_parallel(task)
        plugins.append(CheckpointFiles())
    return lightning.Trainer(
        max_steps=steps,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy,
        plugins=plugins,
        precision=settings.precision,
        gradient_clip_val=recipe.optimizer.grad_clip,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        **options,
    )


def _fit(
    recipe: Recipe, where: ClusterEnvironment, run_dir: Path, experiment: Experiment, module: _Loaders,
    checkpoint: Path | None, divergence: Divergence, clock: Clock,
) -> None:  # fmt: skip
    settings, steps = recipe.trainer, module.steps
    figures = Figures(run_dir / METRICS, settings.log_every, recipe.data.max_bad, experiment.left_out)
    checkpoints = Checkpoints(run_dir / "checkpoints", settings.checkpoint_every, divergence)
    callbacks = [
        _SkipBadFiles(figures, recipe.data.bad_files == "skip"),
        figures,
        divergence,
        checkpoints,
        clock,
        ProgressLine(settings.batch_size * settings.processes, settings.log_every),
        Watch(),
    ]
    trainer = _trainer(
        recipe, where, experiment.task, steps, callbacks=callbacks, log_every_n_steps=settings.log_every,
        val_check_interval=steps // max(round(steps / settings.val_every), 1),
        logger=TensorBoardLogger(run_dir, name="", version=""),
    )  # fmt: skip
    try:
        with handled_by(checkpoints.signalled):
            trainer.fit(experiment.task, module, ckpt_path=checkpoint, weights_only=True)
    except Stop:
        how = "--resume" if clock.seconds is None else "the same command"
        print(f"stopped after step {checkpoints.saved_at}: {how} goes on from there", file=sys.stderr)
        raise (Terminated if checkpoints.interrupted == SIGTERM else KeyboardInterrupt) from None
    except (RuntimeError, ConnectionError, EOFError) as error:
        if "DataLoader worker" in str(error) or not isinstance(error, RuntimeError):
            raise AvlearnError(READER_ENDED) from error
        if of_lost_process(error):
            raise AvlearnError(ENDED) from error
        raise


def _card(recipe: Recipe, experiment: Experiment, run_dir: Path, divergence: Divergence, best: bool) -> str:
    rows = (run_dir / METRICS).read_text().splitlines()
    validation = [row for row in rows if "val_loss" in row]
    which = "the one with the lowest loss on validation clips" if best else "that of the last step"
    lowered = " The training diverged once, and went on at half the learning rate." if divergence.lowered else ""
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            f"Trained on {len(experiment.train)} clips of {experiment.origin}, seed {recipe.seed}, by",
            f"the recipe at the end. The checkpoint is {which}.{lowered}",
            "",
            f"Last validation: `{validation[-1] if validation else 'none'}`",
            "",
            "Limits: it knows what its training clips show. On files unlike them its answers mean little.",
            "",
            "```yaml",
            recipe.to_yaml().rstrip(),
            "```",
            "",
        ]
    )
