"""RAFT (Teed & Deng, ECCV 2020), by torchvision's networks; weights as torchvision or the authors name them."""

import re

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.weights.importers.layout import Tensors

_LEAST, _MULTIPLE = 128, 8  # pixels of a side: of the smallest frame, and what it is a multiple of
# The authors' names (princeton-vl/RAFT) to torchvision's.
_RENAMED = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"(encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"(encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"(encoder)\.conv2\.", r"\1.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"\.gru\.conv([zrq])(\d)\.", r".recurrent_block.convgru\2.conv\1."),
    (r"\.gru\.conv([zrq])\.", r".recurrent_block.convgru1.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)


class Raft(nn.Module):
    """The network for frames of any size.

    Args:
        small: whether it is the small one.
    """

    def __init__(self, small: bool) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_large, raft_small

        self.network = (raft_small if small else raft_large)(weights=None)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow ``[B, 2, H, W]``, pixels along x and y, of frames ``[B, 3, H, W]``, RGB, 0 to 255, of any size."""
        height, width = first.shape[2:]
        more_down, more_across = (max(_LEAST, -(-side // _MULTIPLE) * _MULTIPLE) - side for side in (height, width))
        beyond = (0, more_across, 0, more_down)
        one, other = (F.pad(frames / 127.5 - 1, beyond, mode="replicate") for frames in (first, second))
        flow: Tensor = self.network(one, other)[-1]
        return flow[..., :height, :width]


def torchvision_names(tensors: Tensors) -> Tensors:
    """Weights of RAFT under torchvision's names, from the authors' names or from those."""
    if not any(name.startswith("fnet.") for name in tensors):
        return tensors
    return {_renamed(name): tensor for name, tensor in tensors.items() if not _is_alias(name, tensors)}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _is_alias(name: str, tensors: Tensors) -> bool:
    """Whether it is the norm of a block's shortcut, which the authors' files hold twice."""
    found = re.match(r"(.*layer\d\.\d)\.norm(\d)\.", name)
    # A block of n convolutions has n norms, and one more where its shortcut has one.
    return found is not None and f"{found[1]}.conv{found[2]}.weight" not in tensors
