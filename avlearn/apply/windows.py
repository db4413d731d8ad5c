"""What all readouts share: windows of a file on the model's device, and whether the file is familiar."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError, NoAudioError, NoVideoError
from avlearn.media import MediaInfo, probe, stream
from avlearn.models.audiovisual import AudioVisual, frames_to_input

SILENCE = 1e-4  # root mean square below which sound counts as none: -80 dB of full scale


def probe_both(path: str | Path) -> MediaInfo:
    """Probe a file that has to have picture and sound.

    Raises:
        NoVideoError, NoAudioError: one is missing.
    """
    info = probe(path)
    if info.video is None:
        raise NoVideoError(f"{path} has no picture")
    if info.audio is None:
        raise NoAudioError(f"{path} has no sound track")
    return info


@dataclass(frozen=True)
class Window:
    """A stretch of a file as the model sees it.

    Attributes:
        start: seconds from the start of the file.
        frames: uint8 ``[T, H, W, 3]``, T a whole number of steps.
        features: ``[1, D, T', Y, X]`` of the picture.
        audio_features: ``[1, D, T']`` of the sound of the same steps.
    """

    start: float
    frames: np.ndarray
    features: Tensor
    audio_features: Tensor


def windows(path: str | Path, model: AudioVisual, hop: float) -> Iterator[Window]:
    """Windows as long as those of the training, every ``hop`` seconds; picture and sound of equal length.

    A last stretch shorter than half a second is left out unless it is all there is; what is then shorter than a step
    is filled up to one, with its last frame and with silence.
    """
    config = model.config
    step_samples = round(model.step * config.sample_rate)
    step_frames = round(model.step * config.fps)
    shapes = {"fps": config.fps, "size": config.size, "sample_rate": config.sample_rate}
    first = None
    for clip in stream(path, config.seconds, hop, mono=True, **shapes):
        alone = first is None
        first = clip.start if first is None else first
        steps = min(len(clip.video) // step_frames, clip.audio.shape[1] // step_samples)
        if not alone and (steps < 1 or steps * model.step < 0.5):
            continue
        steps = max(steps, 1)
        frames = clip.video[: steps * step_frames]
        frames = np.pad(frames, ((0, steps * step_frames - len(frames)), (0, 0), (0, 0), (0, 0)), "edge")
        audio = torch.from_numpy(clip.audio[:, : steps * step_samples]).to(model.device)
        audio = F.pad(audio, (0, steps * step_samples - audio.shape[1]))
        with torch.inference_mode():
            video = frames_to_input(torch.from_numpy(frames)[None].to(model.device))
            features = model.video_features(video)
            audio_features = model.audio_features(audio)
        yield Window(clip.start - first, frames, features, audio_features)


class Notice:
    """Gathers pooled features of a file and says, in one line, when it is unlike the training data."""

    def __init__(self, model: AudioVisual):
        if not model.config.common_space:
            raise ModelError(
                "this model's objective taught it no common space of picture and sound: its encoders are there for "
                "`avlearn probe` and `avlearn embed`, not for this"
            )
        self.model = model
        self.video: list[Tensor] = []
        self.audio: list[Tensor] = []

    def add_video(self, features: Tensor) -> None:
        """Note the picture of a window: ``[1, D, T, Y, X]``."""
        if len(self.video) < 256:  # enough for a median
            self.video.append(features.mean((2, 3, 4)))

    def add_audio(self, features: Tensor) -> None:
        """Note the sound of a window: ``[1, D, T]``."""
        if len(self.audio) < 256:
            self.audio.append(features.mean(2))

    def text(self) -> str | None:
        """The line, or None for a file like those of the training."""
        unlike = [
            name
            for name, kind, seen in (
                ("picture", "video", self.video),
                ("sound", "audio", self.audio),
            )
            if seen and not self.model.familiar[kind].knows(torch.cat(seen))
        ]
        if not unlike:
            return None
        be = "is" if len(unlike) == 1 else "are"
        return (
            f"the {' and the '.join(unlike)} {be} unlike what this model was trained on "
            f"({self.model.config.trained_on or 'unknown data'}): do not rely on the result"
        )
