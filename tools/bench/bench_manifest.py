"""Opening, filtering and sharing a manifest of many rows, beside a list of them: python tools/bench/bench_manifest.py

Each in a process of its own: seconds, and MiB of memory that is that process's own. What is mapped from a file is not
counted: all processes share it, and the kernel takes it back when it needs room. The manifest is made first, of clips
that do not exist. "first" checks it and lays it out in the user's cache; "again" is every later time. A worker gets the
training rows and makes 1000 of them at random. The list of rows is made at up to a million: it takes 1.5 KB a row.
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from avlearn.data.manifest import Row, read_manifest, select

_GROUP = 100_000
_MOST_LISTED = 1_000_000


def own() -> int:
    """MiB of this process's own memory: anonymous pages."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) // 1024


def write(path: Path, count: int) -> None:
    """A manifest of Kinetics' kind."""
    rng, writer = np.random.default_rng(0), None
    for first in range(0, count, _GROUP):
        numbers = range(first, min(first + _GROUP, count))
        size = len(numbers)
        table = pyarrow.table({
            "path": [f"clips/{k // 1000:05d}/{k:09d}.mp4" for k in numbers],
            "duration": rng.uniform(2, 10, size).round(3), "video_codec": ["h264"] * size, "fps": np.full(size, 25.0),
            "width": np.full(size, 340), "height": np.full(size, 256), "audio_codec": ["aac"] * size,
            "sample_rate": np.full(size, 44100), "channels": np.full(size, 2),
            "labels": [f'["class {k % 400}"]' for k in numbers],
            "split": ["train" if k % 20 else "val" for k in numbers],
            "flags": ["[]"] * size, "hash": [f"{k * 2654435761:032x}" for k in numbers],
            "bytes": rng.integers(100_000, 1_000_000, size),
        })  # fmt: skip
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def opened(path: Path, name: str) -> None:
    """Open and filter."""
    before, begun = own(), time.perf_counter()
    rows = read_manifest(path)
    print(f"{name:8} opened in {time.perf_counter() - begun:7.3f} s, {own() - before:5} MiB", end="", flush=True)
    begun = time.perf_counter()
    chosen = select(rows, "split", "train".__eq__)
    print(f"; {len(chosen)} of {len(rows)} chosen in {time.perf_counter() - begun:.3f} s, {own() - before} MiB")
    path.with_suffix(".rows").write_bytes(pickle.dumps(chosen))


def listed(path: Path) -> None:
    """The same rows as objects."""
    before, begun = own(), time.perf_counter()
    rows: list[Row] = list(read_manifest(path))
    print(f"{'list':8} made   in {time.perf_counter() - begun:7.3f} s, {own() - before:5} MiB", end="", flush=True)
    begun = time.perf_counter()
    chosen = [row for row in rows if row.split == "train"]
    print(f"; {len(chosen)} of {len(rows)} chosen in {time.perf_counter() - begun:.3f} s")
    path.with_suffix(".rows").write_bytes(pickle.dumps(chosen))


def worker(path: Path) -> None:
    """What a worker process of a loader does."""
    sent = path.with_suffix(".rows").stat().st_size
    before, begun = own(), time.perf_counter()
    rows = pickle.loads(path.with_suffix(".rows").read_bytes())
    for place in np.random.default_rng(0).integers(0, len(rows), 1000).tolist():
        assert rows[place].duration
    print(f"  worker gets {sent / 2**20:.1f} MiB, {time.perf_counter() - begun:.3f} s, {own() - before} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.job:
        job, path = words.job[0], Path(words.job[1])
        {"list": listed, "worker": worker}.get(job, lambda path: opened(path, job))(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.parquet"
        write(path, words.rows)
        print(f"{words.rows} rows, {path.stat().st_size / 2**20:.0f} MiB of Parquet", flush=True)
        jobs = ["first", "again", "worker", *(["list", "worker"] if words.rows <= _MOST_LISTED else [])]
        for job in jobs:
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            subprocess.run([sys.executable, __file__, "--job", job, str(path)], check=True, env=environment)


if __name__ == "__main__":
    main()
