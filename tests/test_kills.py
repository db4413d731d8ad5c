"""Runs that are killed at chosen moments end as if nobody had disturbed them; nothing of them lives on."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from avlearn.apply.run_many import InferenceOptions, run_many
from avlearn.apply.tools import SYNC
from avlearn.data.cache import decode_once
from avlearn.data.clips import ClipDataset, WindowRule
from avlearn.data.loader import clip_loader
from avlearn.data.manifest import Entry, read_manifest, write_manifest
from avlearn.data.prepare import prepare
from avlearn.data.sampling import StepSampler
from avlearn.data.scan import folder_entries, scan
from avlearn.data.world import WorldConfig, make_world

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import kills


@pytest.mark.slow
@pytest.mark.usefixtures("small_world")  # this process then has a server that forks, which its children must not use
@pytest.mark.parametrize("name", ["pretrain", "separate", "scan", "prepare", "world"])
def test_killed_runs_end_as_undisturbed_ones_do(name, tmp_path):
    tally = kills.run([name], 3, 0, tmp_path, each=3)[name]
    assert sum(tally.kills.values()) == 3
    assert not (tally.unequal or tally.stray or tally.processes or tally.failed), kills.table({name: tally})


def load(world: Path, out: Path, begun: Callable[..., None]) -> None:
    rows = read_manifest(world / "manifest.parquet")
    data = ClipDataset(rows, WindowRule(25.0, 32, 16000, 1.0, 0.2, 0.04))
    for _ in clip_loader(data, StepSampler(len(rows), 2, 1000, 0, workers=2), 2):
        begun()


def decode(world: Path, out: Path, begun: Callable[..., None]) -> None:
    decode_once(list(read_manifest(world / "manifest.parquet")) * 100, out, 25.0, 64, 16000, 2, begun)


def render(world: Path, out: Path, begun: Callable[..., None]) -> None:
    make_world(out, 1000, 0, WorldConfig.preset("solo"), workers=2, progress=begun)


def look(world: Path, out: Path, begun: Callable[..., None]) -> None:
    copies = [Entry(entry.path, (str(k),)) for k in range(100) for entry in folder_entries(world)]
    scan([replace(entry, path=linked(out, entry.path, k)) for k, entry in enumerate(copies)], out / "m.csv",
         workers=2, progress=begun)  # fmt: skip


def transcode(world: Path, out: Path, begun: Callable[..., None]) -> None:
    rows = read_manifest(world / "manifest.parquet")
    rows = [replace(row, path=linked(out, row.path, k)) for k, row in enumerate([*rows] * 20)]
    write_manifest(rows, out / "manifest.parquet")
    prepare(out / "manifest.parquet", out / "p", workers=2, progress=begun)


def measure(world: Path, out: Path, begun: Callable[..., None]) -> None:
    paths = [row.path for row in read_manifest(world / "manifest.parquet")] * 100
    for _ in run_many(SYNC, paths, InferenceOptions(), workers=2):
        begun()


def linked(out: Path, path: Path, number: int) -> Path:
    """Another name for a file, that it is another one."""
    link = out / f"{number}.mp4"
    os.link(path, link)
    return link


@pytest.mark.parametrize("work", [load, decode, render, look, transcode, measure])
def test_no_process_outlives_its_parent(work: Callable[..., None], small_world, tmp_path):
    out, log, sign = tmp_path / "out", tmp_path / "log", tmp_path / "begun"
    out.mkdir()

    def begun(done: int = 1, total: int = 0) -> None:
        if done:
            sign.touch()

    pid = kills.start(kills.Kind(lambda folder: work(small_world, folder, begun)), out, log, lambda: None)
    until = time.monotonic() + 120
    while not sign.exists() and time.monotonic() < until:
        time.sleep(0.05)
    # The child itself, the server that forks, and two processes at work.
    assert len(kills.members(pid)) >= 4, log.read_text()
    os.kill(pid, signal.SIGKILL)
    tally = kills.Tally()
    assert kills.ended(pid, tally, patience=60) == -signal.SIGKILL, log.read_text()
    assert not tally.processes


def test_two_worlds_in_one_folder_are_one(tmp_path):
    config = WorldConfig.preset("solo", duration=1.0, size=32, fps=10.0)
    kind = kills.Kind(lambda out: make_world(out, 6, 3, config, workers=1))
    tally, pids = kills.Tally(), []
    for log in ("a", "b"):
        pids.append(kills.start(kind, tmp_path / "w", tmp_path / log, lambda: None))
    assert [kills.ended(pid, tally) for pid in pids] == [0, 0]
    assert not tally.processes and len(read_manifest(tmp_path / "w")) == 6
    assert {path.name for path in (tmp_path / "w").iterdir()} == {
        "clips", "manifest.parquet", "stems", "truth", "world.json"
    }  # fmt: skip
