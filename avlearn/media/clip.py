"""A window of a file that is to be read, and the clip that it gives."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from avlearn.media.rgb import Crop

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The stretch and crop to read of a file.

    Attributes:
        start, duration: seconds on the file's own clock.
        before, after: further seconds of audio on either side of the video.
        crop: "square" (the largest, in the middle), or left, top, right and bottom as shares of the displayed frame.
    """

    start: float
    duration: float
    before: float = 0.0
    after: float = 0.0
    crop: Crop = None


@dataclass
class Clip:
    """A window of a file.

    Attributes:
        video: uint8 ``[T, H, W, 3]``, RGB as displayed; ``[0, 0, 0, 3]`` where it was not asked for.
        audio: float32 ``[C, S]`` in [-1, 1]; sample 0 is the instant ``start - before``.
        fps, sample_rate: of the arrays.
        start: seconds on the file's own clock: the instant that frame 0 shows.
        times: float64 ``[T]``, when each frame is first presented, seconds on the file's own clock.
        before: seconds of audio ahead of ``start``.
    """

    video: np.ndarray
    audio: np.ndarray
    fps: float
    sample_rate: int
    start: float
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    before: float = 0.0

    def tensor(self) -> "tuple[Tensor, Tensor]":
        """Video as a uint8 tensor ``[T, 3, H, W]`` and audio as a float32 tensor ``[C, S]``, which share its memory."""
        import torch

        return torch.from_numpy(self.video).permute(0, 3, 1, 2), torch.from_numpy(self.audio)


NO_VIDEO = np.zeros((0, 0, 0, 3), np.uint8)
NO_AUDIO = np.zeros((0, 0), np.float32)
