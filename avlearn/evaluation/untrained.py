"""The network before any training: the reference that a metric of learned features has to beat."""

from typing import overload

import torch

from avlearn.apply.encoder_alone import EncoderAlone
from avlearn.models.audiovisual import AudioVisual


@overload
def untrained(model: AudioVisual, seed: int = 0) -> AudioVisual: ...
@overload
def untrained(model: EncoderAlone, seed: int = 0) -> EncoderAlone: ...
def untrained(model: AudioVisual | EncoderAlone, seed: int = 0) -> AudioVisual | EncoderAlone:
    """The same towers, or the same encoder, with weights as they are drawn before training; without heads.

    Args:
        model: on any device, in evaluation mode; the result is too.
        seed: of the weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(model, EncoderAlone):
            return model.untrained()
        found = AudioVisual(model.config.model_copy(update={"separator": None, "labels": ()})).eval().to(model.device)
    found.precision = model.precision
    return found
