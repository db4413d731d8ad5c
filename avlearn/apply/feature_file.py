"""Features of a file's video and audio on disk, for files of any length."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class FeatureFile:
    """Video features of a whole file, in a temporary file: memory does not grow with the length.

    Args:
        folder: whose disk holds it: 16 kB a step for 8 x 8 places of 128 features.
    """

    def __init__(self, folder: Path):
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this
        self.steps = 0
        self.shape = (0, 0, 0)  # D, Y, X

    def append(self, features: Tensor) -> None:
        """Add steps: ``[D, T, Y, X]``."""
        steps = features.transpose(0, 1)
        self.shape = (steps.shape[1], steps.shape[2], steps.shape[3])
        self.file.write(steps.to("cpu", torch.float16).contiguous().numpy().tobytes())
        self.steps += len(steps)

    def read(self, first: int, count: int) -> Tensor:
        """Steps ``first .. first + count`` as ``[1, D, T, Y, X]``; past either end, the step there."""
        begin = max(min(first, self.steps - 1), 0)
        size = 2 * int(np.prod(self.shape))
        self.file.seek(begin * size)
        data = np.frombuffer(self.file.read(count * size), np.float16).reshape(-1, *self.shape)
        steps = torch.from_numpy(data.astype(np.float32))
        steps = steps[torch.arange(first - begin, first - begin + count).clamp(0, len(steps) - 1)]
        return steps.transpose(0, 1)[None]

    def close(self) -> None:
        """Give the disk its room back."""
        self.file.close()


class FileSteps:
    """What is known of each step of a whole file, in temporary files.

    Args:
        folder: whose disk holds it.

    Attributes:
        video: its features.
    """

    def __init__(self, folder: Path):
        self.video, self._audio = FeatureFile(folder), FeatureFile(folder)

    def append(self, features: Tensor, sound: Tensor) -> None:
        """Add steps: of the video ``[D, T, Y, X]``, of the audio ``[D' + 1, T]``, its root mean square last."""
        self.video.append(features)
        self._audio.append(sound[:, :, None, None])

    def read_audio(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Embeddings ``[1, D', T]`` and root mean square ``[T]``; past either end, of the step there."""
        sound = self._audio.read(first, count)[..., 0, 0]
        return sound[:, :-1], sound[0, -1]

    def close(self) -> None:
        """Give the disk its room back."""
        self.video.close()
        self._audio.close()
