"""What does training on several processes gain here? python tools/bench/bench_processes.py [--steps 60] [OVERRIDE...]

`avlearn pretrain sync_world` on one process and on several of one thread each, in turns, on clips that are decoded
already. Told are clips a second, as the run itself says after its last step, and the efficiency: what a process does of
what one does alone. The machine needs as many idle cores as there are processes.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def clips_per_second(devices: int, steps: int, root: Path, overrides: list[str]) -> int:
    """Of a training, without its start."""
    words = [f"data.root={root}", f"trainer.devices={devices}", "trainer.threads=1", f"trainer.max_steps={steps}"]
    words += [f"trainer.val_every={steps}", f"trainer.checkpoint_every={steps}", f"trainer.log_every={steps // 2}"]
    with tempfile.TemporaryDirectory() as run:
        command = [sys.executable, "-m", "avlearn", "pretrain", "sync_world", *words, *overrides, "-o", f"{run}/run"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = re.findall(rf"step {steps}/{steps} .* (\d+) clips/s", done.stderr)
    if done.returncode or not said:
        raise SystemExit(done.stderr)
    return int(said[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="of the recipe")
    parser.add_argument("--processes", type=int, default=2, help="beside one alone (default: 2)")
    parser.add_argument("--steps", type=int, default=60, help="of a training (default: 60)")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each (default: 3)")
    parser.add_argument("--quick", action="store_true", help="four steps, once: does it run?")
    parser.add_argument("--root", type=Path, default=Path("runs/bench_processes"), help="of the rendered clips")
    options = parser.parse_args()
    steps, rounds = (4, 1) if options.quick else (options.steps, options.rounds)
    few = ["data.world.train_clips=64", "data.world.val_clips=32"] if options.quick else []
    overrides = [*few, *options.overrides]
    clips_per_second(1, 2, options.root, overrides)  # renders and decodes
    found: dict[int, list[int]] = {1: [], options.processes: []}
    for _ in range(rounds):
        for devices, rates in found.items():
            rates.append(clips_per_second(devices, steps, options.root, overrides))
    alone, several = (sorted(rates)[rounds // 2] for rates in found.values())
    print(f"1 process: {alone} clips/s; {options.processes} processes: {several} clips/s, {several / alone:.2f} times")
    print(f"efficiency {several / alone / options.processes:.2f}; all rounds: {found}")


if __name__ == "__main__":
    main()
