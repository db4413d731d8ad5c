"""Synchronization of real footage: injected delays, exchanged audio, stills. python tools/bench/bench_real.py MEDIA

MEDIA has folders real, real2, faces/singles, faces/lrwar/SPEAKER and corpora/grid/SPEAKER, or some of them; clips of
the last two are joined to 20 s of one speaker. Every file is delayed by -1 to 1 s, which is taken to be all of its
offset: web video is often 50 to 200 ms off by itself. Thresholds were chosen on files of the half "tuned"; "held out"
are the others. Beside each method stand priors that train nothing and refuse nothing.
"""

import argparse
import csv
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from avlearn import load
from avlearn.apply.sync.self_calibrated import self_calibrated_sync
from avlearn.apply.sync.self_calibration import Stretch, self_calibrate
from avlearn.apply.sync.tool import sync_tool
from avlearn.errors import AvlearnError
from avlearn.media import probe, read_clip, remux, write_video
from avlearn.metrics.interval import wilson_interval
from avlearn.signal.motion import AUDIO_RATE, audio_events, grid_motion

NEAR, FAR = 0.04, 0.08  # seconds within which an offset is right
REACH = 1.5  # seconds that priors search on each side
JOINED, SHORTEST = 20.0, 2.0  # seconds
CAUSES = Path(__file__).with_name("real_visible_causes.tsv")
Answer = tuple[float | None, float | None]  # the best offset, and the one that is named


@dataclass(frozen=True)
class Row:
    """What a method said of a file: the truth is None where there is none."""

    group: str
    file: str
    case: str
    visible: bool
    held_out: bool
    method: str
    truth: float | None
    best: float | None
    named: float | None


