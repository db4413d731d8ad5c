"""Grad-CAM (Selvaraju et al., ICCV 2017) over space and time, and over bands and time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from avlearn.apply.explain.network import ExplainedNetwork, differentiable
from avlearn.models.audio.stages import AudioEncoder


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Where activations speak for a class: each channel by the mean of its gradient, summed, and what is above zero.

    Args:
        activations, gradients: ``[D, ...]``, and the score's gradient with respect to them.

    Returns:
        ``[...]``, 0 or more.
    """
    return torch.tensordot(gradients.flatten(1).mean(1), activations, 1).relu()


def class_maps(network: ExplainedNetwork, kind: str, given: Tensor, numbers: Sequence[int]) -> Tensor:
    """Maps of classes for an encoder's input ``[1, ...]``.

    Of video they are of the features that are classified. Of audio they are of the last stage that still has bands,
    if the network is one of convolutions; else its features tell of time alone.

    Args:
        network: with a classifier.
        kind: ``video`` or ``audio``.
        given: as the encoder takes it.
        numbers: of the classes.

    Returns:
        Video ``[K, T', Y, X]``, audio ``[K, F', N']``, F' being 1 where there are no bands; 0 or more.
    """
    encoder = network.encoders[kind]
    if isinstance(encoder, AudioEncoder):
        return _maps_with_bands(network, encoder, given, numbers)
    with torch.no_grad():
        features = encoder.forward_features(given)
    with differentiable(encoder):
        features.requires_grad_()
        scores = network.head(kind, features)
        maps = torch.stack([_map(scores[0, number], features) for number in numbers])
    return maps if kind == "video" else maps[:, None]


def _maps_with_bands(network: ExplainedNetwork, encoder: AudioEncoder, given: Tensor, numbers: Sequence[int]) -> Tensor:
    """`class_maps` of the last stage's answer ``[1, D, F', N']`` that has more bands than one."""
    with torch.no_grad():
        answers = [encoder.prepared(given)]
        for _, stage in encoder.stages():
            answers.append(stage(answers[-1]))
    grids = [encoder.on_grid(answer, 1) for answer in answers[1:]]
    last = max((i for i, grid in enumerate(grids) if grid.ndim == 4 and grid.shape[2] > 1), default=len(grids) - 1)
    with differentiable(encoder):
        answer = held = answers[last + 1].requires_grad_()
        for _, stage in encoder.stages()[last + 1 :]:
            answer = stage(answer)
        scores = network.head("audio", encoder.over_bins(encoder.on_grid(answer, 1)))
        maps = [_map(scores[0, number], held, encoder) for number in numbers]
    return torch.stack([values if values.ndim == 2 else values[None] for values in maps])


def _map(score: Tensor, held: Tensor, encoder: AudioEncoder | None = None) -> Tensor:
    (gradient,) = torch.autograd.grad(score, held, retain_graph=True)
    pair = held.detach(), gradient
    activations, gradients = pair if encoder is None else (encoder.on_grid(values, 1) for values in pair)
    return grad_cam(activations[0], gradients[0])
