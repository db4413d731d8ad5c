"""The main job from nothing, by the clock: a world, a model, its metrics, its four tools, and a report."""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from avlearn.data.cache import decode_once
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import OutputError
from avlearn.evaluation import Evaluation, cached_features, evaluate
from avlearn.evaluation.classifiers import fit_classifier
from avlearn.evaluation.labelled_model import with_classifiers
from avlearn.files import write_text
from avlearn.lock import locked
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load, save
from avlearn.quickstart_page import write_page
from avlearn.recipe import Recipe
from avlearn.recipe.compose import checked, compose
from avlearn.tasks import load_recipe
from avlearn.terminal import remark
from avlearn.training.run import pretrain
from avlearn.training.run_folder import begun_recipe, can_resume

# The share of the time that is gone when a stage ends. Metrics, tools and the page have the rest.
_UNTIL = {"tests": 0.10, "clips": 0.19, "solos": 0.23, "sync": 0.58, "separate": 0.76}
_SEPARATE_STEP = 0.2  # time of a separator's step, as a part of the towers'
_TESTS = {"standard": 200, "muted": 120, "twins": 120, "solo": 200}  # clips, in ten minutes or more
_TRAIN_CLIPS, _VAL_CLIPS, _SOLO_CLIPS, _SOLO_VAL_CLIPS = 1200, 96, 600, 64
# Clips of a world, however slow the machine: every task can be measured, and a batch be filled.
_LEAST_TESTS = {"standard": 8, "muted": 8, "twins": 8, "solo": 16}
_LEAST = {"val": 6, "train": 16}
_REST = 25  # seconds that metrics, tools and the page take at least on an idle machine
_LEAST_SHARE = 0.05  # of the time, for a stage that begins too late


@dataclass
class _Progress:
    """What is done, and the time it took: a quickstart that was stopped goes on from here.

    Attributes:
        path: of the file that keeps it.
        minutes, seed: what the quickstart was begun with.
        spent: seconds of earlier runs, until the last stage that they finished.
        core_spent: core-seconds of them.
        done: stages.
        cut: what the clock took away, a line each.
    """

    path: Path
    minutes: float
    seed: int
    spent: float = 0.0
    core_spent: float = 0.0
    done: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began, self.core_began = time.monotonic(), _cpu_seconds()
        self.slowness = 1.0  # time that a second of this process' work takes, when it has been measured
        if self.path.exists():
            with suppress(ValueError, KeyError, TypeError):
                kept = json.loads(self.path.read_text())
                if (kept["minutes"], kept["seed"]) != (self.minutes, self.seed):
                    raise OutputError(
                        f"{self.path.parent} has a quickstart of --minutes {kept['minutes']:g} --seed {kept['seed']}: "
                        "go on with these, or choose another folder with --output"
                    )
                self.spent, self.core_spent = kept["spent"], kept["core_spent"]
                self.done, self.cut = kept["done"], kept["cut"]

    @property
    def minutes_gone(self) -> tuple[float, float]:
        """Of the clock, and of all cores."""
        clock = self.spent + time.monotonic() - self.began
        return clock / 60, (self.core_spent + _cpu_seconds() - self.core_began) / 60

    def left(self, stage: str) -> float:
        """Seconds until a stage has to end."""
        until = _UNTIL[stage]
        if stage in ("sync", "separate"):
            rest = min(_REST * self.slowness / (60 * self.minutes), 0.5)
            until *= min(1.0, (1 - rest) / _UNTIL["separate"])
        return max(self.minutes * until - self.minutes_gone[0], self.minutes * _LEAST_SHARE) * 60

    def finish(self, stage: str) -> None:
        """Note that a stage is done."""
        self.done.append(stage)
        clock, cores = self.minutes_gone
        kept = {
            "minutes": self.minutes, "seed": self.seed, "spent": clock * 60, "core_spent": cores * 60,
            "done": self.done, "cut": self.cut,
        }  # fmt: skip
        write_text(self.path, json.dumps(kept, indent=1) + "\n")

    def note_cut(self, what: str, planned: int | None, made: int) -> None:
        """Note that the clock allowed less than was planned, if a number was."""
        if planned is not None and made < planned:
            self.cut.append(f"{made} {what}, not {planned}")
            _say(f"by the clock: {self.cut[-1]}")


