"""What does a heatmap video cost beside decoding and encoding? python tools/bench/bench_overlay.py FILE [--rounds 3]

CPU seconds of the overlay that `avlearn localize` writes, of maps made up, and of PyAV decoding the same video and
encoding it with the same settings: one thread, turn about, the best of each. The overlay's audio is in its time.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from avlearn.apply.localize.drawing import overlay
from avlearn.apply.localize.maps import above_median, map_at
from avlearn.media import probe
from avlearn.media.frames import every_yuv, write_redrawn

HOP = 0.5  # seconds from one map to the next


def transcoded(path: Path, out: Path) -> None:
    """The video alone, as `avlearn.media.writer` encodes it."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        video = source.streams.video[0]
        options = {"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0"}
        stream = target.add_stream("libx264", rate=Fraction(video.average_rate), options=options)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        video.codec_context.thread_count = stream.codec_context.thread_count = 1
        for frame in source.decode(video):
            frame.pict_type = av.video.frame.PictureType.NONE
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def drawn(path: Path, out: Path) -> None:
    """The overlay, of maps 16 x 16."""
    rng = np.random.default_rng(0)
    count = round(probe(path).duration / HOP) + 2
    maps = gaussian_filter(rng.normal(size=(count, 16, 16)), 2)  # each shares three quarters of its time with the next
    times = HOP * np.arange(count)
    frames = ((at, overlay(frame, above_median(map_at(times, maps, at)))) for at, frame in every_yuv(path))
    write_redrawn(path, out, frames)


def cpu_seconds(work: Callable[[Path, Path], None], path: Path, out: Path) -> float:
    begin = time.process_time()
    work(path, out)
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    print(f"{'':<32}{'size':>12}{'alone, s':>10}{'overlay, s':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for path in options.files:
            times = [[cpu_seconds(work, path, Path(folder, "o.mp4")) for work in (transcoded, drawn)]
                     for _ in range(options.rounds)]  # fmt: skip
            alone, ours = np.min(times, 0)
            video = probe(path).video
            size = f"{video.width}x{video.height}"
            print(f"{path.name[:30]:<32}{size:>12}{alone:>10.2f}{ours:>12.2f}{ours / alone:>8.2f}", flush=True)
            rows.append({"file": path.name, "size": size, "alone_s": alone, "overlay_s": ours, "ratio": ours / alone})
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
