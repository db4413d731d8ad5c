"""Localization of real footage: two clips side by side, and boxes. python tools/bench/bench_real_localize.py MEDIA

`real_pairs.tsv` lists pairs, drawn with a fixed seed from the clips on which nothing was chosen (bench_real.py calls
them held out) and from talking faces: each is rendered side by side with the audio of the left, of the right, and of
another clip, which should be called "cannot tell". `real_boxes.tsv` has boxes of what sounds, drawn by eye before
anything was measured; they lie about the middle, so that each clip is cropped, too, to where its box is in a corner.
Beside the expert stand priors that train nothing, and with --model the map of a model and `avlearn localize`.
"""

import argparse
import csv
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from avlearn import load
from avlearn.apply.localize.expert_maps import grid_of
from avlearn.apply.localize.experts import ask_experts, by_experts, localize_by_model
from avlearn.apply.localize.maps import peak_of
from avlearn.apply.verdict import CANNOT_TELL
from avlearn.media import probe, read_clip, write_video
from avlearn.metrics.interval import wilson_interval
from avlearn.signal.motion import grid_motion

FPS, RATE, HEIGHT = 25.0, 16_000, 240
LONGEST = 10.0  # seconds
PART = 0.6  # of each side that a crop keeps
PAIRS, BOXES = (Path(__file__).with_name(name) for name in ("real_pairs.tsv", "real_boxes.tsv"))
Box = tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """Where a method's map points in a case; boxes in which it should, none where nothing on screen is heard."""

    set: str
    file: str
    case: str
    method: str
    x: float
    y: float
    boxes: list[Box]
    sure: bool | None
    shares: list[float] | None = None  # of the map's columns, from the left

    def before(self, x: float) -> float:
        """Share of the map that lies left of a place."""
        shares = np.asarray(self.shares)
        return float(np.interp(x, np.linspace(0, 1, len(shares) + 1), np.concatenate([[0.0], shares.cumsum()])))

    @property
    def right(self) -> bool:
        # On the edge is outside: the middle of two clips of one width is in neither.
        return any(b[0] < self.x < b[2] and b[1] < self.y < b[3] for b in self.boxes)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``[T, 240, W, 3]``, 25 a second, and audio ``[S]``, of at most 10 s."""
    info = probe(path)
    seconds = min(LONGEST, info.video.duration if info.video else 0.0)
    clip = read_clip(path, info.start, seconds, fps=FPS, size=HEIGHT, sample_rate=RATE, mono=True)
    width = round(HEIGHT * clip.video.shape[2] / clip.video.shape[1] / 2) * 2
    frames = np.stack([cv2.resize(f, (width, HEIGHT), interpolation=cv2.INTER_AREA) for f in clip.video])
    return frames, clip.audio[0]


def write(out: Path, frames: np.ndarray, audio: np.ndarray) -> Path:
    """Audio that is too short is repeated."""
    heard = np.resize(audio, round(len(frames) / FPS * RATE))[None]
    write_video(out, frames, FPS, audio=heard, sample_rate=RATE)
    return out


def pair_cases(media: Path, work: Path, kind: str) -> Iterator[tuple[str, str, str, Path, list[Box]]]:
    """Set, file, case, the rendered file, and where its sound is."""
    rows = [row for row in csv.DictReader(PAIRS.open(), delimiter="\t") if row["set"] == kind]
    for k, row in enumerate(rows):
        (left, heard), (right, other) = read(media / row["left"]), read(media / row["right"])
        count = min(len(left), len(right))
        frames = np.concatenate([left[:count], right[:count]], 2)
        middle = left.shape[2] / frames.shape[2]
        stranger = read(media / rows[(k + 3) % len(rows)]["left"])[1]
        for case, audio, boxes in (
            ("left heard", heard, [(0.0, 0.0, middle, 1.0)]),
            ("right heard", other, [(middle, 0.0, 1.0, 1.0)]),
            ("another's audio", stranger, []),
        ):
            yield row["set"], row["left"], case, write(work / "case.mp4", frames, audio), boxes


def box_cases(media: Path, work: Path) -> Iterator[tuple[str, str, str, Path, list[Box]]]:
    """The same for clips as they are, and cropped so that the first box comes to a corner."""
    for row in csv.DictReader(BOXES.open(), delimiter="\t"):
        boxes: list[Box] = [tuple(map(float, box.split(","))) for box in row["boxes"].split(";")]
        frames, audio = read(media / row["path"])
        yield "boxes", row["path"], "as it is", write(work / "case.mp4", frames, audio), boxes
        x, y = (boxes[0][0] + boxes[0][2]) / 2, (boxes[0][1] + boxes[0][3]) / 2
        # The crop ends a tenth of the frame beyond the box's centre, on the side to which it is nearer.
        left, top = (min(at - 0.1, 1 - PART) if at < 0.5 else max(at + 0.1 - PART, 0.0) for at in (x, y))
        left, top = max(left, 0.0), max(top, 0.0)
        high, wide = frames.shape[1:3]
        cut = frames[
            :, round(top * high) : round((top + PART) * high), round(left * wide) : round((left + PART) * wide)
        ]
        cut = cut[:, : cut.shape[1] // 2 * 2, : cut.shape[2] // 2 * 2]
        inside = [tuple(min(max((b[i] - (left, top)[i % 2]) / PART, 0.0), 1.0) for i in range(4)) for b in boxes]
        yield "boxes", row["path"], "off centre", write(work / "case.mp4", np.ascontiguousarray(cut), audio), inside


def column_shares(seen: np.ndarray) -> list[float]:
    """Of a map ``[Y, X]``, above its least value."""
    columns = (seen - seen.min()).sum(0)
    shares: list[float] = (columns / max(columns.sum(), 1e-9)).tolist()
    return shares


def priors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Maps of what trains nothing: motion, and motion times its correlation with loudness."""
    clip = read_clip(path, fps=FPS, size=96, sample_rate=RATE, mono=True)
    grid = grid_of(*clip.video.shape[1:3])
    _, motion, _ = (view.numpy() for view in grid_motion(torch.from_numpy(clip.video).float().mean(3), grid))
    energy = np.square(motion).mean(0)
    yield "motion", energy.reshape(grid)
    samples = np.resize(clip.audio[0], round(len(motion) / FPS * RATE))
    loud = np.log(np.square(samples.reshape(len(motion), -1)).mean(1) + 1e-7)
    correlation = ((motion - motion.mean(0)) * (loud - loud.mean())[:, None]).mean(0)
    correlation /= motion.std(0) * loud.std() + 1e-6
    yield "motion x loudness correlation", (np.maximum(correlation, 0) * energy).reshape(grid)


