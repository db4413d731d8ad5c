"""Preprocessing of videos, so that released weights see what they were trained on."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from avlearn.models.registry import model_spec
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


def preprocessing_of(encoder: str) -> Preprocessing | None:
    """How the weights of an encoder's paper were tested; None for audio, and where the spec does not say."""
    spec = model_spec(encoder)
    if spec.stride is None or spec.resize is None:
        return None
    return Preprocessing(spec.clip[0], spec.stride, spec.resize, (spec.clip[1], spec.clip[2]))
