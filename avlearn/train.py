"""From a recipe to a trained model: data, model, task and trainer, run to the end and exported."""

import logging
import os
import resource
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import Dataset, default_collate
from torchdata.stateful_dataloader import StatefulDataLoader

from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.clips import ClipDataset, WindowRule, collate
from avlearn.data.loader import clip_loader
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.sampling import StepSampler
from avlearn.data.scan import scan_folder
from avlearn.errors import DataError, OutputError, RecipeError
from avlearn.models.audiovisual import (
    AudioVisual,
    ModelConfig,
    SeparatorConfig,
    Spectrogram,
    frames_to_input,
    load,
    save,
)
from avlearn.objectives import OBJECTIVES, Objective, Setting, ShiftSchedule
from avlearn.recipe import Recipe
from avlearn.tasks.callbacks import Checkpoints, Figures, ProgressLine
from avlearn.tasks.optimization import adamw
from avlearn.tasks.pretrain import Pretrain
from avlearn.tasks.separate import Mixtures, Separate, seen_source


def pretrain(recipe: Recipe, run_dir: Path, *, dry_run: bool = False, resume: bool = False) -> Path:
    """Train what the recipe says and export the best model.

    Args:
        recipe: task ``pretrain`` (the towers) or ``separate`` (the separator of a trained model).
        run_dir: gets ``recipe.yaml``, ``checkpoints/``, ``metrics.jsonl``, TensorBoard events, ``model/``.
        dry_run: build everything, run one batch, print shapes, parameters and memory, write no run.
        resume: go on from ``run_dir``'s last checkpoint, to the bit.

    Returns:
        The model folder (the run folder, for a dry run).

    Raises:
        OutputError: the run folder is in use, or cannot be written.
        RecipeError, DataError, ModelError: the recipe asks for what is not there.
    """
    run_dir = Path(run_dir)
    # Lightning starts the further processes of a node as copies of this command.
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if not dry_run and first:
        _check_folder(run_dir, recipe, resume)
    torch.set_num_threads(recipe.trainer.threads or os.cpu_count() or 1)
    lightning.seed_everything(recipe.seed, verbose=False)
    task, train_data, val_data, fold, card = _build(recipe)
    batch = recipe.trainer.batch_size
    if len(train_data) < batch:
        raise DataError(f"{len(train_data)} training clips do not fill a batch of {batch}")
    steps = _steps(recipe, len(train_data))
    task.optimizer_of = lambda module: adamw(
        module,
        steps,
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        warmup_steps=recipe.optimizer.warmup_steps,
        decay_start=recipe.optimizer.decay_start,
    )
    module = _Loaders(train_data, val_data, fold, recipe, steps)
    if dry_run:
        _describe(recipe, task, module, steps)
        return run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "recipe.yaml").write_text(recipe.to_yaml())
        _fit(recipe, run_dir, task, module, steps, resume)
    except OSError as error:  # a full disk; what the last checkpoint holds stays
        raise OutputError(f"cannot write {run_dir}: {error.strerror or error}") from error
    if not first:
        return run_dir / "model"
    best = run_dir / "checkpoints" / "best.ckpt"
    if best.exists():
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        task.load_state_dict(state)
    model = task.model.eval()
    if recipe.task == "pretrain":
        model.config = replace(model.config, score_scale=round(float(task.objective.scale), 4))
        _meet(model, val_data, fold)
    save(model, run_dir / "model", card(run_dir))
    return run_dir / "model"


@torch.inference_mode()
def _meet(model: AudioVisual, clips: ClipDataset, fold: Callable) -> None:
    """Learn from validation clips what familiar pictures and sounds are like."""
    seen, heard = [], []
    for index in range(min(len(clips), 512)):
        batch = fold([clips[(index, index)]])
        if "video" in batch:
            seen.append(model.video_features(frames_to_input(batch["video"])).mean((2, 3, 4)))
            heard.append(model.audio_features(batch["audio"]).mean(2))
    if len(seen) > 1:
        model.familiar["video"].fit(torch.cat(seen))
        model.familiar["audio"].fit(torch.cat(heard))