def quickstart(run_dir: Path, minutes: float = 10.0, seed: int = 0) -> Path:
    """Run everything once, small; a quickstart that was stopped goes on.

    Args:
        run_dir: gets ``worlds/``, ``sync/``, ``separate/``, ``model/``, ``tools/``, ``figures.json``, ``report.html``.
        minutes: wall-clock time to take. On a slower or busier machine there are fewer clips and steps; less gives
            smaller trainings.
        seed: decides everything but how many clips and steps fit into the time.

    Returns:
        Path of the report.

    Raises:
        OutputError: ``run_dir`` holds a finished quickstart or one of other minutes or another seed, is in use, or
            cannot be written.
    """
    run_dir = Path(run_dir)
    report = run_dir / "report.html"
    if report.exists():
        raise OutputError(f"{report} is there already: choose another folder with --output")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {run_dir}: {error.strerror}") from error
    with locked(run_dir / ".lock"):
        progress = _Progress(run_dir / "quickstart.json", minutes, seed)
        tests = _worlds(run_dir, progress)
        _train(run_dir, progress)
        model = load(run_dir / "model")
        result = _evaluate(run_dir, model, tests)
        _say("using the four tools and writing the report")
        write_page(run_dir, report, model, tests, result, progress.minutes_gone, progress.cut)
        clock, cores = progress.minutes_gone
        _say(f"done in {clock:.1f} minutes, {cores:.1f} core-minutes")
    return report


def _say(text: str) -> None:
    remark(f"== {text}")


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _worlds(run_dir: Path, progress: _Progress) -> dict[str, Path]:
    """Worlds to be tested on, one a question, and to learn from; their seeds differ."""
    worlds, share = run_dir / "worlds", min(progress.minutes / 10, 1.0)
    tests = {preset: worlds / f"test-{preset}" for preset in _TESTS}
    seed = progress.seed
    if "tests" not in progress.done:
        _say("rendering held-out worlds")
        for k, (preset, out) in enumerate(tests.items()):
            wanted, seconds = max(round(_TESTS[preset] * share), 60), progress.left("tests") / (len(tests) - k)
            made = make_world(
                out, wanted, 1_000_003 + 10 * seed + k, WorldConfig.preset(preset), split="test", seconds=seconds,
                least=_LEAST_TESTS[preset],
            )  # fmt: skip
            progress.note_cut(f"{preset} clips to be tested on", wanted, len(read_manifest(made)))
        progress.finish("tests")
    for stage, preset, train, val in (
        ("clips", "standard", _TRAIN_CLIPS, _VAL_CLIPS),
        ("solos", "solo", _SOLO_CLIPS, _SOLO_VAL_CLIPS),
    ):
        if stage in progress.done:
            continue
        _say(f"rendering {preset} clips to learn from")
        counts = {"val": max(round(val * share), 32), "train": max(round(train * share), 128)}
        for split, own in (("val", 1), ("train", 0)):
            seconds = progress.left(stage) * (0.15 if split == "val" else 1)
            made = make_world(
                worlds / f"{preset}-{split}", counts[split], 2 * seed + own, WorldConfig.preset(preset), split=split,
                seconds=seconds, least=_LEAST[split],
            )  # fmt: skip
            progress.note_cut(f"{preset} clips to learn from ({split})", counts[split], len(read_manifest(made)))
        progress.finish(stage)
    return {preset: out / "manifest.parquet" for preset, out in tests.items()}


def _train(run_dir: Path, progress: _Progress) -> None:
    """Pretrain, teach to separate, add classifiers: the model's folder."""
    worlds = run_dir / "worlds"
    if "sync" not in progress.done:
        _say("pretraining by synchronization")
        _train_by_clock("sync_world", run_dir / "sync", worlds, "standard", progress, 1.0, [])
    if "separate" not in progress.done:
        _say("learning to separate")
        base = [f"separator.base={run_dir / 'sync'}"]
        _train_by_clock("separate_world", run_dir / "separate", worlds, "solo", progress, _SEPARATE_STEP, base)
    if "classifiers" not in progress.done:
        _say("fitting the classifiers")
        model = load(run_dir / "separate")
        rows = read_manifest(worlds / "solo-train")
        model = add_classifiers(model, rows, worlds / "decoded")
        save(model, run_dir / "model", (run_dir / "separate" / "model" / "README.md").read_text())
        progress.finish("classifiers")


