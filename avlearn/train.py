"""From a recipe to a trained model: what it describes is built, run to the end, and exported."""

import logging
import os
import resource
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import lightning
import torch
import yaml
from filelock import FileLock
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import ClusterEnvironment
from pydantic import ValidationError
from torchdata.stateful_dataloader import StatefulDataLoader

from avlearn.build import Experiment, build
from avlearn.data.loader import clip_loader
from avlearn.data.sampling import StepSampler
from avlearn.errors import AvlearnError, DataError, OutputError, RecipeError
from avlearn.models.audiovisual import (
    AudioVisual,
    frames_to_input,
    save,
)
from avlearn.objectives.folder import save_objective
from avlearn.recipe import Recipe
from avlearn.tasks.callbacks import Checkpoints, Figures, ProgressLine
from avlearn.tasks.optimization import OPTIMIZERS
from avlearn.tasks.processes import ENDED, Watch, data_parallel, environment, global_rank, of_lost_process, sharded

# What a resumed run may have otherwise than it began.
FREE = ("trainer.devices", "trainer.nodes", "trainer.threads")

READER_ENDED = "a process that reads clips was killed (out of memory?): --resume goes on from the last checkpoint"


def pretrain(recipe: Recipe, run_dir: Path, *, dry_run: bool = False, resume: bool = False) -> Path:
    """Train what the recipe says and export the best model.

    With several processes (``trainer.devices``, ``trainer.nodes``) each runs this. On one node Lightning starts the
    others as copies of the command; torchrun and SLURM are recognized by their environment. ``trainer.batch_size`` is a
    process's. See docs/training.md.

    Args:
        recipe: task ``pretrain`` (the towers) or ``separate`` (the separator of a trained model).
        run_dir: gets ``recipe.yaml``, ``checkpoints/``, ``metrics.jsonl``, TensorBoard events, ``model/``.
        dry_run: build everything, run one batch, print shapes, parameters and memory, write no run.
        resume: go on from ``run_dir``'s last checkpoint, to the bit where there are as many processes as before.

    Returns:
        The model folder (the run folder, for a dry run).

    Raises:
        OutputError: the run folder is in use, or cannot be written.
        RecipeError, DataError, ModelError: the recipe asks for what is not there.
        AvlearnError: a process that took part, or one that read clips, is gone.
    """
    run_dir = Path(run_dir)
    _quiet()
    settings = recipe.trainer
    where = environment(settings.devices, settings.nodes)
    first = global_rank(where, settings.devices) == 0
    begun = recipe if dry_run else _check_folder(run_dir, recipe, resume, first)
    torch.set_num_threads(settings.threads or max((os.cpu_count() or 1) // settings.devices, 1))
    lightning.seed_everything(recipe.seed, verbose=False)
    with _one_at_a_time(Path(recipe.data.root)) if settings.processes > 1 else nullcontext():
        experiment = build(recipe, resumed=resume)
    task = experiment.task
    batch = settings.batch_size * settings.processes
    if len(experiment.train) < batch:
        raise DataError(f"{len(experiment.train)} training clips do not fill a batch of {batch}")
    if len(experiment.val) < settings.processes:
        raise DataError(f"{len(experiment.val)} validation clips are too few for {settings.processes} processes")
    # The recipe that the run began with: resumed by other processes it is to take as many steps.
    steps = _steps(begun, len(experiment.train))
    if recipe.task == "pretrain":
        task.economize(settings.accumulate, settings.checkpoint_activations, settings.compile)
    task.optimizer_of = lambda module: OPTIMIZERS[recipe.optimizer.name](
        module,
        steps,
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        warmup_steps=recipe.optimizer.warmup_steps,
        decay_start=recipe.optimizer.decay_start,
    )
    module = _Loaders(experiment, recipe, steps)
    if dry_run:
        _describe(recipe, task, module, steps)
        return run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if first and not resume:
            (run_dir / "recipe.yaml").write_text(recipe.to_yaml())
        _fit(recipe, where, run_dir, task, module, steps, resume)
    except OSError as error:  # a full disk; what the last checkpoint holds stays
        raise OutputError(f"cannot write {run_dir}: {error.strerror or error}") from error
    if not first:
        return run_dir / "model"
    best = run_dir / "checkpoints" / "best.ckpt"
    if settings.strategy == "fsdp":  # what was trained holds a part of the weights
        if not best.exists():
            raise OutputError(f"{run_dir} has no best.ckpt: no validation loss was a number")
        task = build(recipe, resumed=True).task
    if best.exists():
        state = torch.load(best, map_location="cpu", weights_only=True)
        task.load_state_dict(state["state_dict"])
        task.on_load_checkpoint(state)
    model = task.model.eval()
    if recipe.task == "pretrain":
        if not task.objective.frozen:
            scale = torch.as_tensor(task.objective.scale).item()
            model.config = replace(model.config, score_scale=round(scale, 4))
        _meet(model, experiment)
    save(model, run_dir / "model", _card(recipe, experiment, run_dir))
    if recipe.task == "pretrain":
        save_objective(task.objective, recipe.objective.model_dump(), run_dir / "model")
    return run_dir / "model"


@torch.inference_mode()
def _meet(model: AudioVisual, experiment: Experiment) -> None:
    """Learn from validation clips what familiar pictures and sounds are like."""
    seen, heard = [], []
    for index in range(min(len(experiment.val), 512)):
        batch = experiment.collate([experiment.val[(index, index)]])
        if "video" in batch:
            seen.append(model.video_features(frames_to_input(batch["video"])).mean((2, 3, 4)))
            heard.append(model.audio_features(batch["audio"]).mean(2))
    if len(seen) > 1:
        model.familiar["video"].fit(torch.cat(seen))
        model.familiar["audio"].fit(torch.cat(heard))


def _check_folder(run_dir: Path, recipe: Recipe, resume: bool, first: bool) -> Recipe:
    """The recipe that the run began with; raises where the folder does not allow what is asked for."""
    written = run_dir / "recipe.yaml"
    if not resume:
        if first and written.exists():
            raise OutputError(f"{run_dir} holds a run already: --resume goes on with it, --run-dir makes another")
        return recipe
    if not (run_dir / "checkpoints" / "last.ckpt").exists():
        raise OutputError(f"{run_dir} has no checkpoint to resume from")
    try:
        begun = Recipe.model_validate(yaml.safe_load(written.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise OutputError(f"{written} is not the recipe of a run: {str(error).splitlines()[0]}") from error
    before, now = _flat(begun.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    differing = [key for key in before | now if before.get(key) != now.get(key)]
    for key in differing:
        if key not in FREE:
            raise RecipeError(f"{written} has {key} {before.get(key)}, the recipe {now.get(key)}: resume with the same")
    if differing and first:
        changes = ", ".join(f"{key} {before[key]} -> {now[key]}" for key in differing)
        batches = [r.trainer.batch_size * r.trainer.processes for r in (begun, recipe)]
        what = f"batches of {batches[1]} clips, not {batches[0]}, other negatives, another order of clips"
        what = what if batches[0] != batches[1] else "sums in another order"
        print(f"warning: resumed with {changes}: {what}; no longer equal to the bit", file=sys.stderr)
    return begun


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    """Values by the full paths of their keys."""
    found = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _one_at_a_time(folder: Path) -> AbstractContextManager:
    """Of processes that are started together, the first renders and decodes, and the others find it done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock").acquire()
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error


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
    """Counts what the loader skipped and stops the run past the share that the recipe allows."""

    def __init__(self, figures: Figures):
        self.figures = figures

    def on_train_batch_start(self, trainer, module, batch, batch_index) -> None:
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


def _trainer(recipe: Recipe, where: ClusterEnvironment, task, steps: int, **options: object) -> lightning.Trainer:
    settings = recipe.trainer
    if settings.strategy == "fsdp":
        strategy = sharded(settings.processes)
    else:
        strategy = "auto" if settings.processes == 1 and settings.strategy == "auto" else data_parallel(task)
    return lightning.Trainer(
        max_steps=steps,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy,
        plugins=[where],
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
    recipe: Recipe, where: ClusterEnvironment, run_dir: Path, task, module: _Loaders, steps: int, resume: bool
) -> None:
    settings = recipe.trainer
    figures = Figures(run_dir / "metrics.jsonl", settings.log_every, recipe.data.max_bad)
    checkpoints = Checkpoints(run_dir / "checkpoints", settings.checkpoint_every)
    callbacks = [
        _SkipBadFiles(figures),
        figures,
        checkpoints,
        ProgressLine(settings.batch_size * settings.processes, settings.log_every),
        Watch(),
    ]
    trainer = _trainer(
        recipe, where, task, steps, callbacks=callbacks, log_every_n_steps=settings.log_every,
        val_check_interval=steps // max(round(steps / settings.val_every), 1),
        logger=TensorBoardLogger(run_dir, name="", version=""),
    )  # fmt: skip
    last = run_dir / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(task, module, ckpt_path=last if resume else None, weights_only=True)
    except (RuntimeError, ConnectionError, EOFError) as error:
        if "DataLoader worker" in str(error) or not isinstance(error, RuntimeError):
            raise AvlearnError(READER_ENDED) from error
        if of_lost_process(error):
            raise AvlearnError(ENDED) from error
        raise
    if checkpoints.interrupted:
        print(f"stopped at step {trainer.global_step}: --resume goes on from there", file=sys.stderr)
        raise KeyboardInterrupt


def _describe(recipe: Recipe, task, module: _Loaders, steps: int) -> None:
    """One batch forth and back; prints what a user wants to know before a long run."""
    batch = next(iter(module.train_dataloader()))
    model = task.model
    parameters = sum(p.numel() for p in task.parameters() if p.requires_grad)
    print(f"task        {recipe.task}: {steps} steps of {recipe.trainer.batch_size} clips")
    print(f"clips       {len(module.train_data)} for training, {len(module.val_data)} for validation")
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            print(f"batch       {name} {list(value.shape)} {str(value.dtype)[6:]}")
    print(f"parameters  {parameters:,} trained, {sum(p.numel() for p in model.parameters()):,} in all")
    if recipe.task == "pretrain":
        video, audio = frames_to_input(batch["video"]), batch["audio"]
        features = [list(x.shape) for x in model(video, audio)]
        print(f"features    video {features[0]}, audio {features[1]}")
        loss = task.output(video, audio, batch).loss
    else:
        loss = task.training_loss(batch)
    loss.backward()
    print(f"loss        {float(loss.detach()):.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory      {peak:.2f} GiB at most")


def _card(recipe: Recipe, experiment: Experiment, run_dir: Path) -> str:
    rows = (run_dir / "metrics.jsonl").read_text().splitlines()
    validation = [row for row in rows if "val_loss" in row]
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            f"Trained on {len(experiment.train)} clips of {experiment.origin}, seed {recipe.seed}, by",
            "the recipe at the end. The checkpoint is the one with the lowest loss on validation clips.",
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
