"""First convolutions over stacks of optical flow, and weights of networks of colours carried over to them."""

from typing import TypeVar

import torch
from torch import Tensor

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder
from avlearn.models.video.convolution import Conv3d
from avlearn.signal.flow import METHODS

E = TypeVar("E", bound=Encoder)


def stack_conv(
    in_chans: int, width: int, kernel: int, flows: int = 1, stride: int = 2, *, bias: bool = False
) -> Conv3d:  # fmt: skip
    """A convolution that sees ``flows`` frames at once and strides over them: of images, where it is one.

    Over the flow of L frames it is the published one over 2 L channels; it sees each stack once.
    """
    return Conv3d(
        in_chans, width, (flows, kernel, kernel), (flows, stride, stride), (0, kernel // 2, kernel // 2), bias=bias
    )


def of_flow(encoder: E, method: str) -> E:
    """An encoder whose flow is made by a method of `avlearn.signal.flow.METHODS`; gives it back.

    Raises:
        ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"flow_method is {', '.join(METHODS)}, not {method}")
    encoder.flow_method = method
    return encoder


@torch.no_grad()
def load_rgb_weights(temporal: Encoder, spatial: Encoder) -> None:
    """Begin a network of flow from one of colours (Wang et al., 2015; TSN, ECCV 2016).

    The first convolution has the mean over the colours for each channel of flow; all other parameters, and statistics
    of norms, are taken as they are. A classifier stays as it is.

    Args:
        temporal: of flow, changed in place.
        spatial: the same network of colours.

    Raises:
        ModelError: they are not the same network.
    """
    own, theirs = (
        {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("classifier.")}
        for model in (temporal, spatial)
    )
    carried = {name: _of_flow(tensor, own[name]) for name, tensor in theirs.items() if name in own}
    odd = [name for name in own.keys() | theirs.keys() if name not in carried or carried[name].shape != own[name].shape]
    if odd or temporal.takes == spatial.takes:
        which = f" ({', '.join(sorted(odd)[:3])})" if odd else ""
        raise ModelError(f"{type(temporal).__name__} of {temporal.takes} cannot begin from that of another plan{which}")
    temporal.load_state_dict(carried, strict=False)


def _of_flow(weight: Tensor, wanted: Tensor) -> Tensor:
    """``[D, 3, 1, Y, X]`` as ``[D, C, L, Y, X]``: the mean over the colours, repeated; others as they are."""
    if weight.ndim != 5 or weight.shape == wanted.shape or weight.shape[1] != 3 or weight.shape[0] != wanted.shape[0]:
        return weight
    mean = weight.mean(1, keepdim=True)
    return mean.expand(-1, wanted.shape[1], wanted.shape[2] if mean.shape[2] == 1 else mean.shape[2], -1, -1)
