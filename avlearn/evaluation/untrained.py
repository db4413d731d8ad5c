"""The network before any training: the reference that a metric of learned features has to beat."""

from typing import overload

import torch

from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.recognizer import Recognizer


@overload
def untrained(model: AudioVisual, seed: int = 0) -> AudioVisual: ...
@overload
def untrained(model: EncoderAlone, seed: int = 0) -> EncoderAlone: ...
@overload
def untrained(model: Recognizer, seed: int = 0) -> Recognizer: ...
def untrained(model: FeatureModel, seed: int = 0) -> FeatureModel:
    """The same towers, or the same encoder, with weights as they are drawn before training; without heads.

    Args:
        model: on any device, in evaluation mode; the result is too.
        seed: of the weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if isinstance(model, EncoderAlone):
            return model.untrained()
        if isinstance(model, Recognizer):
            network = Recognizer(model.config).eval().to(model.device)
            network.precision = model.precision
            return network
        found = AudioVisual(model.config.model_copy(update={"separator": None, "labels": ()})).eval().to(model.device)
    found.precision = model.precision
    return found
