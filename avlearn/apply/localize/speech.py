"""Where a file's sound comes from, where it is a voice: the face whose lips fit it."""

import numpy as np
import torch

from avlearn.apply.localize.expert_maps import HOP, ExpertMaps, grid_of
from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.source_weights import cells_in_box
from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.apply.sync.speech import speech_sync
from avlearn.apply.windows import SILENCE, AudioVideoInfo, probe_both
from avlearn.media import stream
from avlearn.media.source import Source, opened_once

NAME = "speech"
_AGREE = 0.08  # seconds by which the offsets of faces that speak may differ
_RATE = 16_000  # samples a second


@opened_once
def speech_localization(path: Source, device: torch.device | None = None) -> ExpertMaps:
    """The faces of a file whose lips fit the audio at one offset, whatever that is.

    Args:
        path: any file with video and audio.
        device: of the networks; the CPU by default.

    Raises:
        MissingExtraError: faces cannot be detected here; says how.
        MediaError: the file cannot be read, or lacks video or audio.
    """
    parts = speech_sync(path, None, device).parts
    # Each of several may fit by chance (Bonferroni).
    sure = [max(0.0, 1 - len(parts) * (1 - part["confidence"])) for part in parts]
    named = [part for part in parts if part["offset"] is not None]
    if not named:
        return ExpertMaps(NAME, None, np.zeros(0), "no lips are seen that fit the audio")
    offsets = [part["offset"] for part in named]
    if max(offsets) - min(offsets) > _AGREE:
        return ExpertMaps(NAME, None, np.zeros(0), "lips of several faces fit the audio, each at another offset")
    info = probe_both(path)
    levels = _levels(path, info)
    times = HOP * (np.arange(len(levels)) + 0.5)
    grid = grid_of(info.video.height, info.video.width)
    maps, audible = np.zeros((len(times), *grid), np.float32), np.zeros(len(times))
    for part, confidence in zip(parts, sure, strict=True):
        there = (times >= part["start"]) & (times < part["end"])
        maps[there] = np.maximum(maps[there], confidence * _face_map(np.array(part["box"]), grid))
        audible[there] = np.maximum(audible[there], confidence)
    audible[levels < SILENCE] = 0
    return ExpertMaps(NAME, FileMaps(times, maps, levels, ()), audible, "no lips are seen that fit the audio")


def _face_map(box: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """``[Y, X]``: 1 in the middle of a face's box, above half of it up to the edges, and 0 outside.

    A flat map would have its peak in a corner of the face, and several of them in a large one.
    """
    rows, columns = ((np.arange(side) + 0.5) / side for side in grid)
    centre, reach = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 1e-6)
    far = np.square((rows - centre[1]) / reach[1])[:, None] + np.square((columns - centre[0]) / reach[0])
    inside = cells_in_box(box, grid)
    heat: np.ndarray = inside * np.exp(-0.25 * far)  # 0.6 in the corners
    return heat / heat.max()


def _levels(path: Source, info: AudioVideoInfo) -> np.ndarray:
    """Root mean square of the audio beside each half second of the video; 0 where there is none."""
    levels = np.zeros(max(round(info.video.duration / HOP), 1))
    normalizer = audio_normalizer(path)
    for number, clip in enumerate(stream(normalizer.source, HOP, HOP, video=False, sample_rate=_RATE, mono=True)):
        if number < len(levels) and clip.audio.size:
            levels[number] = np.sqrt(np.square(normalizer(clip.audio)).mean())
    return levels