def _check_folder(run_dir: Path, recipe: Recipe, resume: bool) -> None:
    written = run_dir / "recipe.yaml"
    if not resume and written.exists():
        raise OutputError(f"{run_dir} holds a run already: --resume goes on with it, --run-dir makes another")
    if resume and not (run_dir / "checkpoints" / "last.ckpt").exists():
        raise OutputError(f"{run_dir} has no checkpoint to resume from")
    if resume and written.read_text() != recipe.to_yaml():
        raise RecipeError(f"{written} differs from the recipe asked for: resume with the same one")


def _steps(recipe: Recipe, clips: int) -> int:
    per_epoch = max(clips // (recipe.trainer.batch_size * recipe.trainer.devices), 1)
    limits = []
    if recipe.trainer.max_steps is not None:
        limits.append(recipe.trainer.max_steps)
    if recipe.trainer.max_epochs is not None:
        limits.append(recipe.trainer.max_epochs * per_epoch)
    return min(limits)


def _rows(source: str) -> list[Row]:
    path = Path(source)
    if path.is_dir() and (path / "manifest.parquet").exists():
        path = path / "manifest.parquet"
    rows = scan_folder(path) if path.is_dir() else read_manifest(path)
    if not rows:
        raise DataError(f"{source} names no clip")
    return rows


def _line(label: str) -> Callable[[int, int], None]:
    """Progress of a preparation: a line at every tenth."""

    def say(done: int, total: int) -> None:
        if done == total or done % max(total // 10, 1) == 0:
            print(f"{label} {done}/{total}", file=sys.stderr, flush=True)

    return say


def _sources(recipe: Recipe) -> tuple[list[Row], list[Row]]:
    """Training and validation rows; a world is rendered where the recipe names no data."""
    data = recipe.data
    if data.train is None:
        from avlearn.data.world import WorldConfig, make_world

        if data.world is None:
            raise RecipeError("data.train is not set: give a folder or a manifest (data.train=PATH)")
        config = WorldConfig.preset(data.world.preset)
        found = []
        for split, clips, seed in (
            ("train", data.world.train_clips, 2 * data.world.seed),
            ("val", data.world.val_clips, 2 * data.world.seed + 1),
        ):
            out = Path(data.root) / f"{data.world.preset}-{split}-{clips}-{data.world.seed}"
            manifest = make_world(
                out, clips, seed, config, workers=os.cpu_count(), split=split,
                progress=_line(f"rendering {split} clips"),
            )  # fmt: skip
            found.append(read_manifest(manifest))
        return found[0], found[1]
    train = _rows(data.train)
    if data.val is not None:
        return train, _rows(data.val)
    splits = {row.split for row in train}
    if "val" in splits and "train" in splits:
        return [r for r in train if r.split == "train"], [r for r in train if r.split == "val"]
    order = np.random.default_rng(recipe.seed).permutation(len(train))
    held = max(len(train) // 10, 1)
    if len(train) < 2:
        raise DataError(f"{data.train} has one clip: nothing is left for validation")
    return [train[i] for i in order[held:]], [train[i] for i in order[:held]]


def _cache(recipe: Recipe, rows: list[Row]) -> ClipCache:
    clip = recipe.clip
    return decode_once(
        rows, Path(recipe.data.root) / "decoded", clip.fps, clip.size, clip.sample_rate,
        os.cpu_count() or 1, _line("decoding clips"),
    )  # fmt: skip


def _usable(rows: Sequence[Row], name: str, exclude: Sequence[str], rule: WindowRule) -> list[Row]:
    """Rows that windows can be cut from; says which are left out and why."""
    for row in rows:
        if row.reason:
            print(f"left out {row.path}: {row.reason}", file=sys.stderr)
    usable = [row for row in rows if not row.reason]
    for flag in exclude:
        kept = [row for row in usable if flag not in row.flags]
        if len(kept) < len(usable):
            print(f"left out {len(usable) - len(kept)} {name} clips: {flag}", file=sys.stderr)
        usable = kept
    kept = [row for row in usable if row.duration >= rule.sound_seconds - 1e-3]
    if not kept:
        raise DataError(f"no {name} clip lasts {rule.sound_seconds:g} s (clip.seconds + 2 clip.context)")
    if len(kept) < len(usable):
        print(
            f"left out {len(usable) - len(kept)} {name} clips: shorter than {rule.sound_seconds:g} s", file=sys.stderr
        )
    return kept


def _build(recipe: Recipe):
    """Task, training data, validation data, collate function, and what writes the model card."""
    train_rows, val_rows = _sources(recipe)
    origin = recipe.data.train or f"the synthetic world ({recipe.data.world.preset})"
    if recipe.task == "separate":
        return _build_separation(recipe, train_rows, val_rows, origin)
    clip, options = recipe.clip, recipe.model
    config = ModelConfig(
        video=options.video,
        audio=options.audio,
        video_options=dict(options.video_options),
        audio_options=dict(options.audio_options),
        dim=options.dim,
        fps=clip.fps,
        size=clip.size,
        sample_rate=clip.sample_rate,
        seconds=clip.seconds,
        spectrogram=Spectrogram(**options.spectrogram.model_dump()),
        trained_on=origin,
    )
    model = AudioVisual(config)
    if options.base is not None:
        _start_from(model, options.base)
    rule = WindowRule(clip.fps, clip.size, clip.sample_rate, clip.seconds, clip.context, model.step)
    data = []
    for name, rows in (("training", train_rows), ("validation", val_rows)):
        usable = _usable(rows, name, recipe.data.exclude, rule)
        cache = _cache(recipe, usable) if recipe.data.cache else None
        data.append(ClipDataset(usable, rule, cache, recipe.data.bad_files, recipe.data.buffer))
    objective = build_objective(recipe, model, len(data[0]))
    model.config = replace(model.config, pool_scale=objective.pool_scale, common_space=objective.common_space)
    if getattr(objective, "frozen", False):
        # Evaluation mode, so that the statistics of batch norms stay as well.
        model.eval().requires_grad_(False)
    task = Pretrain(model, objective, recipe.augment.model_dump(), None, recipe.seed)
    return task, *data, collate, lambda run: _card(recipe, origin, len(data[0]), run)


def _start_from(model: AudioVisual, name_or_path: str) -> None:
    """Give a model the towers of another, which must be built and fed alike."""
    base = load(name_or_path)
    fed = ("video", "audio", "video_options", "audio_options", "dim", "fps", "size", "sample_rate", "spectrogram")
    for key in fed:
        theirs, ours = getattr(base.config, key), getattr(model.config, key)
        if theirs != ours:
            raise RecipeError(f"model.base: {name_or_path} has {key} {theirs}, the recipe {ours}")
    for part in ("video", "audio", "video_head", "audio_head"):
        getattr(model, part).load_state_dict(getattr(base, part).state_dict())


def build_objective(recipe: Recipe, model: AudioVisual, clips: int) -> Objective:
    """The recipe's objective for a model, and so many clips to train on."""
    clip, step = recipe.clip, model.step
    setting = Setting(
        step,
        steps=round(clip.seconds / step),
        offsets=round(2 * clip.context / step) + 1,
        video_channels=model.video.num_features,
        audio_channels=model.audio.num_features,
        dim=model.config.dim,
        clips=clips,
    )
    shift = ShiftSchedule(**recipe.objective.shift.model_dump())
    options = recipe.objective.model_dump(exclude={"name", "shift"})
    return OBJECTIVES[recipe.objective.name](shift, setting, **options)


def _build_separation(recipe: Recipe, train_rows: list[Row], val_rows: list[Row], origin: str):
    settings = recipe.separator
    base = load(settings.base)
    separator = SeparatorConfig(tuple(settings.channels), settings.window, settings.hop, settings.bins)
    values = {**base.config.__dict__, "separator": separator}
    model = AudioVisual(ModelConfig(**values))
    model.load_state_dict(base.state_dict(), strict=False)
    model.eval()
    data = []
    for rows in (train_rows, val_rows):
        # A mixture's truth is a clip's own sound: clips with one source in the picture and none beside it.
        flagged = any("sources:1" in row.flags for row in rows)
        if flagged:
            rows = [r for r in rows if "sources:1" in r.flags and "offscreen" not in r.flags]
        cache = _cache(recipe, rows)
        features = solo_features(model, cache)
        labels = [row.labels[0] if row.labels else "" for row in rows]
        data.append(
            Mixtures(
                cache.audio,
                features,
                labels if any(labels) else None,
                recipe.separator.same_class_share,
                recipe.clip.seconds,
                model.step,
                model.config.sample_rate,
            )
        )
    task = Separate(model, None)
    return task, *data, default_collate, lambda run: _card(recipe, origin, len(data[0]), run)


def solo_features(model: AudioVisual, cache: ClipCache, batch: int = 16) -> np.ndarray:
    """`seen_source` over a cache of clips with one source each: float32 ``[N, D, T]``."""
    found = []
    for first in range(0, len(cache.video), batch):
        frames = torch.from_numpy(np.array(cache.video[first : first + batch]))
        audio = torch.from_numpy(np.array(cache.audio[first : first + batch]))
        found.append(seen_source(model, frames_to_input(frames), audio).numpy())
    return np.concatenate(found)


class _Loaders(lightning.LightningDataModule):
    """The loaders; Lightning keeps the training loader's state in its checkpoints."""

    def __init__(self, train: Dataset, val: Dataset, fold, recipe: Recipe, steps: int):
        super().__init__()
        self.train_data, self.val_data, self.fold = train, val, fold
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
        batch = min(self.recipe.trainer.batch_size, len(self.val_data))
        sampler = StepSampler(len(self.val_data), batch, max(len(self.val_data) // batch, 1), self.recipe.seed + 1)
        return clip_loader(self.val_data, sampler, self.recipe.data.workers, self.fold)


class _SkipBadFiles(lightning.Callback):
    """Counts what the loader skipped and stops the run past the share that the recipe allows."""

    def __init__(self, figures: Figures):
        self.figures = figures

    def on_train_batch_start(self, trainer, module, batch, batch_index) -> None:
        skipped = batch.get("skipped", [])
        good = len(batch["video"]) if "video" in batch else 0
        for reason in skipped:
            print(f"skipped {reason}", file=sys.stderr)
        if not self.figures.count(good, skipped) or ("skipped" in batch and not good):
            raise DataError(
                f"{len(self.figures.skipped)} of {self.figures.seen} clips could not be read "
                f"(data.max_bad allows a share of {self.figures.max_bad:g}); the last: {skipped[-1]}"
            )


def _quiet() -> None:
    """Keep Lightning's advice and adverts out of our progress."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def _trainer(recipe: Recipe, steps: int, **options: object) -> lightning.Trainer:
    return lightning.Trainer(
        max_steps=steps,
        accelerator=recipe.trainer.accelerator,
        devices=recipe.trainer.devices,
        precision=recipe.trainer.precision,
        gradient_clip_val=recipe.optimizer.grad_clip,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        **options,
    )


def _fit(recipe: Recipe, run_dir: Path, task, module: _Loaders, steps: int, resume: bool) -> None:
    _quiet()
    settings = recipe.trainer
    figures = Figures(run_dir / "metrics.jsonl", settings.log_every, recipe.data.max_bad)
    checkpoints = Checkpoints(run_dir / "checkpoints", settings.checkpoint_every)
    callbacks = [
        _SkipBadFiles(figures),
        figures,
        checkpoints,
        ProgressLine(settings.batch_size * settings.devices, settings.log_every),
    ]
    trainer = _trainer(
        recipe, steps, callbacks=callbacks, log_every_n_steps=settings.log_every,
        val_check_interval=steps // max(round(steps / settings.val_every), 1),
        logger=TensorBoardLogger(run_dir, name="", version=""),
    )  # fmt: skip
    last = run_dir / "checkpoints" / "last.ckpt"
    trainer.fit(task, module, ckpt_path=last if resume else None, weights_only=True)
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
        loss = task._loss(batch)
    loss.backward()
    print(f"loss        {float(loss.detach()):.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory      {peak:.2f} GiB at most")


def _card(recipe: Recipe, origin: str, clips: int, run_dir: Path) -> str:
    rows = (run_dir / "metrics.jsonl").read_text().splitlines()
    validation = [row for row in rows if "val_loss" in row]
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            f"Trained on {clips} clips of {origin}, seed {recipe.seed}, by the recipe below.",
            "The checkpoint is the one with the lowest loss on validation clips.",
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
