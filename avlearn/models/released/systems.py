"""What a released system is to the tools: how much of a file it takes at once, and what it gives for that."""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class ReleasedSystem(Protocol):
    """What all of them tell.

    Attributes:
        title: what it is called where it answers.
        device: where its weights are.
        sample_rate: of the audio that it takes.
    """

    title: str
    device: torch.device
    sample_rate: int


class LocalizeSystem(ReleasedSystem, Protocol):
    """A network that says where in a frame audio comes from.

    Attributes:
        seconds: of audio that it hears at once, about the frame.
        hop: seconds from one frame to the next; ``seconds`` is a multiple.
    """

    seconds: float
    hop: float

    def localize_window(self, frame: np.ndarray, audio: Tensor) -> Tensor:
        """Similarity of every place and the audio, of any scale: ``[Y, X]`` over the whole frame, on the CPU.

        Args:
            frame: uint8 ``[H, W, 3]``.
            audio: ``[1, S]`` in [-1, 1]; shorter than ``seconds`` where the file is.
        """


class SeparateSystem(ReleasedSystem, Protocol):
    """Networks that split audio by what is seen to make it.

    Attributes:
        samples: of a window.
        looks: seconds from a window's middle at which its sources are looked at.
        faces: whether it is shown mouths and heads (see `avlearn.apply.separate.shown_faces.ShownFaces.at`), and no
            places.
        gaps: whether it is told where a face is away for a moment.
    """

    samples: int
    looks: tuple[float, ...]
    faces: bool
    gaps: bool

    def separate_window(self, audio: Tensor, seen: list[list[Any]]) -> Tensor:
        """The part of each source ``[K, C, samples]``, on the CPU, of the mixture's scale.

        Args:
            audio: ``[C, samples]`` in [-1, 1]; all channels share the masks.
            seen: of each of K sources, what is seen of it at each of ``looks``: uint8 ``[H, W, 3]``. Of faces, mouths
                ``[96, 96]`` at these (with ``gaps``, None where there is none) and then the head, ``[H, W, 3]``.
        """
