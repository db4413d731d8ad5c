"""BN-Inception (Ioffe & Szegedy, ICML 2015) of frames and of stacks of flow, as TSN and EPIC-Fusion (TBN) have it.

Convolutions have a bias beside their norm, as in the Caffe definition that all of them share. Where a side is even
maps are those of that definition; an odd one is padded behind.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.flow_stack import of_flow, stack_conv
from avlearn.models.video.resnet import init_weights

# Channels of a block: 1x1 | 1x1, 3x3 | 1x1, 3x3, 3x3 | pool, 1x1. Without the first and the last it halves the map.
_Widths = tuple[int, int, int, int, int, int]
_BLOCKS: dict[str, tuple[_Widths, ...]] = {
    "mixed_3": ((64, 64, 64, 64, 96, 32), (64, 64, 96, 64, 96, 64)),
    "mixed_4": (
        (0, 128, 160, 64, 96, 0),
        (224, 64, 96, 96, 128, 128),
        (192, 96, 128, 96, 128, 128),
        (160, 128, 160, 128, 160, 128),
        (96, 128, 192, 160, 192, 128),
    ),
    "mixed_5": ((0, 128, 192, 192, 256, 0), (352, 192, 320, 160, 224, 128), (352, 192, 320, 192, 224, 128)),
}
_MEAN, _FLOW_MEAN, _STD = (128 / 255, 117 / 255, 104 / 255), 128 / 255, 1 / 255


class HalvingPool(nn.Module):
    """The maximum over 3 x 3 of every second row and column, rounded up; values are never negative."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (1 + side % 2 for side in x.shape[3:])
        return F.max_pool3d(F.pad(x, (0, columns, 0, rows)), (1, 3, 3), (1, 2, 2))


class MeanPool(nn.Module):
    """The mean over 3 x 3, zeros beyond the edges."""

    def forward(self, x: Tensor) -> Tensor:
        # In two dimensions, where a processor knows all precisions.
        return F.avg_pool2d(x.flatten(1, 2), 3, 1, 1).unflatten(1, x.shape[1:3])


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    padding = kernel // 2
    conv = Conv3d(inputs, outputs, (1, kernel, kernel), (1, stride, stride), (0, padding, padding))
    return nn.Sequential(conv, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


class Mixed(nn.Module):
    """Branches side by side, concatenated: ``[B, C, T, Y, X]`` to ``[B, D, T, Y, X]``, or half of the map.

    Args:
        pool: before the last branch.
    """

    def __init__(self, inputs: int, widths: _Widths, pool: nn.Module) -> None:
        super().__init__()
        one, reduce, three, reduce_twice, twice, projected = widths
        stride = 1 if one else 2
        self.branches = nn.ModuleList()
        if one:
            self.branches.append(_conv(inputs, one, 1))
        self.branches.append(nn.Sequential(_conv(inputs, reduce, 1), _conv(reduce, three, 3, stride)))
        self.branches.append(
            nn.Sequential(_conv(inputs, reduce_twice, 1), _conv(reduce_twice, twice, 3), _conv(twice, twice, 3, stride))
        )
        self.branches.append(nn.Sequential(pool, *([_conv(inputs, projected, 1)] if projected else [])))
        self.outputs = one + three + twice + (projected or inputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def _pool_of(name: str, number: int) -> nn.Module:
    """Means but in the last block, and where the map is halved."""
    if name != "mixed_3" and number == 0:
        return HalvingPool()
    last = name == "mixed_5" and number == len(_BLOCKS[name]) - 1
    return nn.MaxPool3d((1, 3, 3), 1, (0, 1, 1)) if last else MeanPool()


class BNInception(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 16 width, T / flows, H / 32, W / 32]``; scores are averaged over time.

    Args:
        flows: frames of flow that the first convolution sees at once, L; 1 of images.
        in_chans: 3 of colours, 2 of flow, 1 of spectrograms, which are not normalised.
        width: channels of the stem, a multiple of 16; all others go with it.
        dropout: before the classifier.
    """

    def __init__(self, flows: int = 1, in_chans: int = 3, width: int = 64, dropout: float = 0.8) -> None:
        mean = {1: (), 3: _MEAN}.get(in_chans, (_FLOW_MEAN,) * in_chans)
        super().__init__(mean, (_STD,) * len(mean), dropout)
        self.in_chans = in_chans
        first = stack_conv(in_chans, width, 7, flows, bias=True)
        self.stem = nn.Sequential(first, nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        last = 3 * width
        self.conv_2 = nn.Sequential(HalvingPool(), _conv(width, width, 1), _conv(width, last, 3))
        info = [FeatureInfo(width, (flows, 2, 2), "stem"), FeatureInfo(last, (flows, 4, 4), "conv_2")]
        for i, (name, blocks) in enumerate(_BLOCKS.items()):
            layers: list[nn.Module] = [] if i else [HalvingPool()]
            for number, published in enumerate(blocks):
                a, b, c, d, e, f = (channels * width // 64 for channels in published)
                block = Mixed(last, (a, b, c, d, e, f), _pool_of(name, number))
                layers.append(block)
                last = block.outputs
            self.add_module(name, nn.Sequential(*layers))
            info.append(FeatureInfo(last, (flows, 8 << i, 8 << i), name))
        self.stage_info = tuple(info)
        self.feature_info = FeatureInfo(last, info[-1].stride)
        self.frame_multiple = flows
        init_weights(self)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(info.name, self.get_submodule(info.name)) for info in self.stage_info]


_TSN = "Wang et al., ECCV 2016 (TSN); Ioffe & Szegedy, ICML 2015"


@register(
    Spec(
        "video",
        _TSN,
        10_680_240,
        400,
        (3, 224, 224),
        6.095,
        note="scores of frames are averaged",
        stride=32,
        resize=256,
    )
)
def spatial_bn_inception(in_chans: int = 3) -> BNInception:
    """The spatial stream of TSN: every frame by itself."""
    return BNInception(1, in_chans)


@register(
    Spec(
        "video",
        _TSN,
        10_702_192,
        400,
        (15, 224, 224),
        6.921,
        note="scores of stacks of five flows are averaged",
        stride=1,
        resize=256,
        takes="flow",
    )
)
def temporal_bn_inception(flows: int = 5, flow_method: str = "lucas_kanade", in_chans: int = 2) -> BNInception:
    """The temporal stream of TSN: the flow of each five frames by itself."""
    return of_flow(BNInception(flows, in_chans, dropout=0.7), flow_method)
