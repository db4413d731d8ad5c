"""What prompts and shots are worth to ``avlearn separate``: python tools/separate_prompts.py WORK

All clips are duets of the synthetic world, rendered into WORK. Measured is

- ``--when``: of each of two things that sound, a span of 0.6 s in which it has 90 % of their energy; is it the one that
  is taken, and how well is it separated, against the strongest source, which is taken where nothing is asked for
- shots: two clips joined by a cut, separated as it is, and as if no cut were found
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
from scipy.optimize import linear_sum_assignment
from separate_error import world

from avlearn import load, read_clip, separate_file
from avlearn.apply.separate.result import SeparateResult
from avlearn.apply.shots import ShotDetector
from avlearn.apply.source_choice import When
from avlearn.data.manifest import Row
from avlearn.evaluation.multi_source import duet
from avlearn.media import write_video
from avlearn.metrics.separation import si_sdr
from avlearn.models.audiovisual import AudioVisual

CLIPS, SEED = 60, 8410
PROMPTED, FILMS = 30, 20  # clips for --when; films of two clips
SPAN, ALONE = 0.6, 0.9  # seconds, and the share of the energy that a thing has in its span


def gain(track: np.ndarray, alone: np.ndarray, mixture: np.ndarray) -> float:
    """SI-SDRi of a track, dB."""
    count = min(map(len, (track, alone, mixture)))
    return float(si_sdr(track[:count], alone[:count]) - si_sdr(mixture[:count], alone[:count]))


def audio(result: SeparateResult) -> list[np.ndarray]:
    """The tracks of a result's sources ``[S]``."""
    return [soundfile.read(track.audio, dtype="float32", always_2d=True)[0].mean(1) for track in result.sources]


def spans(alone: np.ndarray, rate: int) -> Iterator[tuple[int, tuple[float, float]]]:
    """The loudest span that each of two things ``[2, S]`` has nearly alone, where there is one."""
    size = round(SPAN * rate)
    starts = np.arange(0, alone.shape[1] - size, size // 6)
    power = np.stack([np.square(alone[:, at : at + size]).mean(1) for at in starts], 1) + 1e-12
    for k in range(2):
        fine = (power[k] >= ALONE * power.sum(0)) & (power[k] > 0.1 * np.square(alone[k]).mean())
        if fine.any():
            first = starts[np.where(fine, power[k], 0).argmax()]
            yield k, (first / rate, (first + size) / rate)


def when(model: AudioVisual, rows: list[Row], folder: str) -> None:
    """Print what ``--when`` takes."""
    asked, strongest = [], []
    for row in rows:
        things, alone = duet(row)
        centres = np.stack([np.nanmedian(thing.boxes, 0).reshape(2, 2).mean(0) for thing in things])
        free = separate_file(row.path, model, folder, sources=2)
        first = audio(free)[0] if free.sources else np.zeros(alone.shape[1], np.float32)
        for k, span in spans(alone, row.sample_rate):
            for found, kept, track in (
                (separate_file(row.path, model, folder, choices=[When((span,))]), asked, None),
                (free, strongest, first),
            ):
                place = found.sources[0].place if found.sources else None
                right = place is not None and int(np.square(centres - place).sum(1).argmin()) == k
                kept.append((right, gain(audio(found)[0] if track is None else track, alone[k], alone.sum(0))))
    for name, kept in (("--when", asked), ("the strongest source", strongest)):
        right, gains = np.array(kept, float).T
        good = gains[right > 0]
        print(
            f"  {name}: the right one in {int(right.sum())} of {len(kept)}; SI-SDRi {gains.mean():.2f} dB, median "
            f"{np.median(gains):.2f} dB, {good.mean():.2f} dB where right"
        )


def shots(model: AudioVisual, rows: list[Row], folder: str) -> None:
    """Print the SI-SDRi in films of two clips, of each thing in its shot, by the tracks that fit best there."""
    gains: dict[str, list[float]] = {"shot by shot": [], "as if there were no cuts": []}
    found = 0
    for pair in zip(rows[::2], rows[1::2], strict=True):
        clips, alone = [read_clip(row.path) for row in pair], [duet(row)[1] for row in pair]
        samples = [min(clip.audio.shape[1], true.shape[1]) for clip, true in zip(clips, alone, strict=True)]
        film = Path(folder) / "film.mp4"
        sound = np.concatenate([clip.audio[:, :n] for clip, n in zip(clips, samples, strict=True)], 1)
        write_video(
            film, np.concatenate([clip.video for clip in clips]), clips[0].fps, audio=sound,
            sample_rate=clips[0].sample_rate,
        )  # fmt: skip
        for name, kept in gains.items():
            if name == "shot by shot":
                result = separate_file(film, model, folder, sources=2)
                found += len(result.shots) == 2
            else:
                with patch.object(ShotDetector, "add", lambda *_: False):
                    result = separate_file(film, model, folder, sources=2)
            tracks = [*audio(result), *[np.zeros(sum(samples), np.float32)] * (2 - len(result.sources))]
            for begin, count, true in zip((0, samples[0]), samples, alone, strict=True):
                mixture = true[:, :count].sum(0)
                table = np.array(
                    [[gain(track[begin : begin + count], one[:count], mixture) for track in tracks] for one in true]
                )
                table = np.nan_to_num(table, nan=-30, neginf=-30, posinf=60).clip(-30, 60)
                kept += table[linear_sum_assignment(-table)].tolist()
    print(f"  cuts found: {found} of {len(rows) // 2}")
    for name, kept in gains.items():
        print(f"  {name}: SI-SDRi {np.mean(kept):.2f} dB, median {np.median(kept):.2f} dB, of {len(kept)}")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    model, rows = load(args.model), world(args.work, "duets", CLIPS, SEED)
    with tempfile.TemporaryDirectory() as folder:
        print(f"--when, in {PROMPTED} duets")
        when(model, rows[:PROMPTED], folder)
        print(f"{FILMS} films of two duets", flush=True)
        shots(model, rows[-2 * FILMS :], folder)


if __name__ == "__main__":
    main()
