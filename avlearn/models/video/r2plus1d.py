"""R(2+1)D (Tran et al., CVPR 2018), torchvision's implementation behind our interface."""

import torch
from torch import Tensor
from torchvision.models.video import r2plus1d_18 as torchvision_r2plus1d_18

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register

_MEAN, _STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


class R2Plus1D(Encoder):
    """``[B, 3, T, H, W]`` in [0, 1] to ``[B, 512, T / temporal_stride, H / 16, W / 16]``."""

    def __init__(self, temporal_stride: int):
        super().__init__()
        if temporal_stride not in (1, 2, 4, 8):
            raise ValueError(f"temporal_stride is 1, 2, 4 or 8, not {temporal_stride}")
        net = torchvision_r2plus1d_18(weights=None)
        self.stem = net.stem
        self.layers = torch.nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        self._limit_temporal_stride(temporal_stride)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1, 1), persistent=False)
        self.feature_info = FeatureInfo(512, (temporal_stride, 16, 16))

    def _limit_temporal_stride(self, wanted: int) -> None:
        # The published network halves time in layers 2, 3 and 4. A synchronization objective needs finer
        # steps: the late halvings go, the weights keep their shapes.
        for halvings_before, layer in enumerate(list(self.layers)[1:]):
            if 2 ** (halvings_before + 1) > wanted:
                for module in layer.modules():
                    if isinstance(module, torch.nn.Conv3d) and module.stride[0] == 2:
                        module.stride = (1, *module.stride[1:])

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stem((x - self.mean) / self.std)
        for layer in self.layers:
            x = layer(x)
        return x


@register(Spec("video", "Tran et al., CVPR 2018", 31_300_125))
def r2plus1d_18(temporal_stride: int = 8) -> R2Plus1D:
    """18 layers; ``temporal_stride=8`` is the published network."""
    return R2Plus1D(temporal_stride)