def _train_by_clock(
    name: str, folder: Path, worlds: Path, preset: str, progress: _Progress, step: float, words: Sequence[str]
) -> None:
    """Train until the stage, which is called as its folder, has to end."""
    if can_resume(folder):
        recipe = begun_recipe(folder)
    else:
        paths = [f"data.{split}={worlds / f'{preset}-{split}'}" for split in ("train", "val")]
        clips = len(read_manifest(worlds / f"{preset}-train"))
        recipe = load_recipe(name, [*paths, f"data.root={worlds}", f"seed={progress.seed}", *words])
        per_step, threads, progress.slowness = _time_step(recipe)
        steps = max(int(progress.left(folder.name) / (per_step * step)), 20)
        batch = min(recipe.trainer.batch_size, clips)
        update = {"threads": threads, "max_steps": steps, "val_every": max(steps // 5, 1), "batch_size": batch}
        update |= {"checkpoint_every": max(steps // 20, 1)}
        recipe = recipe.model_copy(update={"trainer": recipe.trainer.model_copy(update=update)})
    seconds = progress.left(folder.name)
    pretrain(recipe, folder, resume=folder.exists(), seconds=seconds)
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    progress.note_cut(f"steps of {folder.name}", recipe.trainer.max_steps, json.loads(rows[-1])["step"])
    progress.finish(folder.name)


def _time_step(recipe: Recipe) -> tuple[float, int, float]:
    """Seconds of a training step on this machine as it is now, from a few on noise.

    Returns:
        The seconds; with how many threads: on a busy machine one alone is faster than several that wait for each other;
        and how much slower it is than an idle machine.
    """
    from avlearn.config import ModelConfig
    from avlearn.tasks.synchronize.build import build_objective
    from avlearn.tasks.synchronize.module import SynchronizeModule
    from avlearn.tasks.synchronize.recipe import SynchronizeRecipe

    clip, batch = recipe.clip, recipe.trainer.batch_size
    model = AudioVisual(ModelConfig(size=clip.size))
    towers = checked(compose("sync_world"), SynchronizeRecipe).model_copy(update={"clip": clip})
    task = SynchronizeModule(model, build_objective(towers, model, batch), {}, 0)
    video = torch.rand(batch, 3, round(clip.seconds * clip.fps), clip.size, clip.size)
    audio = torch.randn(batch, round((clip.seconds + 2 * clip.context) * clip.sample_rate))
    zeros = torch.zeros(batch, dtype=torch.long)
    took, busy = {}, 0.0
    for threads in (1, 1, os.cpu_count() or 1):  # the first warms up
        torch.set_num_threads(threads)
        began, cpu_began = time.monotonic(), time.process_time()
        task.output(video, audio, {"offset": zeros, "index": zeros}).loss.backward()
        took[threads] = time.monotonic() - began
        busy = time.process_time() - cpu_began if threads == 1 else busy
    threads = min(took, key=took.__getitem__)
    return took[threads] * 1.25, threads, max(took[1] / max(busy, 1e-3), 1.0)  # loading, augmentation, the optimizer


def add_classifiers(model: AudioVisual, rows: Sequence[Row], cache: Path) -> AudioVisual:
    """The model with linear classifiers for video, audio and both, fitted on labelled clips.

    Args:
        model: the towers.
        rows: clips with one label each; a fifth of them chooses the regularisation.
        cache: folder for the decoded clips.
    """
    config = model.config
    order = np.random.default_rng(0).permutation(len(rows))
    held, kept = order[: len(rows) // 5], order[len(rows) // 5 :]
    names = sorted({rows[k].labels[0] for k in kept})
    labels = np.array([names.index(row.labels[0]) if row.labels[0] in names else -1 for row in rows])
    clips = decode_once(rows, cache, config.fps, config.size, config.sample_rate, os.cpu_count() or 1)
    features = cached_features(model, clips, labels)
    train, val = features.take(kept), features.take(held[labels[held] >= 0])
    fitted = {
        kind: fit_classifier(values, train.labels, val.kinds()[kind], val.labels)
        for kind, values in train.kinds().items()
    }
    return with_classifiers(model, names, fitted)


def _evaluate(run_dir: Path, model: AudioVisual, tests: dict[str, Path]) -> Evaluation:
    """The metrics, which are written too."""
    _say("evaluating on held-out clips")
    result = evaluate(model, list(tests.values()))
    write_text(run_dir / "figures.json", json.dumps(result.to_dict(), indent=1) + "\n")
    remark(result.text())
    return result
