"""Calibrates the confidence of `avlearn.apply.localize.motion` on what shipped numbers may learn from.

    python tools/motion_localization.py WORLD GRID ESC

WORLD is rendered, and something else moves in silence (`avlearn world WORLD --preset muted --duration 10 --size 96`):
a claim is right where the peak lies in the box of what sounds. Of GRID two speakers stand side by side, for three
sentences: it is right on the side of the one who is heard. With the audio of another clip, another sentence, or
ESC-10, every claim is wrong. Prints the weights and how good the claims are.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.confidence import calibrate, probability
from avlearn.apply.expert_answer import SURE
from avlearn.apply.localize.motion import MotionEvidence, frame_onsets, grid_of, locate
from avlearn.media import read_clip

FPS, RATE, SIDE = 25.0, 16_000, 120  # as the expert takes them
SENTENCES = 3  # of a speaker one after the other
WORLD_SIDE = 96  # pixels of the rendered frames
Claim = tuple[str, MotionEvidence, bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("world", "grid", "esc"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recordings = [read_clip(p, sample_rate=RATE, mono=True, video=False).audio[0] for p in recorded(options.esc)]
    claims = [*of_world(options.world, recordings), *of_grid(options.grid, recordings)]
    evidence, right = [claim[1] for claim in claims], np.array([claim[2] for claim in claims])
    calibration = calibrate(evidence, right)
    print(calibration)
    sure = np.array([probability(e, calibration) for e in evidence]) >= SURE
    for kind in sorted({claim[0] for claim in claims}):
        of = np.array([claim[0] == kind for claim in claims])
        print(f"{kind}: {of.sum()} claims, peak right in {right[of].sum()}, named {sure[of].sum()}, of them right "
              f"{(sure & right)[of].sum()}")  # fmt: skip


def recorded(esc: Path) -> list[Path]:
    files = sorted(p for p in esc.rglob("*") if p.suffix in (".wav", ".ogg", ".flac", ".m4a", ".mp4", ".mp3", ".opus"))
    return [files[k] for k in np.random.default_rng(0).permutation(len(files))[:100]]


def of_world(world: Path, recordings: list[np.ndarray]) -> Iterator[Claim]:
    """Own audio, that of the next clip, and a recording, of each clip."""
    clips = sorted((world / "clips").glob("*.mp4"))
    audio = [read_clip(p, sample_rate=RATE, mono=True, video=False).audio[0] for p in clips]
    for k, path in enumerate(clips):
        frames = read_clip(path, fps=FPS, size=SIDE, audio=False).video
        truth = json.loads((world / "truth" / f"{path.stem}.json").read_text())
        boxes = [np.mean([b for b in s["boxes"] if b], 0) / WORLD_SIDE for s in truth["sources"] if any(s["boxes"])]
        for kind, heard in (("own", audio[k]), ("another clip's", audio[(k + 1) % len(clips)]),
                            ("a recording's", recordings[k % len(recordings)])):  # fmt: skip
            if found := judged(frames, heard):
                (x, y), claim = found
                hit = kind == "own" and any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in boxes)
                yield f"world, {kind} audio", claim, hit


def of_grid(grid: Path, recordings: list[np.ndarray]) -> Iterator[Claim]:
    """Two speakers side by side, each heard in turn; then neither, the first's other sentences, and a recording."""
    speakers = [sorted(p.glob("*.mp4"))[: 2 * SENTENCES] for p in sorted(grid.glob("s*")) if p.is_dir()]
    read = [[read_clip(p, fps=FPS, size=SIDE, sample_rate=RATE, mono=True) for p in own] for own in speakers]
    said = [[joined(own[n : n + SENTENCES]) for n in (0, SENTENCES)] for own in read if len(own) == 2 * SENTENCES]
    for i in range(len(said)):
        for j in range(i):
            (left, voice), (right, other) = said[i][0], said[j][0]
            count = min(len(left), len(right))
            frames = np.concatenate([left[:count], right[:count]], 2)
            cases = (("own", voice, 0), ("own", other, 1), ("another sentence's", said[i][1][1], None),
                     ("a recording's", recordings[(10 * i + j) % len(recordings)], None))  # fmt: skip
            for kind, heard, side in cases:
                if found := judged(frames, heard):
                    yield f"GRID, {kind} audio", found[1], side is not None and (found[0][0] >= 0.5) == bool(side)


def joined(clips: list) -> tuple[np.ndarray, np.ndarray]:
    counts = [min(len(c.video), int(c.audio.shape[1] / RATE * FPS)) for c in clips]
    audio = [c.audio[0, : round(n / FPS * RATE)] for c, n in zip(clips, counts, strict=True)]
    return np.concatenate([c.video[:n] for c, n in zip(clips, counts, strict=True)]), np.concatenate(audio)


def judged(frames: np.ndarray, audio: np.ndarray) -> tuple[tuple[float, float], MotionEvidence] | None:
    """The peak as fractions of the frame, and the evidence for it; audio is repeated up to the end of the video."""
    audio = np.resize(audio, round(len(frames) / FPS * RATE))
    grid = grid_of(*frames.shape[1:3])
    found = locate(frames, frame_onsets(audio, len(frames), FPS), FPS, grid)
    if found is None:
        return None
    row, column = np.unravel_index(found.heights.argmax(), grid)
    return ((column + 0.5) / grid[1], (row + 0.5) / grid[0]), MotionEvidence(found.peak)


if __name__ == "__main__":
    main()
