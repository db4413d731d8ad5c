"""Where a file's sound comes from, without a trained model: what moves when something is heard to set in.

Of every shot the motion of each place is held against the onsets of the audio, and how sure that is comes from the
same shot with its audio shifted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
import torch

from avlearn.apply.confidence import probability
from avlearn.apply.expert_answer import SURE
from avlearn.apply.localize.expert_maps import HOP, ExpertMaps, grid_of
from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.apply.shots import cuts
from avlearn.apply.windows import SILENCE, probe_both
from avlearn.media import Clip, stream
from avlearn.media.source import Source, opened_once
from avlearn.signal.motion import AUDIO_RATE, audio_events, grid_motion
from avlearn.signal.onset_correlation import SHORTEST, OnsetCorrelation, onset_correlation

NAME = "motion"
_LONGEST = 20.0  # seconds of a shot that are looked at together
_SIDE = 120  # pixels of the frame's short side
_FASTEST, _SLOWEST = 33.0, 10.0  # frames a second: of more each second, third, ... is taken, less show too little
_RATE = 16_000  # samples a second
_SURE_FROM = 8.0  # seconds of a shot: the calibration knows none shorter, and chance is not known from few shifts
# Of tools/motion_localization.py, by the synthetic world, GRID and ESC-10.
_CALIBRATION = {"weights": {"peak": 0.687}, "bias": -1.913}


@dataclass(frozen=True)
class MotionEvidence:
    """What speaks for a place: see `avlearn.signal.onset_correlation.OnsetCorrelation`."""

    peak: float


@dataclass(frozen=True)
class _Part:
    """A shot, or 20 s of one: seconds, the map, the probability that its peak makes the sound; levels of each hop."""

    start: float
    end: float
    heat: np.ndarray
    confidence: float
    levels: np.ndarray


@opened_once
def motion_localization(
    path: Source, progress: Callable[[float], None] | None = None, delay: float = 0.0
) -> ExpertMaps:
    """The places of a file that move when its audio sets in; in memory that does not grow but for the maps.

    Args:
        path: any file with video and audio.
        progress: is told how many seconds are done.
        delay: seconds by which the audio is moved later against the video.

    Raises:
        MediaError: the file cannot be read, or lacks video or audio.
    """
    parts = []
    for part in _parts(path, delay):
        parts.append(part)
        if progress:
            progress(part.end)
    if not any(part.heat.any() for part in parts):
        return ExpertMaps(
            NAME, None, np.zeros(0), f"there is no shot of {SHORTEST:g} s in which a sound sets in and something moves"
        )
    judged = sum(part.heat.any() for part in parts)
    times, maps, levels, sure = [], [], [], []
    for part in parts:
        at = part.start + HOP * (np.arange(len(part.levels)) + 0.5)
        times.append(np.minimum(at, part.end))
        maps.append(np.repeat(part.heat[None], len(at), 0))
        levels.append(part.levels)
        # Where more is judged, each may be so by chance (Bonferroni).
        sure.append(np.full(len(at), max(0.0, 1 - judged * (1 - part.confidence))))
    found = FileMaps(np.concatenate(times), np.concatenate(maps), np.concatenate(levels), ())
    audible = np.where(found.levels < SILENCE, 0.0, np.concatenate(sure))
    agree = (
        "agree no better than by chance" if audible.max() < SURE else "agree, which on camera footage is often chance"
    )
    return ExpertMaps(NAME, found, audible, f"motion and onsets {agree}, confidence {audible.max():.2f}")


def _parts(path: Source, delay: float) -> Iterator[_Part]:
    """The shots of a file in order; a map of zeros where one tells nothing."""
    info = probe_both(path)
    fps = info.video.fps / max(1, round(info.video.fps / 30)) if info.video.fps > _FASTEST else info.video.fps
    if fps < _SLOWEST:
        return
    length = info.video.duration / max(ceil(info.video.duration / _LONGEST), 1)
    length = max(round(length * fps), 1) / fps
    grid = grid_of(info.video.height, info.video.width)
    normalizer = audio_normalizer(path)
    clips = stream(
        normalizer.source, length, length, fps=fps, size=_SIDE, sample_rate=_RATE, mono=True, audio_delay=delay
    )
    for number, clip in enumerate(clips):
        audio = normalizer(clip.audio)[0]
        yield from _judged(clip, audio, number * length, fps, grid)


def _judged(clip: Clip, audio: np.ndarray, start: float, fps: float, grid: tuple[int, int]) -> Iterator[_Part]:
    onsets = frame_onsets(audio, len(clip.video), fps)
    for begin, end in pairwise([0, *cuts(clip.video), len(clip.video)]):
        found = locate(clip.video[begin:end], onsets[begin:end], fps, grid)
        heat, sure = np.zeros(grid, np.float32), 0.0
        if found:
            heat = np.maximum(found.heights.reshape(grid), 0)
            if end - begin >= _SURE_FROM * fps:
                sure = probability(MotionEvidence(found.peak), _CALIBRATION)
        count = max(round((end - begin) / fps / HOP), 1)
        heard = np.array_split(audio[round(begin / fps * _RATE) : round(end / fps * _RATE)], count)
        levels = np.array([float(np.sqrt(np.square(x).mean())) if len(x) else 0.0 for x in heard])
        yield _Part(start + begin / fps, start + end / fps, heat, sure, levels)


def locate(frames: np.ndarray, onsets: np.ndarray, fps: float, grid: tuple[int, int]) -> OnsetCorrelation | None:
    """What moves with the onsets in a shot: see `onset_correlation`.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        onsets: ``[T]`` of `frame_onsets`.
        fps: frames a second.
        grid: cells of a column and of a row.
    """
    _, *motion = grid_motion(torch.from_numpy(frames).float().mean(3), grid)
    # The first frames have no motion, and audio begins and ends at once: no two things that happened together.
    inner = slice(2, -1)
    return onset_correlation([view.numpy()[inner] for view in motion], onsets[inner], fps)


def frame_onsets(audio: np.ndarray, count: int, fps: float) -> np.ndarray:
    """Mean onset strength around each of ``count`` frames of audio ``[S]``, 16,000 samples a second; 0 beyond its end.

    Where the audio is silent, as before a track begins, there are no onsets.
    """
    _, onsets, _, _ = audio_events(torch.from_numpy(audio), _RATE)
    sums = np.concatenate([[0.0], np.cumsum(onsets[:, 0].numpy(), dtype=np.float64)])
    edges = (np.arange(count + 1) - 0.5) / fps * AUDIO_RATE
    return np.diff(np.interp(edges, np.arange(len(sums)), sums)) * fps / AUDIO_RATE
