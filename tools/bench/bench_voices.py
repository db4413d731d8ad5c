"""Voices of two people who talk at once, side by side, by `avlearn separate`. python tools/bench/bench_voices.py MEDIA

Two clips are rendered side by side and their voices mixed at one loudness: sentences of GRID by speakers that the
network of the package did not learn from, and talking faces from everywhere (`real_pairs.tsv`, drawn for another
benchmark). Printed are SI-SDR improvements with 95 % bootstrap intervals, how often a track is nearer to its own
face's voice than to the other's, and what is named (confidence 0.85 and more), also where a third person's voice is
all that is heard. Beside them: the other face's track, and ideal ratio masks.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import soundfile
import torch

from avlearn.apply.expert_answer import SURE
from avlearn.apply.separate.voices import separate_voices
from avlearn.errors import AvlearnError
from avlearn.media import read_clip, write_video
from avlearn.media.resample import resample
from avlearn.metrics.separation import ideal_ratio_mask, si_sdr
from avlearn.models.voices import open_voices

FPS, RATE, HEIGHT = 25.0, 16_000, 288
UNSEEN = "s2", "s30", "s31", "s34"  # that tools/voices/train.py was kept from
LONGEST, LOUD = 10.0, 0.07  # seconds; root mean square of each voice
PAIRS = Path(__file__).with_name("real_pairs.tsv")


@dataclass(frozen=True)
class Row:
    """A track of a mixture: SI-SDR improvements in dB, whether it is nearest to its face's voice, and how sure it is.

    Without voices of those who are seen (``third``), figures are None.
    """

    set: str
    case: str
    third: bool
    confidence: float
    own: float | None = None
    exchanged: float | None = None
    oracle: float | None = None
    nearest: bool | None = None


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``[T, 288, W, 3]``, 25 a second, and as long audio ``[S]``."""
    clip = read_clip(path, fps=FPS, sample_rate=RATE, mono=True)
    frames = clip.video[: round(LONGEST * FPS)]
    width = round(HEIGHT * frames.shape[2] / frames.shape[1] / 2) * 2
    samples = np.zeros(round(len(frames) / FPS * RATE), np.float32)
    heard = clip.audio[0, : len(samples)]
    samples[: len(heard)] = heard
    return np.stack([cv2.resize(f, (width, HEIGHT), interpolation=cv2.INTER_AREA) for f in frames]), samples


def pairs(media: Path, kinds: list[str], count: int) -> Iterator[tuple[str, Path, Path, Path]]:
    """A set, two clips, and another whose voice is neither's."""
    if "grid" in kinds:
        clips = {speaker: sorted((media / "corpora" / "grid" / speaker).glob("*.mp4")) for speaker in UNSEEN}
        rng = np.random.default_rng(0)
        couples = list(combinations(UNSEEN, 2))
        for k in range(count):
            first, second = couples[k % len(couples)]
            third = rng.choice([speaker for speaker in UNSEEN if speaker not in (first, second)])
            yield "grid", *(clips[speaker][rng.integers(len(clips[speaker]))] for speaker in (first, second, third))
    if "faces" in kinds:
        rows = [row for row in csv.DictReader(PAIRS.open(), delimiter="\t") if row["set"] == "faces"]
        for k, row in enumerate(rows):
            yield "faces", *(media / p for p in (row["left"], row["right"], rows[(k + 3) % len(rows)]["left"]))


def measured(args: argparse.Namespace, work: Path) -> Iterator[Row]:
    system = open_voices(device=torch.device("cpu"))
    for kind, *paths in pairs(args.media, args.parts, args.mixtures):
        (left, one), (right, two), (_, third) = map(read, paths)
        count = min(len(left), len(right))
        frames = np.concatenate([left[:count], right[:count]], 2)
        voices = np.stack([x[: round(count / FPS * RATE)] for x in (one, two)])
        voices *= LOUD / np.maximum(np.sqrt(np.square(voices).mean(1, keepdims=True)), 1e-4)
        for dubbed in (False, True):
            audio = np.resize(third, voices.shape[1]) if dubbed else voices.sum(0)
            path = work / "mixture.mp4"
            write_video(path, frames, FPS, audio=audio[None], sample_rate=RATE)
            halves = [
                (0.0, 0.0, left.shape[2] / frames.shape[2], 1.0),
                (left.shape[2] / frames.shape[2], 0.0, 1.0, 1.0),
            ]
            try:
                found = separate_voices(path, system, work / "tracks", choices=halves)
            except AvlearnError as error:  # a face that is not found, as on the command line
                print(f"{paths[0].name}, {paths[1].name}: {error}")
                break
            case = f"{paths[0].name} {paths[1].name}"
            sure = [track.confidence or 0.0 for track in found.sources]
            if dubbed:
                yield from (Row(kind, case, True, confidence) for confidence in sure)
                continue
            tracks = np.stack([heard(track.audio, voices.shape[1]) for track in found.sources])
            mixture = heard(path, voices.shape[1])
            before = si_sdr(mixture, voices)
            fits = si_sdr(tracks[:, None], voices)  # [track, voice]
            oracle = si_sdr(ideal_ratio_mask(voices, mixture, 640, 320), voices) - before
            for k in range(2):
                better = fits[k] - before
                yield Row(
                    kind, case, False, sure[k], float(better[k]), float(fits[1 - k, k] - before[k]), float(oracle[k]),
                    bool(fits[k, k] > fits[k, 1 - k]),
                )  # fmt: skip


def heard(path: str | Path, count: int) -> np.ndarray:
    """Samples ``[count]`` of a file at 16 kHz."""
    if Path(path).suffix == ".wav":
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        audio = resample(samples.T, rate, RATE).mean(0)
    else:
        audio = read_clip(path, video=False, sample_rate=RATE, mono=True).audio[0]
    return np.pad(audio, (0, max(count - len(audio), 0)))[:count]


def table(rows: list[Row]) -> None:
    """Figures of each set."""
    for kind in dict.fromkeys(row.set for row in rows):
        own = [row for row in rows if row.set == kind and not row.third]
        third = [row for row in rows if row.set == kind and row.third]
        print(f"{kind}: {len(own) // 2} mixtures of {len({row.case for row in own})} pairs of clips")
        for name in ("own", "exchanged", "oracle", "nearest"):
            values = np.array([float(getattr(row, name)) for row in own])
            means = np.random.default_rng(0).choice(values.reshape(-1, 2).mean(1), (2000, len(values) // 2)).mean(1)
            low, high = np.percentile(means, [2.5, 97.5])
            print(f"  {name:10} {values.mean():6.2f}  [{low:.2f} {high:.2f}]")
        named = [row for row in own if row.confidence >= SURE]
        print(f"  named {len(named)} of {len(own)}, of them nearest to their own voice {sum(r.nearest for r in named)}")
        print(f"  a third voice alone: named {sum(r.confidence >= SURE for r in third)} of {len(third)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["grid", "faces"], help="grid,faces")
    parser.add_argument("--mixtures", type=int, default=60, help="of GRID")
    parser.add_argument("--json", type=Path, help="a line a track")
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
