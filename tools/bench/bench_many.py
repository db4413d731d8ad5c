"""What does work over many files cost beside the files' own? python tools/bench/bench_many.py [--files 200] [--quick]

`scan` and `embed` of short clips, each in a process of its own: one file after the other (which is the peer:
`inspect_file`, `file_features`), by processes, one and two, and on a Ray cluster of two nodes on this machine (where
Ray is installed). Prints seconds, starts included, and whether the rows are the same. Ratios are speed: above 1 is
faster than the loop. It takes a machine with two cores and nothing else to do.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its threads
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import argparse
import json
import shutil
import time
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from avlearn.data.cluster import Cluster
from avlearn.data.world import WorldConfig, make_world

DIFFERENT = 20  # clips; the others are copies


def clips(folder: Path, count: int) -> list[Path]:
    """Short clips with video and audio."""
    make_world(folder / "world", DIFFERENT, 5, WorldConfig.preset("solo"), workers=1)
    made = sorted((folder / "world" / "clips").glob("*.mp4"))
    (folder / "clips").mkdir()
    paths = [folder / "clips" / f"{k:05d}.mp4" for k in range(count)]
    for k, path in enumerate(paths):
        shutil.copy(made[k % len(made)], path)
    return paths


@contextmanager
def cluster():
    """Two nodes with a CPU each; their address."""
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        yield nodes.address
    finally:
        nodes.shutdown()


def scanned(paths: list[Path], workers: object) -> list[object]:
    """Rows of a scan; workers None: one file after the other."""
    from avlearn.data.content import inspect_file
    from avlearn.data.workers import in_workers

    if workers is None:
        return [inspect_file(str(path)) for path in paths]
    return [row for _, row in sorted(in_workers(inspect_file, list(map(str, paths)), workers), key=lambda it: it[0])]


def embedded(paths: list[Path], workers: object) -> list[object]:
    """Bytes of the features of each file."""
    from avlearn.apply.embed import file_features
    from avlearn.apply.encoder_alone import load_embedder
    from avlearn.apply.run_many import InferenceOptions, run_many
    from avlearn.apply.tools import EMBED

    if workers is None:
        model = load_embedder("default")
        found = [file_features(path, model) for path in paths]
    else:
        results = run_many(EMBED, paths, InferenceOptions(), workers=workers)
        found = [features for _, features in sorted(results, key=lambda it: it[0])]
    return [(each.starts.tobytes(), each.video.tobytes(), each.audio.tobytes()) for each in found]


KINDS = {"scan": scanned, "embed": embedded}


def measured(kind: str, paths: list[Path], workers: object, out: object) -> None:
    """In a process of its own: seconds, and a digest of the rows."""
    import hashlib

    began = time.monotonic()
    rows = KINDS[kind](paths, workers)
    out.send((time.monotonic() - began, hashlib.sha256(repr(rows).encode()).hexdigest()))


def run(kind: str, paths: list[Path], workers: object) -> tuple[float, str]:
    """What `measured` sends; its own workers have ended then."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=measured, args=(kind, paths, workers, there))
    process.start()
    found = here.recv()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--quick", action="store_true", help="40 files, for less than a minute")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = []
    with TemporaryDirectory() as folder:
        paths = clips(Path(folder), 40 if args.quick else args.files)
        for kind in args.kinds:
            peer = run(kind, paths, None)
            print(f"{kind}: {len(paths)} files one after the other: {peer[0]:.1f} s", flush=True)
            ways = [("1 process", 1), ("2 processes", 2)]
            if find_spec("ray"):
                with cluster() as address:
                    results += [told(kind, "Ray, 2 nodes", run(kind, paths, Cluster(address, device="cpu")), peer)]
            results += [told(kind, way, run(kind, paths, workers), peer) for way, workers in ways]
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def told(kind: str, way: str, found: tuple[float, str], peer: tuple[float, str]) -> dict[str, object]:
    """Print a way beside the peer; its row."""
    same = "the same rows" if found[1] == peer[1] else "OTHER ROWS"
    print(
        f"  {way}: {found[0]:.1f} s, {peer[0] / found[0]:.2f} times as fast, {same}",
        flush=True,
    )
    return {
        "case": f"{kind}, {way}", "peer": "one after the other", "ratio": peer[0] / found[0],
        "ours_ms": found[0] * 1e3, "peer_ms": peer[0] * 1e3,
    }  # fmt: skip


if __name__ == "__main__":
    main()
