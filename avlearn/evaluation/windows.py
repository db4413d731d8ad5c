"""Windows cut from decoded clips."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avlearn.data.cache import ClipCache
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input

BATCH = 16
OFFSETS = 21  # steps among which an offset is sought: 0.8 s on each side, where a step is 80 ms


@dataclass(frozen=True)
class WindowCuts:
    """Where windows begin, and whose audio is heard.

    Attributes:
        video_starts, audio_starts: ``[N]`` seconds from the start of each clip; video begins with a frame.
        seconds: of the audio.
        audio_clips: ``[N]``, the clip that the audio is of; each clip's own by default.
    """

    video_starts: np.ndarray
    audio_starts: np.ndarray
    seconds: float
    audio_clips: np.ndarray | None = None


def on_grid(model: AudioVisual, lead: np.ndarray, room: float) -> WindowCuts:
    """Videos that begin ``lead [N]`` seconds, whole steps, into audio that is ``room`` seconds longer than they are.

    Odd clips start a frame later than even ones: on and off the grid of the steps.
    """
    start = (np.arange(len(lead)) % 2) / model.config.fps
    return WindowCuts(start + lead, start, model.config.seconds + room)


def off_grid(model: AudioVisual, lead: np.ndarray, room: float) -> WindowCuts:
    """Videos that begin ``lead [N]`` seconds, any number, into such audio."""
    fps = model.config.fps
    video_start = np.ceil(lead * fps - 1e-6) / fps
    return WindowCuts(video_start, video_start - lead, model.config.seconds + room)


def cut_windows(model: AudioVisual, cache: ClipCache, cut: WindowCuts) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of video ``[B, 3, T, H, W]`` in [0, 1] and audio ``[B, S]``, on the model's device, in clip order."""
    for first in range(0, len(cache.video), BATCH):
        index = np.arange(first, min(first + BATCH, len(cache.video)))
        audio_clips = index if cut.audio_clips is None else cut.audio_clips[index]
        yield (
            video_windows(cache, index, cut.video_starts[index], model.config.seconds, model.device),
            audio_windows(cache, audio_clips, cut.audio_starts[index], cut.seconds).to(model.device),
        )


def audio_windows(cache: ClipCache, index: np.ndarray, starts: np.ndarray, seconds: float) -> Tensor:
    """``[B, S]`` of clips ``index [B]``, from ``starts [B]`` seconds on."""
    count = round(seconds * cache.sample_rate)
    first = np.round(starts * cache.sample_rate).astype(int)
    return torch.from_numpy(np.stack([cache.audio[i, s : s + count] for i, s in zip(index, first, strict=True)]))


def video_windows(
    cache: ClipCache, index: np.ndarray, starts: np.ndarray, seconds: float, device: torch.device
) -> Tensor:
    """``[B, 3, T, H, W]`` in [0, 1] on a device, likewise."""
    count = round(seconds * cache.fps)
    first = np.round(starts * cache.fps).astype(int)
    frames = [cache.video[i, s : s + count] for i, s in zip(index, first, strict=True)]
    return frames_to_input(torch.from_numpy(np.stack(frames)).to(device))
