"""A recognizer on a file of any length: features and class scores of windows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.apply.windows import check_finite
from avlearn.config import RecognizerConfig
from avlearn.errors import NoAudioError, NoVideoError
from avlearn.media import Clip, SharedDecoding, stream
from avlearn.media.source import Source
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input


@dataclass(frozen=True)
class RecognizedWindow:
    """A window of a file.

    Attributes:
        start: seconds from the start of the file.
        frames: uint8 ``[T, size, size, 3]``; empty where the network hears alone.
        features: ``video`` ``[1, D, T', Y, X]`` and ``audio`` ``[1, D, U]``, those that the network takes.
        probabilities: ``[classes]``.
    """

    start: float
    frames: np.ndarray
    features: dict[str, Tensor]
    probabilities: Tensor


@dataclass(frozen=True)
class RecognizerClip:
    """A window of a file as a recognizer takes it.

    Attributes:
        start: seconds from the start of the file.
        frames: uint8 ``[T, size, size, 3]``; empty where the network hears alone.
        video: the same, ``[1, 3, T, size, size]`` in [0, 1], on the network's device; None where it hears alone.
        audio: ``[1, S]`` in [-1, 1], there as well; None where it sees alone.
    """

    start: float
    frames: np.ndarray
    video: Tensor | None
    audio: Tensor | None


@torch.inference_mode()
def recognize_windows(
    path: Source, model: Recognizer, hop: float | None = None, decoded: SharedDecoding | None = None
) -> Iterator[RecognizedWindow]:
    """The windows of `recognizer_clips`, recognized.

    Raises:
        NoVideoError, NoAudioError, MediaError: as there.
    """
    for clip in recognizer_clips(path, model, hop, decoded):
        yield recognized(clip, model)


@torch.inference_mode()
def recognized(clip: RecognizerClip, model: Recognizer) -> RecognizedWindow:
    """A window, recognized."""
    features = model.features(clip.video, clip.audio)
    scores = check_finite(model.classify(features), "the file")
    return RecognizedWindow(clip.start, clip.frames, features, model.probabilities(scores)[0])


def recognizer_clips(
    path: Source, model: Recognizer, hop: float | None = None, decoded: SharedDecoding | None = None
) -> Iterator[RecognizerClip]:
    """Windows as long as those of the training, every ``hop`` seconds; by default one after the other.

    A last stretch shorter than half a window is left out unless it is all there is; what is shorter than a window goes
    on with its last frame, and with silence.

    Raises:
        NoVideoError, NoAudioError: the file lacks what the network takes.
        MediaError: the file cannot be read.
    """
    for start, clip in cut_clips(path, model.config, hop, decoded):
        yield as_taken(clip, start, model)


def cut_clips(
    path: Source, config: RecognizerConfig, hop: float | None = None, decoded: SharedDecoding | None = None
) -> Iterator[tuple[float, Clip]]:
    """Start in seconds, and clip, of the windows of `recognizer_clips`; raises what it raises."""
    seconds = config.seconds
    first: float | None = None
    for clip in stream(
        path, seconds, hop or seconds, fps=config.fps, size=config.size, sample_rate=config.sample_rate, mono=True,
        video=config.sees, audio=config.hears, decoded=decoded,
    ):  # fmt: skip
        length = len(clip.video) / config.fps if config.sees else clip.audio.shape[1] / config.sample_rate
        if first is not None and length < seconds / 2:
            continue
        first = clip.start if first is None else first
        yield clip.start - first, clip
    if first is None:
        raise (NoVideoError if config.sees else NoAudioError)(f"{path} holds no {'video' if config.sees else 'audio'}")


def as_taken(clip: Clip, start: float, model: Recognizer) -> RecognizerClip:
    """A window as a recognizer takes it; what is missing at its end is its last frame again, and silence.

    Args:
        clip: a window of a file, with at least one frame where the network sees.
        start: seconds from the start of the file.
        model: the network.
    """
    seen, heard = network_input(clip, model.config)
    video = frames_to_input(torch.from_numpy(seen)[None].to(model.device)) if model.config.sees else None
    audio = None if heard is None else heard[None].to(model.device)
    return RecognizerClip(start, seen, video, audio)


def network_input(clip: Clip, config: RecognizerConfig) -> tuple[np.ndarray, Tensor | None]:
    """What a network takes of a clip: frames uint8 ``[T, size, size, 3]``, or none, and audio ``[S]``, or None."""
    seconds, frames, samples = config.seconds, config.frames, round(config.seconds * config.sample_rate)
    seen = np.zeros((0, 0, 0, 3), np.uint8)
    if config.sees:
        seen = centre_squares(clip.video)
        whole = max(round(seconds * config.fps), 1)
        seen = np.concatenate([seen, seen[-1:].repeat(max(whole - len(seen), 0), 0)])
        places = (np.arange(frames) + 0.5) / frames * len(seen) if config.segments else np.arange(frames)
        seen = seen[np.minimum(places.astype(int), len(seen) - 1)]
    if not config.hears:
        return seen, None
    heard = torch.from_numpy(clip.audio[0])
    return seen, F.pad(heard, (0, max(samples - len(heard), 0)))[:samples]


def centre_squares(frames: np.ndarray) -> np.ndarray:
    """The largest square in the middle of frames ``[T, H, W, 3]``."""
    rows, columns = frames.shape[1:3]
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    return frames[:, top : top + side, left : left + side]
