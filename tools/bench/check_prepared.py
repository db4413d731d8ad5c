"""Are prepared files read by their tables as any file is? python tools/bench/check_prepared.py --windows 10000

Windows at random instants, of random lengths, sizes and rates, by video, audio or both, one or several in an open, of
files as `avlearn prepare` makes them, loose and within a tar. What the table of packets gives is compared with what the
ordinary reader gives: every pixel, every sample, every instant. Files of a folder are prepared first (--folder), or
footage is made.
"""

import argparse
import random
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from footage import generate, make, prepare

from avlearn.media import Clip, ClipReader, Slice, Window, probe, reader

READERS = (
    {"fps": 8, "size": 112, "sample_rate": 16_000, "mono": True},
    {"fps": 50, "sample_rate": 8000},
    {"frames": 3, "size": (64, 80), "audio": False},
    {"video": False},
    {},
)


def windows(rng: random.Random, duration: float) -> list[Window]:
    """One to four, some of them beyond the begin or the end."""
    found = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        length = rng.choice((0.2, 0.5, 2.0))
        audio = rng.choice((0.0, 0.3))
        crop = rng.choice((None, "square", (0.1, 0.2, 0.9, 0.8)))
        found.append(Window(rng.uniform(-0.1, max(duration - length, 0) + 0.1), length, audio, audio, crop))
    return found


def differs(one: Clip, other: Clip) -> str:
    """What is not the same of two clips; "" where all is."""
    for name in ("video", "audio", "times"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            return name
    facts = [(clip.fps, clip.sample_rate, clip.start, clip.before) for clip in (one, other)]
    return "" if facts[0] == facts[1] else "facts"


def ordinary(chosen: ClipReader, source: Path | Slice, wanted: list[Window]) -> list[Clip]:
    """Clips without a look at tables."""
    by_table, reader.read_by_table = reader.read_by_table, lambda *_: None
    try:
        return chosen.read(source, wanted)
    finally:
        reader.read_by_table = by_table


def check(sources: list[tuple[Path | Slice, float]], count: int, seed: int) -> Counter:
    """Numbers of windows by what came of them: ``same``, ``not read by the table``, or what differs."""
    rng, found = random.Random(seed), Counter()
    while found.total() < count:
        source, duration = rng.choice(sources)
        wanted, chosen = windows(rng, duration), ClipReader(**rng.choice(READERS))
        clips = reader.read_by_table(source, wanted, chosen.wanted, chosen.video, chosen.audio)
        if clips is None:
            found["not read by the table"] += len(wanted)
            continue
        for one, other in zip(clips, ordinary(chosen, source, wanted), strict=True):
            found[differs(one, other) or "same"] += 1
    return found


def packed(paths: list[Path], path: Path) -> list[Slice]:
    """The files within a tar."""
    with tarfile.open(path, "w") as tar:
        for file in paths:
            tar.add(file, file.name)
    with tarfile.open(path) as tar:
        return [Slice(path, member.offset_data, member.size) for member in tar]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=1000, help="at least so many (default: 1000)")
    parser.add_argument("--clips", type=int, default=4, help="files of footage (default: 4)")
    parser.add_argument("--folder", metavar="FOLDER", help="prepare the videos of a folder instead")
    parser.add_argument("--work", metavar="FOLDER", help="keep the files here (default: a temporary folder)")
    parser.add_argument("--seed", type=int, default=0, help="of the windows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(options.work or scratch)
        work.mkdir(parents=True, exist_ok=True)
        if options.folder:
            originals = sorted(path for path in Path(options.folder).iterdir() if path.is_file())
        else:
            originals = make(
                work, [(f"small_g250_{k:03d}.mp4", generate, (k, 340, 256, 250)) for k in range(options.clips)]
            )
        paths = make(work, [(f"prepared_{path.stem}.mp4", prepare, (path,)) for path in originals])
        durations = [probe(path).duration for path in paths]
        sources = [
            *zip(paths, durations, strict=True),
            *zip(packed(paths, work / "packed.tar"), durations, strict=True),
        ]
        found = check(sources, options.windows, options.seed)
    print(f"{found.total()} windows of {len(paths)} prepared files: {dict(found)}")
    raise SystemExit(0 if set(found) == {"same"} else 1)


if __name__ == "__main__":
    main()
