"""Is a network better on talking faces than a linear map? python tools/bench/bench_grid.py grid.parquet MODEL

grid.parquet is what `avlearn scan grid/ --corpus grid` wrote. The peer is a linear canonical correlation analysis of
pixels around the mouth with log-mel frames, five frames of each at a time, fitted on the sentences of the training
speakers. Both see whole sentences of the speakers of the test, whom neither has seen, and the true offset is zero: how
often is the best of 0.56 s to either side within a frame (40 ms)?
"""

import argparse
import tempfile
from pathlib import Path

import librosa
import numpy as np
import torch

from avlearn import load
from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.manifest import read_manifest
from avlearn.metrics.interval import wilson_interval
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input
from avlearn.objectives.similarity import offset_scores
from avlearn.signal.peak import vertex

REACH = 0.56  # seconds
SIDE, MOUTH = 96, (slice(48, 92), slice(24, 72))  # pixels of the middle square, and which of them
CELL, AROUND, COMPONENTS, RIDGE = 4, 2, 12, 0.1


def mouths(cache: ClipCache) -> list[np.ndarray]:
    """``[T, F]`` of each clip: means of cells, less their mean over time, and as much as the clip's own varies."""
    found = []
    for clip in cache.video:
        grey = np.asarray(clip).mean(-1)[:, *MOUTH]
        count, rows, columns = grey.shape
        cells = grey.reshape(count, rows // CELL, CELL, columns // CELL, CELL).mean((2, 4)).reshape(count, -1)
        cells -= cells.mean(0)
        found.append(with_neighbours(cells / (cells.std() + 1e-6)))
    return found


def audio_clips(cache: ClipCache) -> list[np.ndarray]:
    """``[T, F]`` likewise: log-mel, a frame for each of the video."""
    hop = round(cache.sample_rate / cache.fps)
    found = []
    for clip in cache.audio:
        power = librosa.feature.melspectrogram(
            y=np.asarray(clip), sr=cache.sample_rate, n_fft=hop, hop_length=hop, n_mels=26, center=False
        )
        frames = np.log(power + 1e-4).T
        found.append(with_neighbours(frames - frames.mean(0)))
    return found


def with_neighbours(frames: np.ndarray) -> np.ndarray:
    padded = np.pad(frames, ((AROUND, AROUND), (0, 0)), "edge")
    return np.concatenate([padded[k : k + len(frames)] for k in range(2 * AROUND + 1)], 1)


class Line:
    """Canonical correlation analysis (Hotelling, 1936), with a ridge, of lists of ``[T, F]`` and ``[T, G]``."""

    def __init__(self, seen: list[np.ndarray], heard: list[np.ndarray]):
        count = [min(len(x), len(y)) for x, y in zip(seen, heard, strict=True)]
        both = [np.concatenate([x[:n] for x, n in zip(side, count, strict=True)]) for side in (seen, heard)]
        self.scales = [(x.mean(0), x.std()) for x in both]
        x, y = ((x - mean) / spread for x, (mean, spread) in zip(both, self.scales, strict=True))
        whiten = [self._root(side.T @ side / len(side)) for side in (x, y)]
        left, self.weights, right = np.linalg.svd(whiten[0] @ (x.T @ y / len(x)) @ whiten[1])
        self.maps = [whiten[0] @ left[:, :COMPONENTS], whiten[1] @ right[:COMPONENTS].T]

    @staticmethod
    def _root(covariance: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(covariance + RIDGE * np.eye(len(covariance)))
        return vectors * values**-0.5 @ vectors.T

    def offset(self, seen: np.ndarray, heard: np.ndarray, fps: float) -> float:
        """Seconds by which the audio is late, by the best sum of correlations over time."""
        sides = zip((seen, heard), self.scales, self.maps, strict=True)
        x, y = ((side - mean) / spread @ m for side, (mean, spread), m in sides)
        reach = round(REACH * fps)
        scores = []
        for shift in range(-reach, reach + 1):
            a, b = x[max(-shift, 0) :], y[max(shift, 0) :]
            count = min(len(a), len(b))
            a, b = (part[:count] - part[:count].mean(0) for part in (a, b))
            scores.append(((a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))) @ self.weights[:COMPONENTS])
        return (int(np.argmax(scores)) - reach) / fps


@torch.inference_mode()
def offsets(model: AudioVisual, cache: ClipCache) -> list[float]:
    """The same by a model, between its steps."""
    reach = round(REACH / model.step)
    found = []
    for video, audio in zip(cache.video, cache.audio, strict=True):
        video, audio = (torch.from_numpy(np.array(x[None])) for x in (video, audio))
        seen, heard = model(frames_to_input(video), audio)
        scores = offset_scores(seen, heard, model.config.pool_scale, 0, torch.arange(-reach, reach + 1))[0].numpy()
        best = int(np.nanargmax(scores))
        found.append((best - reach + vertex(scores, best)) * model.step)
    return found


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("model")
    args = parser.parse_args()
    model, rows = load(args.model), read_manifest(args.manifest)
    config = model.config
    with tempfile.TemporaryDirectory() as folder:

        def decoded(split: str, size: int) -> ClipCache:
            chosen = [row for row in rows if row.split == split]
            return decode_once(chosen, Path(folder), config.fps, size, config.sample_rate, 2)

        train, test = decoded("train", SIDE), decoded("test", SIDE)
        line = Line(mouths(train), audio_clips(train))
        pairs = zip(mouths(test), audio_clips(test), strict=True)
        found = {
            "CCA of mouth and log-mel": [line.offset(seen, heard, config.fps) for seen, heard in pairs],
            str(args.model): offsets(model, decoded("test", config.size)),
        }
    print(f"offset within a frame, {len(test.video)} sentences of speakers never seen (chance {3 / 29:.3f}):")
    for name, values in found.items():
        hits = np.abs(np.round(np.array(values) * config.fps)) <= 1
        low, high = wilson_interval(float(hits.mean()), len(hits))
        error = np.median(np.abs(values)) * 1000
        print(f"  {name}: {hits.mean():.3f} [{low:.3f} {high:.3f}], median error {error:.0f} ms")


if __name__ == "__main__":
    main()
