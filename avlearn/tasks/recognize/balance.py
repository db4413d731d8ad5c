"""Balance of video and audio while they are learned together."""

import torch
from torch import Tensor

from avlearn.models.recognizer import Recognizer

_ALPHA = 0.3  # how much the encoder that is ahead is slowed


def lead(contributions: dict[str, Tensor], classes: Tensor) -> Tensor:
    """By how much video is ahead of audio: the ratio of the probabilities that each gives the right classes.

    Args:
        contributions: ``video`` and ``audio``, ``[B, classes]``, of `Recognizer.contributions`.
        classes: ``[B]``, or their probabilities ``[B, classes]``.
    """
    targets = classes if classes.ndim == 2 else torch.nn.functional.one_hot(classes, contributions["video"].shape[1])
    right = {kind: (scores.detach().softmax(1) * targets).sum() for kind, scores in contributions.items()}
    return right["video"] / right["audio"].clamp(min=1e-12)


def slow_the_leader(model: Recognizer, ahead: Tensor, generator: torch.Generator) -> None:
    """OGM-GE (Peng et al., CVPR 2022): damp the gradients of the encoder that is ahead, and add noise of their size.

    Args:
        model: after the backward pass.
        ahead: of `lead`, averaged over processes.
        generator: of the noise, on the CPU.
    """
    for kind, ratio in (("video", float(ahead)), ("audio", 1 / max(float(ahead), 1e-12))):
        if ratio <= 1:
            continue
        damped = 1 - float(torch.tanh(torch.tensor(_ALPHA * ratio)))
        for parameter in model.encoders[kind].parameters():
            gradient = parameter.grad
            if gradient is None or gradient.ndim < 2:
                continue
            spread = float(gradient.std()) if gradient.numel() > 1 else 0.0
            noise = torch.randn(gradient.shape, generator=generator).to(gradient)
            gradient.mul_(damped).add_(noise, alpha=spread + 1e-8)
