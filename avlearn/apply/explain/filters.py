"""First-layer filters of any encoder, as what they are of its input: colours, motion and time, or bands and time."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from avlearn.apply.explain.network import ExplainedNetwork, differentiable

MOST = 96  # filters that are shown of a layer
_PRODUCTS = ("Convolution", "Mm", "Addmm", "Bmm")  # of PyTorch's graph: with learned weights, in all that come first


@dataclass(frozen=True)
class FirstLayer:
    """Filters of a convolution that reads the input.

    Attributes:
        name: of the module.
        kernels: of a video ``[D, C, T, Y, X]``, C as in `Canvas`; of a spectrogram ``[D, 1, F, N]``. Cut to what any
            of them reads.
        count: of all filters; ``kernels`` has the strongest of many, in their order.
    """

    name: str
    kernels: Tensor
    count: int


def first_layers(network: ExplainedNetwork, kind: str) -> list[FirstLayer]:
    """Convolutions that no other stands before, of each stream one.

    A filter is the gradient of its answer, in the middle of a clip, with respect to the input. Of a layer that reads
    the frames as they are, that is its kernel; of one that reads differences of frames, or stacks of flow, or
    spectrograms that are turned, it is what these come to. Nothing before the layer may be more than linear, save
    what waveforms go through: of those there are no filters.

    Args:
        network: of encoders.
        kind: of the encoder: ``video`` or ``audio``.
    """
    canvas, encoder = network.canvases[kind], network.encoders[kind]
    if len(canvas.shape) < 3:
        return []
    drawn = torch.full((1, *canvas.shape), (canvas.low + canvas.high) / 2, device=network.device).requires_grad_()
    found: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
            if all(known != name for known, _ in found) and _reads_the_input(given[0]):
                found.append((name, answer))

        return hook

    layers = [(n, m) for n, m in encoder.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers]
    try:
        with differentiable(encoder):
            encoder.forward_features(network.on_canvas(kind, drawn))
            return [_layer(name, answer, drawn) for name, answer in found]
    finally:
        for hook in hooks:
            hook.remove()


def _reads_the_input(given: Tensor) -> bool:
    """Whether no product with weights stands between the input and a tensor."""
    nodes = [given.grad_fn] if given.grad_fn is not None else []
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node.name().removesuffix("Backward0").endswith(_PRODUCTS):
            return False
        before = {other for other, _ in node.next_functions if other is not None} - seen
        seen |= before
        nodes += before
    return given.requires_grad


def _layer(name: str, answer: Tensor, drawn: Tensor) -> FirstLayer:
    """The filters of a convolution of such an answer, ``[B, D, ...]``, to what is drawn."""
    middle = answer[len(answer) // 2]
    while middle.ndim > 1:
        middle = middle[:, middle.shape[1] // 2]
    # All filters at once, in shares that do not cancel, say what any of them reads: single ones are cut to that.
    shares = torch.rand(len(middle), generator=torch.Generator().manual_seed(0)).to(middle)
    read = _box(_gradient((middle * shares).sum(), drawn).abs().amax(0) > 0)
    kernels = torch.stack([_gradient(value, drawn)[(slice(None), *read)] for value in middle])
    if len(middle) > MOST:
        kernels = kernels[kernels.flatten(1).square().sum(1).topk(MOST).indices.sort().values]
    return FirstLayer(name, kernels.cpu(), len(middle))


def _gradient(value: Tensor, drawn: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, drawn, retain_graph=True)
    return gradient[0]


def _box(read: Tensor) -> tuple[slice, ...]:
    """The smallest box around what is true; all, where nothing is."""
    places = read.nonzero()
    if not len(places):
        return tuple(slice(None) for _ in read.shape)
    first, last = places.amin(0).tolist(), places.amax(0).tolist()
    return tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))
