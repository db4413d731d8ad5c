"""Whether a file is like a model's training data."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.verdict import unlike_training
from avlearn.errors import ModelError
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.in_distribution import describe_audio, describe_video
from avlearn.models.recognizer import Recognizer

_ENOUGH = 256  # windows, for a median


class InDistributionCheck:
    """Statistics of a file's windows, held to those of the training data.

    Args:
        model: from `avlearn.load`.
        of: `LABELLED` for the data that the classifiers were trained on, where that differs.

    Raises:
        ModelError: the model has no common space.
    """

    def __init__(self, model: AudioVisual | Recognizer, of: str = ""):
        if isinstance(model, AudioVisual) and not model.config.common_space:
            raise ModelError(
                "this model's objective taught it no common space of video and audio: its encoders are there for "
                "`avlearn linear-probe` and `avlearn embed`, not for this"
            )
        self.model, self.of = model, of
        self.statistics: dict[str, list[Tensor]] = {"video": [], "audio": []}

    def add_video(self, features: Tensor, frames: np.ndarray) -> None:
        """Add the video of a window: ``[1, D, T, Y, X]`` and uint8 ``[T', H, W, 3]``."""
        self._add("video", lambda: describe_video(features, torch.from_numpy(frames)[None].to(features.device)))

    def add_audio(self, features: Tensor) -> None:
        """Add the audio of a window: ``[1, D, T]``."""
        self._add("audio", lambda: describe_audio(features))

    def _add(self, kind: str, statistics: Callable[[], Tensor]) -> None:
        if len(self.statistics[kind]) < _ENOUGH:
            self.statistics[kind].append(statistics())

    def result(self) -> dict[str, bool | None]:
        """Whether ``video`` and ``audio`` are in-distribution; None where that was not measured."""
        known = self.model.in_distribution
        reference = {kind: known[key] for kind in self.statistics for key in (kind, self.of + kind) if key in known}
        return {
            kind: reference[kind].contains(torch.cat(found)) if found and kind in reference else None
            for kind, found in self.statistics.items()
        }

    def reason(self) -> str | None:
        """A clause about what is unlike the training data, or None."""
        return unlike_training(self.result(), self.model.config.trained_on)
