"""Where a file's sound comes from, without a trained model: what moves when something is heard to set in.

Of every shot the motion of each place is held against the onsets of the audio. It is a guess, which names nothing: of
seven places of which an earlier confidence was sure on camera footage, four were right.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from avlearn.apply.localize.expert_maps import HOP, ExpertMaps, grid_of
from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.apply.shots import cuts
from avlearn.apply.windows import probe_both
from avlearn.media import Clip, stream
from avlearn.media.source import Source, opened_once
from avlearn.signal.motion import AUDIO_RATE, audio_events, grid_motion
from avlearn.signal.onset_correlation import SHORTEST, onset_correlation

NAME = "motion"
_LONGEST = 20.0  # seconds of a shot that are looked at together
_SIDE = 120  # pixels of the frame's short side
_FASTEST, _SLOWEST = 33.0, 10.0  # frames a second: of more each second, third, ... is taken, less show too little
_RATE = 16_000  # samples a second
_SMOOTH = 1.0  # cells, std of a Gaussian


@dataclass(frozen=True)
class _Part:
    """A shot, or 20 s of one: seconds, the map, levels of each hop."""

    start: float
    end: float
    heat: np.ndarray
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
    times, maps, levels = [], [], []
    for part in parts:
        at = part.start + HOP * (np.arange(len(part.levels)) + 0.5)
        times.append(np.minimum(at, part.end))
        maps.append(np.repeat(part.heat[None], len(at), 0))
        levels.append(part.levels)
    found = FileMaps(np.concatenate(times), np.concatenate(maps), np.concatenate(levels), ())
    return ExpertMaps(NAME, found, np.zeros(len(found.times)), "what moves when a sound sets in is often chance")


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
        heat = sound_map(clip.video[begin:end], onsets[begin:end], fps, grid)
        count = max(round((end - begin) / fps / HOP), 1)
        heard = np.array_split(audio[round(begin / fps * _RATE) : round(end / fps * _RATE)], count)
        levels = np.array([float(np.sqrt(np.square(x).mean())) if len(x) else 0.0 for x in heard])
        yield _Part(start + begin / fps, start + end / fps, heat, levels)


def sound_map(frames: np.ndarray, onsets: np.ndarray, fps: float, grid: tuple[int, int]) -> np.ndarray:
    """What moves with the onsets in a shot, the more it moves: ``[Y, X]`` of at least 0; zeros where nothing is told.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        onsets: ``[T]`` of `frame_onsets`.
        fps: frames a second.
        grid: cells of a column and of a row.
    """
    _, motion, change = (view.numpy() for view in grid_motion(torch.from_numpy(frames).float().mean(3), grid))
    # The first frames have no motion, and audio begins and ends at once: no two things that happened together.
    inner = slice(2, -1)
    heights = onset_correlation([motion[inner], change[inner]], onsets[inner], fps)
    if heights is None:
        return np.zeros(grid, np.float32)
    moving = np.sqrt(np.square(motion).mean(0))
    heat: np.ndarray = gaussian_filter((np.maximum(heights, 0) * moving).reshape(grid), _SMOOTH, mode="nearest")
    return heat


def frame_onsets(audio: np.ndarray, count: int, fps: float) -> np.ndarray:
    """Mean onset strength around each of ``count`` frames of audio ``[S]``, 16,000 samples a second; 0 beyond its end.

    Where the audio is silent, as before a track begins, there are no onsets.
    """
    _, onsets, _, _ = audio_events(torch.from_numpy(audio), _RATE)
    sums = np.concatenate([[0.0], np.cumsum(onsets[:, 0].numpy(), dtype=np.float64)])
    edges = (np.arange(count + 1) - 0.5) / fps * AUDIO_RATE
    return np.diff(np.interp(edges, np.arange(len(sums)), sums)) * fps / AUDIO_RATE
