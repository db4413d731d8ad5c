"""C3D (Tran et al., ICCV 2015): eight 3x3x3 convolutions, five poolings, three linear layers.

Parameter names are those of mmaction2's backbone (``conv1a.conv``, ``fc6``); the linear layers are within
``classifier``, the last of them as ``fc8``.
"""

from collections import OrderedDict
from collections.abc import Sequence
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.hidden_layers import HiddenLayers
from avlearn.models.video.resnet import time_strides

_STAGES = {  # convolutions by name, with the channels of a stage as multiples of the first one's
    "layer1": (("conv1a",), 1),
    "layer2": (("conv2a",), 2),
    "layer3": (("conv3a", "conv3b"), 4),
    "layer4": (("conv4a", "conv4b"), 8),
    "layer5": (("conv5a", "conv5b"), 8),
}


class C3D(HiddenLayers):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 8 width, T / 16, H / 32, W / 32]``, each stage ending with its pooling.

    The linear layers see a grid of 4 x 4 cells (3 x 3 without ``pad_last``), which is that of 16 frames of 112 x 112;
    features of other sizes are averaged to it.

    Args:
        norm: batch norm after each convolution, with its epsilon; None for none.
        pad_last: the last pooling, of 7 x 7 cells, keeps the outermost row and column.
        mean, std: of the channels.
        hidden: channels between the linear layers.
        width: channels of the first stage.
        temporal_stride: 1, 2, 4, 8 or 16 (as published) frames a step: late poolings keep them.
    """

    def __init__(
        self,
        norm: float | None,
        pad_last: bool,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        hidden: int = 4096,
        width: int = 64,
        temporal_stride: int = 16,
    ) -> None:
        super().__init__(mean, std, dropout=0.5)
        self.hidden, self.grid = (hidden, hidden), (1, 4, 4) if pad_last else (1, 3, 3)
        self.cells = prod(self.grid)
        times = time_strides((1, 2, 2, 2, 2), temporal_stride)
        channels = len(mean)
        info = []
        for number, (name, (convolutions, factor)) in enumerate(_STAGES.items(), 1):
            outputs = factor * width
            for convolution in convolutions:
                layers: dict[str, nn.Module] = {"conv": nn.Conv3d(channels, outputs, 3, padding=1)}
                if norm is not None:
                    layers["bn"] = nn.BatchNorm3d(outputs, norm)
                layers["relu"] = nn.ReLU(inplace=True)
                self.add_module(convolution, nn.Sequential(OrderedDict(layers)))
                channels = outputs
            info.append(FeatureInfo(outputs, (prod(times[:number]), 2**number, 2**number), name))
            padding = (0, 1, 1) if pad_last and number == len(_STAGES) else 0
            self.add_module(f"pool{number}", nn.MaxPool3d((times[number - 1], 2, 2), padding=padding))
        self.feature_info, self.stage_info = FeatureInfo(channels, info[-1].stride), tuple(info)
        self.least_frames, self.least_side = info[-1].stride[0], 16 if pad_last else 32
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [
            (name, nn.Sequential(*(self.get_submodule(c) for c in convolutions), self.get_submodule(f"pool{name[-1]}")))
            for name, (convolutions, _) in _STAGES.items()
        ]

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """As published: weights of a small, fixed std."""
        layer = nn.Linear(inputs, outputs)
        nn.init.normal_(layer.weight, std=0.005)
        nn.init.zeros_(layer.bias)
        return layer

    def forward_head(self, features: Tensor) -> Tensor:
        if isinstance(self.classifier, nn.Identity):
            return features.mean((2, 3, 4))
        return self.classifier(F.adaptive_avg_pool3d(features, self.grid).flatten(1))


def _channels(statistics: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Statistics of RGB, or their mean for each of another number of channels."""
    return statistics if count == 3 else (sum(statistics) / 3,) * count


@register(
    Spec(
        "video",
        "Tran et al., ICCV 2015",
        79_634_576,
        400,
        (16, 112, 112),
        38.549,
        38.5,
        note="39.5 in some lectures counts the linear layers too high; weights of Sports-1M have 487 classes",
        stride=1,
        resize=(128, 171),
    )
)
def c3d(in_chans: int = 3, temporal_stride: int = 16) -> C3D:
    """The original: no batch norm, the last pooling padded."""
    mean = tuple(channel / 255 for channel in (104.0, 117.0, 128.0))
    return C3D(None, True, _channels(mean, in_chans), (1 / 255,) * in_chans, temporal_stride=temporal_stride)


@register(
    Spec(
        "video",
        "Tran et al., CVPR 2018 (the baseline in VMZ)",
        64_960_016,
        400,
        (16, 112, 112),
        38.534,
        38.5,
        66.6,
        "top-1 VMZ's",
        stride=2,
        resize=(128, 171),
    )
)
def c3d_bn(in_chans: int = 3, temporal_stride: int = 16) -> C3D:
    """With batch norm; the last pooling drops the outermost row and column."""
    mean = _channels((0.43216, 0.394666, 0.37645), in_chans)
    std = _channels((0.22803, 0.22145, 0.216989), in_chans)
    return C3D(1e-3, False, mean, std, temporal_stride=temporal_stride)
