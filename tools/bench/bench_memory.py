"""Does memory grow with the length of a file? python tools/bench/bench_memory.py [COMMAND ...] [--minutes 1 10 30]

Each of sync, localize, separate, classify and embed runs in a process of its own on files of several lengths: clips of
the rendered world, or of a file that is given, their packets joined without encoding them again. What the process has
(``VmRSS``) is written down together with how far it has read; of the pass over the file that takes longest, it is told
at one minute, at ten, and at the end. Then the most that it had at all, and how many times faster than the file plays
it was. Linux alone.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import av

from avlearn.data.world.make import make_world

COMMANDS = {
    "sync": (), "localize": ("-o", "{out}/seen.mp4"), "separate": ("-o", "{out}"), "classify": (),
    "embed": ("-o", "{out}/features.npz"),
}  # fmt: skip
SHOWN = ("mb_at_1", "mb_at_10", "mb_at_end", "mb_a_minute", "mb_at_most")
_SCENE = 4.0  # seconds of a rendered clip
_EVERY = 0.2  # seconds from one look at the process to the next


def long_file(clips: Sequence[Path], minutes: float, out: Path) -> Path:
    """The packets of clips, again and again, up to a length. All clips have the same streams."""
    if out.exists():
        return out
    with av.open(str(clips[0])) as first, av.open(str(out), "w") as target:
        streams = [target.add_stream_from_template(s) for s in (first.streams.video[0], first.streams.audio[0])]
        begin = 0.0
        for clip in cycle(clips):
            with av.open(str(clip)) as source:
                given = {source.streams.video[0].index: streams[0], source.streams.audio[0].index: streams[1]}
                video, end = source.streams.video[0], begin
                for packet in source.demux(*(source.streams[index] for index in given)):
                    base = packet.time_base
                    if packet.dts is None or (packet.stream is not video and packet.pts < 0):
                        continue
                    if packet.stream is video:
                        end = max(end, begin + float((packet.pts + (packet.duration or 0)) * base))
                    packet.pts, packet.dts = (t + round(begin / base) for t in (packet.pts, packet.dts))
                    packet.stream = given[packet.stream.index]
                    target.mux(packet)
                begin = end
            if begin >= 60 * minutes:
                return out
    return out


def looked(process: subprocess.Popen, file: Path) -> Iterator[tuple[float, float, float]]:
    """While a process runs: seconds, MB that it has, and the share of the file up to which it has read."""
    begin, size, share = time.monotonic(), file.stat().st_size, 0.0
    folder = Path(f"/proc/{process.pid}")
    while process.poll() is None:
        try:
            lines = (folder / "status").read_text().splitlines()
            resident = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
            for link in (folder / "fd").iterdir():
                if Path(os.readlink(link)) == file:
                    share = int((folder / "fdinfo" / link.name).read_text().split()[1]) / size
        except (OSError, StopIteration):  # it ended, or closed the file, meanwhile
            continue
        yield time.monotonic() - begin, resident, share
        time.sleep(_EVERY)


def longest_pass(looks: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Of all looks, those of the pass over the file that takes longest: a pass begins where reading goes far back."""
    passes: list[list[tuple[float, float, float]]] = [[]]
    for look in looks:
        if passes[-1] and look[2] < passes[-1][-1][2] - 0.5:
            passes.append([])
        passes[-1].append(look)
    return max(passes, key=lambda each: each[-1][0] - each[0][0] if each else 0.0)


def measured(command: str, file: Path, minutes: float, more: Sequence[str]) -> dict[str, float | str]:
    """What one command takes of one file."""
    with tempfile.TemporaryDirectory(dir=file.parent) as out:
        words = [word.format(out=out) for word in COMMANDS[command]]
        line = [sys.executable, "-m", "avlearn", command, str(file), *words, *more, "--quiet"]
        with open(Path(out, "log"), "w+") as log:
            process = subprocess.Popen(line, stdout=log, stderr=log)
            looks = list(looked(process, file))
            log.seek(0)
            if process.returncode not in (0, 1, 3):
                raise SystemExit(f"{command} failed: {log.read()}")
    longest = longest_pass(looks)
    at = {m: next((rss for _, rss, share in longest if share * minutes >= m), longest[-1][1]) for m in (1, 10)}
    end, low = longest[-1][1], 10 if minutes > 10 else 1
    return {
        "command": command, "minutes": minutes, "mb_at_1": at[1], "mb_at_10": at[10], "mb_at_end": end,
        "mb_a_minute": (end - at[low]) / max(minutes - low, 1), "mb_at_most": max(rss for _, rss, _ in looks),
        "x_real_time": 60 * minutes / looks[-1][0],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="*", help=f"which (default: {' '.join(COMMANDS)})")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 30], help="lengths (default: 1 10 30)")
    parser.add_argument("--clip", type=Path, metavar="FILE", help="a clip to repeat instead of the rendered world")
    parser.add_argument("--distinct", type=float, default=10, help="minutes of the world before it comes again")
    parser.add_argument("--folder", type=Path, help="where the files are made, and kept (default: a temporary one)")
    parser.add_argument("--option", action="append", default=[], help="one more, for the commands")
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        print(f"{'':<10}{'minutes':>8}{''.join(f'{what:>12}' for what in SHOWN)}{'x real time':>14}")
        for command, minutes in ((c, m) for c in options.commands or COMMANDS for m in options.minutes):
            clips = [options.clip] if options.clip else world_clips(folder, min(minutes, options.distinct))
            name = f"{options.clip.stem if options.clip else f'world{options.distinct:g}'}_{minutes:g}.mp4"
            row = measured(command, long_file(clips, minutes, folder / name), minutes, options.option)
            megabytes = "".join(f"{row[what]:>12.2f}" for what in SHOWN)
            print(f"{command:<10}{minutes:>8g}{megabytes}{row['x_real_time']:>14.1f}", flush=True)
            rows.append(row)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


def world_clips(folder: Path, minutes: float) -> list[Path]:
    """Clips of the rendered world, as many as minutes take."""
    clips = max(round(60 * minutes / _SCENE), 1)
    make_world(folder / f"world{clips}", clips)
    return sorted((folder / f"world{clips}" / "clips").glob("*.mp4"))


if __name__ == "__main__":
    main()
