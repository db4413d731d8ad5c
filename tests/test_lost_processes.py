"""Processes that train together, as Lightning or torchrun starts them, and what a run does when one is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Command, run
from small_runs import command, last, recipe, rows

from avlearn.errors import RecipeError
from avlearn.models.folder import load
from avlearn.tasks import build
from avlearn.training.run import pretrain


def test_torchrun_starts_processes_that_share_what_they_remember(tiny_root, tmp_path):
    words = ["objective=avid", "trainer.max_steps=2", "trainer.checkpoint_every=2", "trainer.devices=2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "avlearn"]
    words = [*torchrun, *command(tmp_path, tiny_root, *words)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    before = build(recipe(tiny_root, "objective=avid")).module.objective.video_bank
    after = last(tmp_path)["state_dict"]["objective.video_bank"]
    assert (before != after).any(1).all()  # 2 steps of 2 processes with 4 of the 16 clips each
    load(tmp_path)


def running(words: list[str], run: Path) -> Command:
    """Started, and a checkpoint behind it."""
    started = Command(*words)
    while started.poll() is None and not rows_if_any(run):
        time.sleep(0.05)
    return started


def rows_if_any(run: Path) -> bool:
    path = run / "metrics.jsonl"
    return path.exists() and '"step": 8' in path.read_text()


def children(pid: int, called: str = "") -> list[int]:
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if called in Path(f"/proc/{child}/cmdline").read_text()]


def said_of(process: Command) -> list[str]:
    """What it says of its end, which takes no half minute."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2, said[-3000:]
    assert "Traceback" not in said
    return [line for line in said.splitlines() if "error" in line]


def test_a_lost_process_ends_the_run_and_one_alone_goes_on(tiny_root, tmp_path):
    run = tmp_path / "run"
    long = ["trainer.max_steps=3000", "trainer.val_every=3000"]
    process = running(command(run, tiny_root, *long, "trainer.devices=2"), run)
    (other,) = children(process.pid, "pretrain")
    os.kill(other, signal.SIGKILL)
    (line,) = said_of(process)
    assert line.startswith("avlearn: error: another training process ended") and "--resume" in line

    step = last(run)["global_step"]
    with pytest.raises(RecipeError, match=r"optimizer\.lr 0\.001, the recipe 0\.5"):
        pretrain(recipe(tiny_root, *long, "optimizer.lr=0.5"), run, resume=True)
    process = Command(*command(run, tiny_root, *long, "--resume"))
    while process.poll() is None and last(run)["global_step"] < step + 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said[-3000:]
    (line,) = [line for line in said.splitlines() if line.startswith("warning: resumed")]
    assert "trainer.devices 2 -> 1" in line and "batches of 4 clips, not 8" in line
    assert last(run)["global_step"] >= step + 3


def test_a_lost_reader_ends_the_run(small_world, tiny_root, tmp_path):
    run = tmp_path / "run"
    words = [f"data.train={small_world}", "data.cache=false", "data.workers=2", "trainer.max_steps=3000"]
    process = running(command(run, tiny_root, *words, "trainer.val_every=3000"), run)
    readers = [pid for child in children(process.pid) for pid in children(child)]
    os.kill(readers[-1], signal.SIGKILL)
    (line,) = said_of(process)
    assert "a process that reads clips was killed" in line and "--resume" in line
    assert last(run)["global_step"] >= 3


def test_sharded_weights_train_as_whole_ones_do(tiny_root, tmp_path):
    for strategy in ("ddp", "fsdp"):
        words = ["trainer.devices=2", "trainer.max_steps=4", f"trainer.strategy={strategy}"]
        done = run(*command(tmp_path / strategy, tiny_root, *words))
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("wrote ") == 1  # by the process that did
    whole, parts = (rows(tmp_path / strategy, "loss") for strategy in ("ddp", "fsdp"))
    assert len(whole) == 4
    for one, other in zip(whole, parts, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
    load(tmp_path / "fsdp")