def measured(args: argparse.Namespace, work: Path) -> Iterator[Row]:
    model = load(args.model) if args.model else None
    for part in args.parts:
        cases = box_cases(args.media, work) if part == "boxes" else pair_cases(args.media, work, part)
        for kind, name, case, path, boxes in cases:
            yield Row(kind, name, case, "centre", 0.5, 0.5, boxes, None)
            for method, seen in priors(path):
                yield Row(kind, name, case, method, *peak_of(seen), boxes, None, column_shares(seen))
            answers = ask_experts(path)
            for answer in answers:
                if answer.found is not None and answer.peak:
                    shares = column_shares(answer.found.maps.mean(0))
                    sure = bool(answer.sure.any())
                    yield Row(kind, name, case, f"{answer.expert} expert", *answer.peak, boxes, sure, shares)
                    if answer is answers[-1]:
                        yield Row(kind, name, case, "experts", *answer.peak, boxes, sure, shares)
            if model:
                looked = localize_by_model(path, model, lambda _: None)
                seen = looked.found.maps.mean(0)
                yield Row(kind, name, case, "model", *peak_of(seen), boxes, None, column_shares(seen))
                if looked.verdict == CANNOT_TELL:
                    looked = by_experts(looked, answers)
                weights = looked.drawn if looked.drawn.any() else None
                seen = np.average(looked.found.maps, 0, weights)
                named = looked.verdict in ("on screen", "partly on screen")
                yield Row(kind, name, case, "avlearn localize", *peak_of(seen), boxes, named, column_shares(seen))


def moves_with_the_sound(rows: list[Row]) -> bool:
    """Whether more of a map lies on the left with the audio of the left clip than with that of the right one."""
    cases = {row.case: row for row in rows if row.shares}
    if not {"left heard", "right heard"} <= cases.keys():
        return False
    middle = cases["left heard"].boxes[0][2]
    return cases["left heard"].before(middle) > cases["right heard"].before(middle) + 1e-6


def table(rows: list[Row]) -> None:
    """A line a set, case and method, with 95 % intervals; pairs of which both sounds were followed."""
    print(f"{'set':8}{'case':18}{'method':32}{'right':>10}  95 %        named  right of them")
    for kind, case, method in dict.fromkeys((r.set, r.case, r.method) for r in rows):
        these = [r for r in rows if (r.set, r.case, r.method) == (kind, case, method)]
        right, n = sum(r.right for r in these), len(these)
        low, high = wilson_interval(right / n, n)
        named = [r for r in these if r.sure]
        said = f"{len(named):5}{sum(r.right for r in named):7}" if these[0].sure is not None else ""
        print(f"{kind:8}{case:18}{method:32}{right:4} of {n:3}  {100 * low:3.0f}-{100 * high:3.0f} %  {said}")
    for kind, method in dict.fromkeys((r.set, r.method) for r in rows if r.case == "left heard"):
        own = [r for r in rows if (r.set, r.method) == (kind, method) and r.boxes]
        heard = {case: {r.file for r in own if r.case == case and r.right} for case in ("left heard", "right heard")}
        files = {r.file for r in own}
        right = sum(map(len, heard.values()))
        both = len(heard["left heard"] & heard["right heard"])
        moved = sum(moves_with_the_sound([r for r in own if r.file == name]) for name in files)
        print(
            f"side by side, {kind}, {method}: peak right in {right} of {2 * len(files)}, for both sounds in {both} of "
            f"{len(files)}; the map moves with the sound in {moved} of {len(files)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    parser.add_argument(
        "--parts", type=lambda text: text.split(","), default=["real", "faces", "boxes"], help="real,faces,boxes"
    )
    parser.add_argument("--model", help="also measure this model's maps, and avlearn localize with it")
    parser.add_argument("--json", type=Path, help="a line a file, case and method")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for path in (PAIRS, BOXES):
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for row in measured(args, Path(work)):
            rows.append(row)
            if args.json:
                with args.json.open("a") as out:
                    out.write(json.dumps({**asdict(row), "right": row.right}) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
