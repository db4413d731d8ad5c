"""What does a batch cost each of the processes that share it? python tools/bench/bench_ranks.py [--clips 128] [--quick]

Loss and gradients of each objective whose negatives are the clips of all processes, on embeddings of the default
model's size: what one process takes for the whole batch, and what one of 8 takes, which has an eighth of the clips.
What the others would send is made up (PyTorch's `fake` backend), so that the time of a network is not in it. One
thread; the best of several CPU times, and the most memory beyond what the process had with its embeddings.
"""

import os

# Before torch starts its threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.testing._internal.distributed.fake_pg import FakeStore

from avlearn.objectives import OBJECTIVES, EmbeddedBatch, FeatureSpec, Objective

COMPARED = ("dense", "infonce", "gdt", "segments", "mil_infonce", "fnac", "trimap", "slavc")
PLACES = 8, 8
MOST_SECONDS = 5.0  # of one objective, after which nothing is repeated


def embeddings(spec: FeatureSpec, clips: int) -> EmbeddedBatch:
    """Of random clips, as leaves."""
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(clips, spec.dim, spec.steps, *PLACES, generator=generator)
    audio = torch.randn(clips, spec.dim, spec.steps + spec.offsets - 1, generator=generator)
    offset = torch.randint(spec.offsets, (clips,), generator=generator)
    video, audio = (F.normalize(x, dim=1).requires_grad_() for x in (video, audio))
    return EmbeddedBatch(video, audio, offset)


def step(objective: Objective, batch: EmbeddedBatch) -> None:
    """Loss and gradients, which are dropped."""
    objective(batch).loss.backward()
    batch.video.grad = batch.audio.grad = None
    objective.zero_grad()


def memory(name: str) -> float:
    """MiB of this process (Linux): ``VmRSS``, what it has; ``VmHWM``, the most it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


def cost(name: str, clips: int, ranks: int) -> dict:
    """CPU seconds and MiB of one of the processes that share ``clips``."""
    torch.set_num_threads(1)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    spec = FeatureSpec()
    objective, batch = OBJECTIVES[name](spec=spec), embeddings(spec, clips // ranks)
    if objective.momentum is not None:
        batch = replace(batch, target=EmbeddedBatch(batch.video.detach(), batch.audio.detach(), batch.offset))
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, times = memory("VmRSS"), []
    while sum(times) < MOST_SECONDS and len(times) < 5:
        begin = time.process_time()
        step(objective, batch)
        times.append(time.process_time() - begin)
        if len(times) == 1:
            peak = memory("VmHWM") - before
    dist.destroy_process_group()
    return {"objective": name, "clips": clips, "ranks": ranks, "seconds": min(times), "mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objectives", nargs="*", help=f"which (default: {' '.join(COMPARED)})")
    parser.add_argument("--clips", type=int, default=128, help="of all processes' batch (default: 128)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 8], help="processes (default: 1 and 8)")
    parser.add_argument("--quick", action="store_true", help="16 clips: does it run?")
    parser.add_argument("--json", metavar="FILE", help="write times, and ratios to the first number of processes")
    options = parser.parse_args()
    clips = 16 if options.quick else options.clips
    print(f"{clips} clips, one thread\n{'':<14}{'processes':>10}{'CPU s':>10}{'ratio':>8}{'MiB':>8}")
    rows = []
    for name in options.objectives or COMPARED:
        first = None
        for ranks in options.ranks:
            # A process of its own: what one left allocated would be the next one's for nothing.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                found = pool.submit(cost, name, clips, ranks).result()
            first = first or found
            ratio = first["seconds"] / found["seconds"]
            print(f"{name:<14}{ranks:>10}{found['seconds']:>10.3f}{ratio:>8.2f}{found['mib']:>8.0f}", flush=True)
            case, peer = f"{name}, {clips} clips, one of {ranks}", f"one of {first['ranks']}"
            times = {"ours_ms": 1000 * found["seconds"], "peer_ms": 1000 * first["seconds"]}
            rows.append({"case": case, "peer": peer, "ratio": ratio, **times, "ours_mib": found["mib"]})
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
