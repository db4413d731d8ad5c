"""Preprocessing of videos and audio, so that released weights get what they were trained on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from avlearn.config import Spectrogram
from avlearn.models.registry import model_spec
from avlearn.signal import FrontEnd
from avlearn.validation import STRICT

Count = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class Preprocessing:
    """From the frames of a video to an encoder's input.

    Attributes:
        frames: of a clip.
        stride: frames of the video (of about 30 a second) from one of the clip's to the next.
        resize: pixels of the shorter side, or rows and columns.
        crop: rows and columns, out of the middle.
    """

    __pydantic_config__ = STRICT

    frames: Count
    stride: Count
    resize: Count | tuple[Count, Count]
    crop: tuple[Count, Count]

    def __call__(self, video: Tensor) -> Tensor:
        """uint8 ``[T, H, W, C]`` to [0, 1] ``[C, frames, *crop]``: the middle of the video, in time and space.

        Encoders take care of the mean and std of channels themselves. A video that is shorter than the clip goes
        on with its last frame.
        """
        first = max((video.shape[0] - self.frames * self.stride) // 2, 0)
        picked = [min(first + number * self.stride, video.shape[0] - 1) for number in range(self.frames)]
        x = video[picked].permute(0, 3, 1, 2).float() / 255
        if isinstance(self.resize, int):
            short = min(x.shape[2:])
            size = [side * self.resize // short for side in x.shape[2:]]
        else:
            size = list(self.resize)
        x = F.interpolate(x, size, mode="bilinear")
        top, left = (round((side - cut) / 2) for side, cut in zip(size, self.crop, strict=True))
        return x[:, :, top : top + self.crop[0], left : left + self.crop[1]].transpose(0, 1)

    def text(self) -> str:
        """Human-readable text."""
        size = f"shorter side {self.resize}" if isinstance(self.resize, int) else "{} x {} pixels".format(*self.resize)
        return f"{self.frames} frames, {self.stride} / 30 s apart; {size}, crop {self.crop[0]} x {self.crop[1]}"


@dataclass(frozen=True)
class AudioPreprocessing:
    """From samples to an audio encoder's input.

    Attributes:
        frames: of a clip's spectrogram, or samples where the encoder takes these.
        spectrogram: the front end.
        sample_rate: samples a second.
    """

    frames: int
    spectrogram: Spectrogram
    sample_rate: int = 16_000

    @cached_property
    def front_end(self) -> FrontEnd:
        """What makes the input of samples."""
        return FrontEnd(self.sample_rate, self.spectrogram)

    @property
    def samples(self) -> int:
        """Of a clip."""
        front_end = self.front_end
        return self.frames * front_end.kind.hop_samples - 2 * front_end.margin_samples

    def __call__(self, audio: Tensor) -> Tensor:
        """``[S]`` in [-1, 1] to ``[1, F, frames]``, or ``[1, frames]`` of samples; silence fills it up."""
        clip = F.pad(audio[: self.samples], (0, max(self.samples - len(audio), 0)))
        spectrogram: Tensor = self.front_end(clip[None])
        return spectrogram[0]

    def text(self) -> str:
        """Human-readable text."""
        return f"{self.samples / self.sample_rate:.2f} s of audio, {self.sample_rate} Hz; {self.spectrogram.kind}"


def preprocessing_of(encoder: str) -> Preprocessing | AudioPreprocessing | None:
    """How the weights of an encoder's paper were tested; None where the spec does not say."""
    spec = model_spec(encoder)
    if spec.kind == "audio":
        if not spec.clip:
            return None
        return AudioPreprocessing(spec.clip[-1], Spectrogram(**dict(spec.front_end)))
    if spec.stride is None or spec.resize is None:
        return None
    return Preprocessing(spec.clip[0], spec.stride, spec.resize, (spec.clip[1], spec.clip[2]))
