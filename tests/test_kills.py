"""Runs that are killed at chosen moments end as if nobody had disturbed them; nothing of them lives on."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from avlearn.apply.sync_files import sync_files
from avlearn.data.cache import decode_once
from avlearn.data.clips import ClipDataset, WindowRule
from avlearn.data.loader import clip_loader
from avlearn.data.manifest import read_manifest
from avlearn.data.prepare import prepare
from avlearn.data.sampling import StepSampler
from avlearn.data.scan import folder_entries, scan
from avlearn.data.world import WorldConfig, make_world

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import kills


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "separate", "scan", "prepare", "world"])
def test_killed_runs_end_as_undisturbed_ones_do(name, tmp_path):
    tally = kills.run([name], 3, 0, tmp_path, each=3)[name]
    assert sum(tally.kills.values()) == 3
    assert not (tally.unequal or tally.stray or tally.processes or tally.failed), kills.table({name: tally})


def load(world: Path, out: Path) -> None:
    rows = read_manifest(world / "manifest.parquet")
    data = ClipDataset(rows, WindowRule(25.0, 32, 16000, 1.0, 0.2, 0.04))
    for _ in clip_loader(data, StepSampler(len(rows), 2, 1000, 0, workers=2), 2):
        (out / "begun").touch()


def decode(world: Path, out: Path) -> None:
    rows = read_manifest(world / "manifest.parquet")
    decode_once(rows * 100, out, 25.0, 64, 16000, 2, lambda done, total: (out / "begun").touch())


def render(world: Path, out: Path) -> None:
    config = WorldConfig.preset("solo", duration=60.0)
    make_world(out, 100, 0, config, workers=2, progress=lambda done, total: None)


def look(world: Path, out: Path) -> None:
    scan(folder_entries(world) * 1000, out / "m.csv", workers=2)


def transcode(world: Path, out: Path) -> None:
    prepare(world, out / "p", workers=2)


def measure(world: Path, out: Path) -> None:
    for _ in sync_files([row.path for row in read_manifest(world / "manifest.parquet")] * 100, "default", workers=2):
        pass


@pytest.mark.parametrize("work", [load, decode, render, look, transcode, measure])
def test_no_process_outlives_its_parent(work: Callable[[Path, Path], None], small_world, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    out.mkdir()
    pid = kills.start(kills.Kind(lambda folder: work(small_world, folder)), out, log, lambda: None)
    until = time.monotonic() + 60
    # The child itself, the server that forks, and at least one process at work.
    while len(kills.members(pid)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(kills.members(pid)) >= 3, log.read_text()
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    tally = kills.Tally()
    assert kills.ended(pid, tally) == -signal.SIGKILL, log.read_text()
    assert not tally.processes