def joined(clips: list[Path], out: Path) -> Path:
    """Clips of one speaker one after the other, 25 frames a second."""
    frames, audio, seconds = [], [], 0.0
    for path in clips:
        clip = read_clip(path, fps=25, size=(256, 256), sample_rate=16000, mono=True)
        count = min(len(clip.video), clip.audio.shape[1] // 640)
        frames.append(clip.video[:count])
        audio.append(clip.audio[:, : count * 640])
        seconds += count / 25
        if seconds >= JOINED:
            break
    write_video(out, np.concatenate(frames), 25.0, audio=np.concatenate(audio, 1), sample_rate=16000)
    return out


def files(media: Path, groups: list[str], work: Path) -> Iterator[tuple[str, Path]]:
    """Group and file, those of more than two seconds with video and audio."""
    for group in groups:
        if group in ("faces/lrwar", "corpora/grid"):
            speakers = (p for p in sorted((media / group).iterdir()) if p.is_dir() and p.name != "align")
            for speaker in speakers:
                clips = sorted(speaker.glob("*.mp4"))[:30]
                if sum(probe(clip).duration for clip in clips) >= JOINED:
                    yield group, joined(clips, work / f"{speaker.name}.mp4")
            continue
        for path in sorted(p for p in (media / group).rglob("*") if p.is_file()):
            try:
                info = probe(path)
            except AvlearnError:
                continue
            if info.video and info.audio and info.video.duration >= SHORTEST:
                yield group, path


def cases(path: Path, other: Path, work: Path, stills: bool) -> Iterator[tuple[str, Path, float | None]]:
    """Name, file and true offset of each case of a file."""
    out = work / "case.mkv"
    delay = zlib.crc32(path.name.encode()) % 2001 / 1000 - 1
    yield "delayed", remux_to(path, out, audio_delay=delay), -delay
    yield "exchanged", remux_to(path, out, replace_audio=other), None
    if stills:
        clip = read_clip(path, size=128, mono=True)
        write_video(
            out, np.repeat(clip.video[:1], len(clip.video), 0), clip.fps, audio=clip.audio, sample_rate=clip.sample_rate
        )
        yield "still", out, None


def remux_to(path: Path, out: Path, **options: object) -> Path:
    """Matroska holds what the others do, but not every timing."""
    try:
        remux(path, out, **options)  # type: ignore[arg-type]
    except AvlearnError:
        out = out.with_suffix(".mp4")
        remux(path, out, **options)  # type: ignore[arg-type]
    return out


def correlation(path: Path) -> Answer:
    """Motion of the whole picture with onsets: where they correlate most."""
    motion, onsets, fps = features(path)
    x, y = motion[0].mean(1), onsets[0][:, 0]
    lags = np.arange(-round(REACH * fps), round(REACH * fps) + 1)
    at = np.arange(len(x)) / fps
    scores = []
    for lag in lags:
        beside = np.interp(at + lag / fps, np.arange(len(y)) / AUDIO_RATE, y)
        scores.append(np.corrcoef(x, beside)[0, 1] if x.std() and beside.std() else 0.0)
    best = -float(lags[int(np.argmax(scores))]) / fps
    return best, best


def linear(path: Path) -> Answer:
    """The offset that cross-validated linear maps of the whole picture fit best, however badly."""
    motion, onsets, fps = features(path)
    found = self_calibrate([Stretch(motion, onsets)], fps, AUDIO_RATE, REACH)
    return (None, None) if found is None else (found.offset, found.offset)


def features(path: Path) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    clip = read_clip(path, duration=60.0, start=probe(path).start, fps=25, size=96, sample_rate=16000, mono=True)
    _, *motion = grid_motion(torch.from_numpy(clip.video).float().mean(3), 12)
    _, onset, _, _ = audio_events(torch.from_numpy(clip.audio[0]), 16000)
    return [view.numpy() for view in motion], [onset.numpy()], 25.0


def zero(path: Path) -> Answer:
    return 0.0, 0.0


def calibrated(path: Path) -> Answer:
    answer = self_calibrated_sync(path)
    return answer.best, answer.offset


def command(model: object, path: Path) -> Answer:
    result = sync_tool(path, model)  # type: ignore[arg-type]
    return result.best, result.offset


def judges(folder: Path) -> Callable[[Path], object]:
    """The model of an adaptation that has not seen a file, nor its calibration; any, of a file that was not used."""
    told = json.loads((folder / "report.json").read_text())["files"]
    folds = {Path(file["path"]).resolve(): file["fold"] for file in told}
    if None in folds.values():
        raise AvlearnError(f"{folder} was adapted on both halves of its files: nobody can judge them")
    models = {fold: load(folder / "folds" / str(fold)) for fold in (0, 1)}
    return lambda path: models[folds.get(path.resolve(), 0)]


def measured(args: argparse.Namespace, work: Path) -> Iterator[Row]:
    methods: dict[str, Callable[[Path], Answer]] = {
        "offset 0": zero, "motion x onset": correlation, "linear": linear, "self-calibration": calibrated
    }  # fmt: skip
    if args.model:
        methods["avlearn sync"] = partial(command, load(args.model))
    judge_of = judges(args.adapted) if args.adapted else None
    causes = {row["path"]: row["visible"] == "yes" for row in csv.DictReader(CAUSES.open(), delimiter="\t")}
    for group, members in groupby(files(args.media, args.groups, work), key=lambda pair: pair[0]):
        paths = [path for _, path in members]
        for k, path in enumerate(paths):
            name = str(path.relative_to(args.media)) if path.is_relative_to(args.media) else path.name
            if judge_of:
                methods["avlearn sync, adapted"] = partial(command, judge_of(path))
            held_out = bool(zlib.crc32(path.name.encode()) % 2)
            try:
                for case, file, truth in cases(path, paths[(k + 1) % len(paths)], work, k % 4 == 0):
                    for method, judge in methods.items():
                        best, named = judge(file)
                        yield Row(group, name, case, causes.get(name, True), held_out, method, truth, best, named)
            except AvlearnError as error:
                print(f"left out: {error}", flush=True)


def table(rows: list[Row]) -> None:
    """A line a group, case, half and method: shares with 95 % intervals."""
    print(f"{'group':14}{'case':11}{'half':10}{'method':23}{'files':>6}  within 40  within 80  wrong  abstained")
    parts = sorted({(r.group, r.case, r.held_out, r.method) for r in rows})
    for group, case, held_out, method in parts:
        these = [r for r in rows if (r.group, r.case, r.held_out, r.method) == (group, case, held_out, method)]
        named = [r for r in these if r.named is not None]
        error = [abs(r.named - r.truth) for r in named if r.named is not None and r.truth is not None]
        near, far = (sum(e <= limit for e in error) for limit in (NEAR, FAR))
        wrong, n = len(named) - far, len(these)
        low, high = wilson_interval(1 - wrong / n, n)
        half = "held out" if held_out else "tuned"
        print(f"{group:14}{case:11}{half:10}{method:23}{n:6}{near:11}{far:11}{wrong:7}{n - len(named):11}  "
              f"right or abstained {100 * low:.0f}-{100 * high:.0f} %")  # fmt: skip
    for method in sorted({r.method for r in rows}):
        seen = [r for r in rows if r.method == method and r.case == "delayed" and r.visible and r.group[:4] == "real"]
        if seen:
            named = [r for r in seen if r.named is not None]
            far = sum(abs((r.named or 0) - (r.truth or 0)) <= FAR for r in named)
            print(f"visible causes, {method}: {len(named)} of {len(seen)} answered, {far} within 80 ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    groups = ["real", "real2", "faces/singles", "faces/lrwar", "corpora/grid"]
    parser.add_argument("--groups", type=lambda text: text.split(","), default=groups, help=",".join(groups))
    parser.add_argument("--model", help="also measure avlearn sync with this model")
    parser.add_argument("--adapted", type=Path, help="also avlearn sync by the judges of an avlearn adapt folder")
    parser.add_argument("--json", type=Path, help="a line a file, case and method")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for row in measured(args, Path(work)):
            rows.append(row)
            if args.json:
                with args.json.open("a") as out:
                    out.write(json.dumps(asdict(row)) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
