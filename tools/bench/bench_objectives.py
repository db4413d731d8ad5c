"""What does each objective learn in the same time? python tools/bench/bench_objectives.py [--minutes 3] [--quick]

Each objective trains the default towers on the standard world from scratch, for so many minutes of CPU time on one
thread, with three seeds (of weights, windows and batches; the clips are the same); `offset`, a second stage, trains
itself on the towers of the default model. Measured, as `avlearn evaluate --task sync` does, on clips that none was
trained on:

- 2AFC: the true pair scores above the same clip shifted by half a second or more (chance .500)
- 80 ms: the best of 21 offsets is at most one step from the truth (chance .138)
- R@1: the right audio of 100 (chance .010)

`clusters` learns features, which say nothing of offsets. The prior, which learns nothing, goes by the correlation of
the video's change with the audio's loudness.
"""

import os

# Before torch starts its threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from avlearn.config import ModelConfig
from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.clips import ClipDataset, WindowRule, collate
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.evaluation.sync import OffsetScorer, shifted, sync_metrics
from avlearn.evaluation.windows import cut_windows
from avlearn.metrics import sync as metrics
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.models.two_tower import frames_to_input
from avlearn.objectives import Objective
from avlearn.recipe import Recipe
from avlearn.tasks import load_recipe
from avlearn.tasks.synchronize.build import build_objective
from avlearn.tasks.synchronize.module import SynchronizeModule
from avlearn.training.optimization import adamw

TRAINED = ("dense", "segments", "shift_bce", "offset", "gdt", "margin", "infonce", "avid", "clusters")
MEASURES = {
    "2AFC": "aligned over shifted (2AFC)",
    "80 ms": "offset within 80 ms of 21",
    "R@1": "R@1 of 100, video to audio",
}
CHANCE = {"2AFC": 0.5, "80 ms": 61 / 21**2, "R@1": 0.01}
# A second stage: only its transformer learns, on what the model in the wheel sees and hears.
SECOND_STAGE = {"offset": ["objective.frozen=true", "model.base=default"]}


@dataclass(frozen=True)
class Job:
    """A training: what on, with which seed, for how many seconds of CPU time."""

    objective: str
    seed: int
    seconds: float
    root: str
    clips: int


def render(root: Path, name: str, count: int, seed: int) -> tuple[list[Row], ClipCache]:
    """Clips of the standard world, rendered and decoded."""
    make_world(root / f"{name}-{count}", count, seed, WorldConfig.preset("standard"), workers=os.cpu_count())
    return clips(root, name, count)


def clips(root: Path, name: str, count: int) -> tuple[list[Row], ClipCache]:
    """What `render` left."""
    rows = read_manifest(root / f"{name}-{count}" / "manifest.parquet")
    return rows, decode_once(rows, root / "decoded", 25.0, 64, 16000, os.cpu_count() or 1)


def batches(data: ClipDataset, size: int, seed: int) -> Iterator[dict]:
    """Without end; every clip once before one comes again."""
    rng = np.random.default_rng(seed)
    while True:
        for chosen in np.array_split(rng.permutation(len(data)), len(data) // size):
            yield collate([data[int(index), int(rng.integers(2**31))] for index in chosen])


def train(recipe: Recipe, task: SynchronizeModule, data: ClipDataset, seconds: float, seed: int) -> int:
    """Steps made in so much CPU time; rate and schedule go by the share of it that is used."""
    optimizer = adamw(task, 1000, lr=recipe.optimizer.lr, weight_decay=recipe.optimizer.weight_decay,
                      warmup_steps=0, decay_start=1.0)["optimizer"]  # fmt: skip
    begin = time.process_time()
    task.train()
    if task.objective.frozen:
        task.model.eval().requires_grad_(False)
    for steps, batch in enumerate(batches(data, recipe.trainer.batch_size, seed)):
        used = (time.process_time() - begin) / seconds
        if used >= 1:
            return steps
        warm, left = min(1.0, (steps + 1) / recipe.optimizer.warmup_steps), min(1.0, (1 - used) / 0.4)
        for group in optimizer.param_groups:
            group["lr"] = recipe.optimizer.lr * warm * max(0.02, left)
        task.objective.progress = used
        loss = task.output(frames_to_input(batch["video"]), batch["audio"], batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), recipe.optimizer.grad_clip)
        optimizer.step()
    raise AssertionError("batches do not end")


