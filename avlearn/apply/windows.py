"""Windows of a file on the model's device, and what is checked of a file and of a model's outputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.config import ModelConfig
from avlearn.errors import ModelError, NoAudioError, NoVideoError
from avlearn.media import MediaInfo, SharedDecoding, probe, stream
from avlearn.media.probe import AudioStream, VideoStream
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input

_SHORTEST = 0.5  # seconds of a last stretch
SILENCE = 1e-4  # root mean square below which audio counts as none: -80 dB of full scale


def check_finite(values: Tensor, what: str) -> Tensor:
    """The same values, of which readouts would make confident nonsense where some were no numbers.

    Raises:
        ModelError: some are: finite weights that overflow, or that hold a variance below zero, give such values.
    """
    if not values.isfinite().all():
        raise ModelError(f"what the model makes of {what} is not finite: its weights or its settings are damaged")
    return values


class AudioVideoInfo(MediaInfo):
    """A file with video and audio."""

    video: VideoStream
    audio: AudioStream


def probe_both(path: Source) -> AudioVideoInfo:
    """Probe a file that has to have video and audio.

    Raises:
        NoVideoError, NoAudioError: one is missing.
    """
    info = probe(path)
    if info.video is None:
        raise NoVideoError(f"{path} has no video")
    if info.audio is None:
        raise NoAudioError(f"{path} has no audio track")
    return AudioVideoInfo(**vars(info))


@dataclass(frozen=True)
class EncodedWindow:
    """A stretch of a file as the model sees it.

    Attributes:
        start: seconds from the start of the file.
        frames: uint8 ``[T, H, W, 3]``, T a whole number of steps.
        audio: ``[1, S]`` of the same steps, as the model hears it.
        features: ``[1, D, T', Y, X]`` of the video.
        audio_features: ``[1, D, T']`` of the audio of the same steps.
    """

    start: float
    frames: np.ndarray
    audio: Tensor
    features: Tensor
    audio_features: Tensor


def windows(
    path: Source, model: AudioVisual, hop: float, decoded: SharedDecoding | None = None
) -> Iterator[EncodedWindow]:
    """Windows as long as those of the training, every ``hop`` seconds; video and audio of equal length.

    A last stretch shorter than half a second, or half a window, is left out unless it is all there is; what is then
    shorter than a step is filled up to one, with its last frame and with silence.
    """
    for start, frames, samples in cut_windows(path, model.config, model.step, hop, decoded):
        audio = torch.from_numpy(samples).to(model.device)
        with torch.inference_mode():
            video = frames_to_input(torch.from_numpy(frames)[None].to(model.device))
            features = check_finite(model.video_features(video), "the video")
            audio_features = check_finite(model.audio_features(audio), "the audio")
        yield EncodedWindow(start, frames, audio, features, audio_features)


def cut_windows(
    path: Source, config: ModelConfig, step: float, hop: float, decoded: SharedDecoding | None = None
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Windows of a file as `windows` shows them to a model, without the model.

    Args:
        path: the file.
        config, step: of the model; seconds.
        hop, decoded: as for `windows`.

    Yields:
        Start in seconds, frames uint8 ``[T, H, W, 3]`` and audio float32 ``[1, S]`` of the same steps.
    """
    step_samples = round(step * config.sample_rate)
    step_frames = round(step * config.fps)
    least = min(_SHORTEST, config.seconds / 2)
    first = None
    normalizer = audio_normalizer(path)
    for clip in stream(
        normalizer.source, config.seconds, hop,
        fps=config.fps, size=config.size, sample_rate=config.sample_rate, mono=True, decoded=decoded,
    ):  # fmt: skip
        alone = first is None
        first = clip.start if first is None else first
        steps = min(len(clip.video) // step_frames, clip.audio.shape[1] // step_samples)
        if not alone and (steps < 1 or steps * step < least):
            continue
        steps = max(steps, 1)
        frames = clip.video[: steps * step_frames]
        frames = np.pad(frames, ((0, steps * step_frames - len(frames)), (0, 0), (0, 0), (0, 0)), "edge")
        audio = normalizer(clip.audio[:, : steps * step_samples])
        yield clip.start - first, frames, np.pad(audio, ((0, 0), (0, steps * step_samples - audio.shape[1])))


def stream_windows(
    path: Source, model: AudioVisual, hop: float, kind: Literal["video", "audio"], decoded: SharedDecoding | None = None
) -> Iterator[tuple[float, Tensor]]:
    """Windows of the video alone, or of the audio alone, cut as by `windows`: for a file that lacks the other.

    Yields:
        Start in seconds, and features: of the video ``[1, D, T', Y, X]``, of the audio ``[1, D', T']``.
    """
    for start, held in cut_stream(path, model.config, model.step, hop, kind, decoded):
        with torch.inference_mode():
            if kind == "audio":
                features = model.audio_features(held[None].to(model.device))
            else:
                features = model.video_features(frames_to_input(held[None].to(model.device)))
        yield start, check_finite(features, f"the {kind}")


def cut_stream(
    path: Source,
    config: ModelConfig,
    step: float,
    hop: float,
    kind: Literal["video", "audio"],
    decoded: SharedDecoding | None = None,
) -> Iterator[tuple[float, Tensor]]:
    """Windows of a file as `stream_windows` shows them to a model, without the model.

    Yields:
        Start in seconds, and frames uint8 ``[T, H, W, 3]`` or audio ``[S]``.
    """
    first = None
    source, normalizer = path, None
    if kind == "audio":
        normalizer = audio_normalizer(path)
        source = normalizer.source
    per_step = round(step * (config.sample_rate if normalizer else config.fps))
    least = min(_SHORTEST, config.seconds / 2)
    for clip in stream(
        source, config.seconds, hop, fps=config.fps, size=config.size, sample_rate=config.sample_rate, mono=True,
        video=normalizer is None, audio=normalizer is not None, decoded=decoded,
    ):  # fmt: skip
        held = torch.from_numpy(normalizer(clip.audio)[0] if normalizer else clip.video)
        steps = len(held) // per_step
        if first is not None and (steps < 1 or steps * step < least):
            continue
        first = clip.start if first is None else first
        held = held[: max(steps, 1) * per_step]
        missing = max(per_step - len(held), 0)
        last = held[-1:].expand(missing, -1, -1, -1) if kind == "video" else held.new_zeros(missing)
        yield clip.start - first, torch.cat([held, last])
