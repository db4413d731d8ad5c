"""Whether a file is like a model's training data."""

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
        known, kinds = model.in_distribution, ("video", "audio")
        self.model = model
        self.reference = {kind: known[key] for kind in kinds for key in (kind, of + kind) if key in known}
        self.statistics: dict[str, list[Tensor]] = {"video": [], "audio": []}
        self.inside: dict[str, list[bool | None]] = {"video": [], "audio": []}

    def add_video(self, features: Tensor, frames: np.ndarray) -> None:
        """Add the video of a window: ``[1, D, T, Y, X]`` and uint8 ``[T', H, W, 3]``."""
        self._add("video", describe_video(features, torch.from_numpy(frames)[None].to(features.device)))

    def add_audio(self, features: Tensor) -> None:
        """Add the audio of a window: ``[1, D, T]``."""
        self._add("audio", describe_audio(features))

    def _add(self, kind: str, described: Tensor) -> None:
        reference = self.reference.get(kind)
        self.inside[kind].append(None if reference is None else reference.contains(described))
        if len(self.statistics[kind]) < _ENOUGH:
            self.statistics[kind].append(described)

    def windows(self) -> list[bool | None]:
        """Whether each window by itself is in-distribution, all of it; None where that was not measured of a part."""
        parts = [held for held in self.inside.values() if held]
        return [False if False in held else None if None in held else True for held in zip(*parts, strict=True)]

    def result(self) -> dict[str, bool | None]:
        """Whether ``video`` and ``audio`` are in-distribution; None where that was not measured."""
        return {
            kind: self.reference[kind].contains(torch.cat(found)) if found and kind in self.reference else None
            for kind, found in self.statistics.items()
        }

    def reason(self) -> str | None:
        """A clause about what is unlike the training data, or None."""
        return unlike_training(self.result(), self.model.config.trained_on)