def measure(task: SynchronizeModule, held_out: ClipCache) -> dict[str, float | None]:
    """The three metrics on clips that were not trained on; None for those that an objective does not have."""
    model, objective = task.model.eval(), task.objective.eval()
    if not objective.frozen:
        read = {"pool_scale": objective.pool_scale, "score_scale": torch.as_tensor(objective.scale).item()}
        model.config = model.config.model_copy(update=dict(common_space=objective.common_space, **read))
    own = type(objective).offset_scores is not Objective.offset_scores
    if not own and not model.config.common_space:
        return dict.fromkeys(MEASURES)
    found, _ = sync_metrics(model, objective if own else None, held_out, [()] * len(held_out.video), 0)
    values = {metric.name: metric.value for metric in found}
    if own:
        values.pop(MEASURES["R@1"], None)  # of the towers, which it leaves as they are
    return {name: values.get(metric) for name, metric in MEASURES.items()}


def prior(held_out: ClipCache) -> dict[str, float | None]:
    """Correlation of the video's change from frame to frame with the loudness of the audio, on the same windows."""
    scorer = OffsetScorer(AudioVisual(ModelConfig()), None)
    rng = np.random.default_rng(0)
    lead = rng.integers(0, scorer.offsets, len(held_out.video))
    scores = []
    for video, audio in cut_windows(scorer.model, held_out, scorer.cut(lead)):
        change = video.mean(1).diff(dim=1).abs().mean((2, 3))  # [B, T - 1]
        hop = round(held_out.sample_rate / held_out.fps)
        loud = audio.unfold(1, hop, hop).square().mean(2).add(1e-6).log()  # [B, frames]
        windows = loud.unfold(1, change.shape[1], round(scorer.unit * held_out.fps))[:, : scorer.offsets]
        both = [x - x.mean(-1, keepdim=True) for x in (change[:, None], windows)]
        scores.append((both[0] * both[1]).sum(-1) / (both[0].norm(dim=-1) * both[1].norm(dim=-1)).clamp(min=1e-9))
    found = torch.cat(scores).numpy()
    right, wrong = (found[np.arange(len(lead)), at] for at in (lead, shifted(lead, scorer.offsets, scorer.unit, rng)))
    grid = scorer.grid()
    within = metrics.offset_within(grid[found.argmax(1)], grid[lead], scorer.unit, grid)
    return {"2AFC": metrics.two_afc(right, wrong).value, "80 ms": within.value, "R@1": None}


def run(job: Job) -> dict:
    """A training and its metrics."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    recipe = load_recipe("sync_world", [f"objective={job.objective}", *SECOND_STAGE.get(job.objective, [])])
    root = Path(job.root)
    rows, cache = clips(root, "train", job.clips)
    _, held_out = clips(root, "test", job.clips // 5)
    clip = recipe.clip
    model = load(recipe.model.base) if recipe.model.base else AudioVisual(ModelConfig())
    rule = WindowRule(clip.fps, clip.size, clip.sample_rate, clip.seconds, clip.context, model.step)
    task = SynchronizeModule(model, build_objective(recipe, model, len(rows)), {}, job.seed)
    steps = train(recipe, task, ClipDataset(rows, rule, cache), job.seconds, job.seed)
    return {"objective": job.objective, "seed": job.seed, "steps": steps, **measure(task, held_out)}


def line(name: str, steps: str, found: list[dict]) -> str:
    """Mean and std over seeds."""
    cells = []
    for measure_name in MEASURES:
        values = [row[measure_name] for row in found if row[measure_name] is not None]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.3f}{spread}" if values else "-")
    return f"{name:<12}{steps:>8}" + "".join(f"{cell:>16}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objectives", nargs="*", help="which (default: all)")
    parser.add_argument("--minutes", type=float, default=3.0, help="of CPU time for a training (default: 3)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each (default: 3)")
    parser.add_argument("--quick", action="store_true", help="three seconds, one seed, few clips: does it run?")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="trainings side by side")
    parser.add_argument("--root", type=Path, default=Path("runs/bench_objectives"), help="of the rendered clips")
    parser.add_argument("--json", metavar="FILE", help="write the metrics of every training")
    options = parser.parse_args()
    seconds, seeds, count = (3.0, 1, 100) if options.quick else (options.minutes * 60, options.seeds, 1000)
    names = options.objectives or list(TRAINED)
    render(options.root, "train", count, 0)
    _, held_out = render(options.root, "test", count // 5, 1)
    jobs = [Job(name, seed, seconds, str(options.root), count) for name in names for seed in range(seeds)]
    print(f"{seconds / 60:g} CPU minutes each, {seeds} seeds, {len(held_out.video)} held-out clips")
    print(f"{'':<12}{'steps':>8}" + "".join(f"{name:>16}" for name in MEASURES))
    print(line("chance", "", [CHANCE]))
    print(line("prior", "", [prior(held_out)]), flush=True)
    rows: list[dict] = []
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for found in pool.map(run, jobs):
            rows.append(found)
            same = [row for row in rows if row["objective"] == found["objective"]]
            if len(same) == seeds:
                steps = round(statistics.mean(row["steps"] for row in same))
                print(line(found["objective"], str(steps), same), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
