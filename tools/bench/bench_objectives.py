"""What does each objective learn in the same time? python tools/bench/bench_objectives.py [--minutes 3] [--quick]

Each objective trains the default towers on the standard world from scratch, for so many minutes of CPU time on one
thread, with three seeds (of weights, windows and batches; the clips are the same). Measured on clips that none was
trained on, windows with as much sound before as after:

- 2AFC: the true pair scores above the same clip shifted by 0.56 s or more (chance .500)
- 80 ms: the best of 25 offsets is at most one step from the truth (chance .120)
- R@1: the right one of 100 sounds (chance .010); not for objectives that compare one pair at a time

The prior, which learns nothing, goes by the correlation of the picture's change with the sound's loudness.
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
from torch import Tensor

from avlearn.build import build_objective
from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.clips import ClipDataset, WindowRule, collate
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.models.audiovisual import AudioVisual, ModelConfig, frames_to_input
from avlearn.objectives import OBJECTIVES, Objective
from avlearn.objectives.similarity import pair_scores
from avlearn.recipe import Recipe, load_recipe
from avlearn.tasks.optimization import adamw
from avlearn.tasks.pretrain import Pretrain

FAR = 7  # steps (0.56 s) by which a shifted pair is off at least
GALLERY = 100
MEASURES = ("2AFC", "80 ms", "R@1")
CHANCE = {"2AFC": 0.5, "80 ms": 3 / 25, "R@1": 1 / GALLERY}
# Objectives that learn on trained towers by default learn here from scratch, as the others do.
OPTIONS = {"offset": ["objective.frozen=false"]}


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


def train(recipe: Recipe, task: Pretrain, data: ClipDataset, seconds: float, seed: int) -> int:
    """Steps made in so much CPU time; rate and schedule go by the share of it that is used."""
    optimizer = adamw(task, 1000, lr=recipe.optimizer.lr, weight_decay=recipe.optimizer.weight_decay,
                      warmup_steps=0, decay_start=1.0)["optimizer"]  # fmt: skip
    begin = time.process_time()
    task.train()
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


def centred(cache: ClipCache, rule: WindowRule) -> Iterator[dict]:
    """Batches of each clip's middle, with as much sound before as after."""
    start = (cache.video.shape[1] - round(rule.sound_seconds * rule.fps)) // 2
    first, sample = start + round(rule.context * rule.fps), round(start / rule.fps * rule.sample_rate)
    for i in range(0, len(cache.video), 25):
        video = torch.from_numpy(np.array(cache.video[i : i + 25, first : first + rule.frames]))
        audio = torch.from_numpy(np.array(cache.audio[i : i + 25, sample : sample + rule.samples]))
        offset = torch.full((len(video),), round(rule.context / rule.step))
        yield {"video": video, "audio": audio, "offset": offset, "index": torch.arange(i, i + len(video))}


@torch.inference_mode()
def measure(task: Pretrain, cache: ClipCache, rule: WindowRule) -> dict[str, float | None]:
    """The three figures on clips that were not trained on."""
    task.eval()
    objective: Objective = task.objective
    reach = round(rule.context / rule.step)
    shifts = torch.arange(-reach, reach + 1)
    scores, seen, heard = [], [], []
    for batch in centred(cache, rule):
        pair = task.pair(frames_to_input(batch["video"]), batch["audio"], batch)
        scores.append(objective.offset_scores(pair, shifts))
        seen.append(pair.video)
        heard.append(pair.audio[:, :, reach : reach + pair.video.shape[2]])
    found = figures(torch.cat(scores), shifts)
    if type(objective).offset_scores is Objective.offset_scores:
        matrix = pair_scores(torch.cat(seen)[:GALLERY], torch.cat(heard)[:GALLERY], objective.pool_scale)[:, :, 0]
        found["R@1"] = float((matrix.argmax(1) == torch.arange(len(matrix))).float().mean())
    return found


def figures(scores: Tensor, shifts: Tensor) -> dict[str, float | None]:
    """Of ``[N, O]`` scores at shifts ``[O]``."""
    truth = scores[:, shifts == 0]
    far = scores[:, shifts.abs() >= FAR]
    wins = (truth > far).float().mean() + 0.5 * (truth == far).float().mean()
    near = shifts[scores.argmax(1)].abs() <= 1
    return {"2AFC": float(wins), "80 ms": float(near.float().mean()), "R@1": None}


def prior(cache: ClipCache, rule: WindowRule) -> dict[str, float | None]:
    """Correlation of the picture's change from frame to frame with the loudness of the sound."""
    reach = round(rule.context / rule.step)
    shifts = torch.arange(-reach, reach + 1)
    scores = []
    for batch in centred(cache, rule):
        change = batch["video"].float().mean(-1).diff(dim=1).abs().mean((2, 3))  # [B, T - 1]
        hop = round(rule.sample_rate / rule.fps)
        loud = batch["audio"].unfold(1, hop, hop).square().mean(2).add(1e-6).log()  # [B, frames]
        per_step = round(rule.step * rule.fps)
        windows = loud.unfold(1, change.shape[1], per_step)[:, : len(shifts)]  # [B, O, T - 1]
        both = [x - x.mean(-1, keepdim=True) for x in (change[:, None], windows)]
        scores.append((both[0] * both[1]).sum(-1) / (both[0].norm(dim=-1) * both[1].norm(dim=-1)).clamp(min=1e-9))
    return figures(torch.cat(scores), shifts)


def run(job: Job) -> dict:
    """A training and its figures."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    recipe = load_recipe("sync_world", [f"objective={job.objective}", *OPTIONS.get(job.objective, [])])
    root = Path(job.root)
    rows, cache = clips(root, "train", job.clips)
    _, held_out = clips(root, "test", job.clips // 5)
    clip = recipe.clip
    model = AudioVisual(ModelConfig())
    rule = WindowRule(clip.fps, clip.size, clip.sample_rate, clip.seconds, clip.context, model.step)
    task = Pretrain(model, build_objective(recipe, model, len(rows)), {}, None, job.seed)
    steps = train(recipe, task, ClipDataset(rows, rule, cache), job.seconds, job.seed)
    return {"objective": job.objective, "seed": job.seed, "steps": steps, **measure(task, held_out, rule)}


def line(name: str, steps: str, found: list[dict]) -> str:
    """Mean and deviation over seeds."""
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
    parser.add_argument("--json", metavar="FILE", help="write the figures of every training")
    options = parser.parse_args()
    seconds, seeds, count = (3.0, 1, 50) if options.quick else (options.minutes * 60, options.seeds, 1000)
    names = options.objectives or list(OBJECTIVES)
    render(options.root, "train", count, 0)
    _, held_out = render(options.root, "test", count // 5, 1)
    jobs = [Job(name, seed, seconds, str(options.root), count) for name in names for seed in range(seeds)]
    print(f"{seconds / 60:g} CPU minutes each, {seeds} seeds, {len(held_out.video)} held-out clips")
    print(f"{'':<12}{'steps':>8}" + "".join(f"{name:>16}" for name in MEASURES))
    print(line("chance", "", [CHANCE]))
    model = AudioVisual(ModelConfig())
    clip = load_recipe("sync_world").clip
    rule = WindowRule(clip.fps, clip.size, clip.sample_rate, clip.seconds, clip.context, model.step)
    print(line("prior", "", [prior(held_out, rule)]), flush=True)
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
