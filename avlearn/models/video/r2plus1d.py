"""R(2+1)D (Tran et al., CVPR 2018): each 3 x 3 x 3 convolution is one over space, then one over time.

Between the two lie as many channels as keep the parameters of the whole. torchvision counts them once for a block,
from its input and output; the authors' own networks for each convolution. Both are in the world, with weights.
mmaction2's, a third, separates stem and shortcuts in the same way and has a pool after the stem; AVID's, a fourth, has
as many channels between the two as after them.

Parameter names are torchvision's: ``layer{l}.{j}.conv{1,2}.0.{0: space, 1: norm, 3: time}``.
"""

from typing import Literal

from torch import Tensor, nn

from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.resnet import (
    DEPTHS,
    TORCHVISION_MEAN,
    TORCHVISION_STD,
    Triple,
    VideoBlock,
    VideoResNet,
    pointwise,
    simple_stem,
    statistics,
    time_strides,
)

MidWidth = Literal["per-block", "per-conv"]
Variant = Literal["authors", "mmaction2"]


def _separated(inputs: int, middle: int, outputs: int, stride: Triple) -> nn.Module:
    time, y, x = stride
    return nn.Sequential(
        Conv3d(inputs, middle, (1, 3, 3), (1, y, x), (0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        Conv3d(middle, outputs, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False),
    )


def _middle(inputs: int, outputs: int, space: int = 9) -> int:
    """Channels with which a kernel of 1 x ``space`` and one of 3 x 1 have the parameters of one of 3 x ``space``."""
    return 3 * space * inputs * outputs // (space * inputs + 3 * outputs)


def _per_block(inputs: int, outputs: int, start: int, stride: Triple) -> nn.Module:
    return _separated(inputs, _middle(start, outputs), outputs, stride)


def _per_conv(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    return _separated(inputs, _middle(inputs, outputs), outputs, stride)


def time_first(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    time, y, x = stride
    return nn.Sequential(
        Conv3d(inputs, outputs, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
        Conv3d(outputs, outputs, (1, 3, 3), (1, y, x), (0, 1, 1), bias=False),
    )


def _separated_pointwise(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    time, y, x = stride
    middle = _middle(inputs, outputs, 1)
    return nn.Sequential(
        Conv3d(inputs, middle, 1, (1, y, x), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        Conv3d(middle, outputs, 1, (time, 1, 1), bias=False),
    )


def _separated_stem(in_chans: int, width: int, middle: int = 45, pool: bool = False) -> nn.Sequential:
    return nn.Sequential(
        Conv3d(in_chans, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        Conv3d(middle, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        *([nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))] if pool else []),
    )


def r2plus1d(
    depth: int,
    mid_width: MidWidth,
    in_chans: int,
    temporal_stride: int,
    eps: float,
    variant: Variant = "authors",
    width: int = 64,
) -> VideoResNet:
    """Networks of separated convolutions; ``width`` is that of the stem and the first group."""
    if variant not in ("authors", "mmaction2"):
        raise ValueError(f"variant is authors or mmaction2, not {variant}")
    if mid_width not in ("per-block", "per-conv"):
        raise ValueError(f"mid_width is per-block or per-conv, not {mid_width}")
    authors = variant == "authors"
    if authors:
        stem = _separated_stem(in_chans, width)
    else:
        stem = _separated_stem(in_chans, width, _middle(in_chans, width, 49), pool=True)
    model = VideoResNet(
        stem,
        (1, 2 if authors else 4),
        DEPTHS[depth],
        [_per_block if mid_width == "per-block" else _per_conv] * 4,
        bottleneck=depth > 34,
        width=width,
        time_strides=time_strides((1, 2, 2, 2), temporal_stride),
        shortcut=pointwise if authors else _separated_pointwise,
        eps=eps,
        mean=statistics(TORCHVISION_MEAN, in_chans),
        std=statistics(TORCHVISION_STD, in_chans),
    )
    if not authors:
        for name, module in model.named_modules():
            if name == "stem.1" or name.endswith(".0.1"):  # between space and time
                module.eps = 1e-5
    return model


_TRAN = "Tran et al., CVPR 2018"


@register(
    Spec(
        "video",
        _TRAN,
        31_505_325,
        400,
        (16, 112, 112),
        40.519,
        top1=67.5,
        note="torchvision's; the paper's counts channels per convolution: 33,370,839 parameters",
        stride=2,
        resize=(128, 171),
    )
)
def r2plus1d_18(
    temporal_stride: int = 8, mid_width: MidWidth = "per-block", in_chans: int = 3, eps: float = 1e-5
) -> VideoResNet:
    """18 layers; ``temporal_stride=8`` is the published network. The authors' weights: per-conv, ``eps`` 1e-3."""
    return r2plus1d(18, mid_width, in_chans, temporal_stride, eps)


@register(
    Spec(
        "video",
        _TRAN,
        63_697_175,
        400,
        (32, 112, 112),
        152.356,
        152.0,
        74.2,
        "what later papers list as R(2+1)D, 152 GFLOPs; the authors' model zoo prints 199.0, at 128 x 128",
        stride=2,
        resize=(128, 171),
    )
)
def r2plus1d_34(
    temporal_stride: int = 8,
    mid_width: MidWidth = "per-conv",
    in_chans: int = 3,
    eps: float = 1e-3,
    variant: Variant = "authors",
) -> VideoResNet:
    """34 layers; ``variant`` for mmaction2's weights: see the head of this file (and its inner ``eps`` are 1e-5)."""
    return r2plus1d(34, mid_width, in_chans, temporal_stride, eps, variant)


@register(
    Spec(
        "video",
        _TRAN,
        118_226_785,
        400,
        (32, 112, 112),
        251.997,
        329.1,
        77.3,
        "bottlenecks, no pool in the stem; published cost is at 128 x 128",
        stride=2,
        resize=(128, 171),
    )
)
def r2plus1d_152(
    temporal_stride: int = 8, mid_width: MidWidth = "per-conv", in_chans: int = 3, eps: float = 1e-3
) -> VideoResNet:
    """152 layers."""
    return r2plus1d(152, mid_width, in_chans, temporal_stride, eps)


@register(
    Spec(
        "video",
        "after Tran et al., CVPR 2018",
        28_107_600,
        400,
        (16, 224, 224),
        57.534,
        top1=76.0,
        note="pytorchvideo's; time comes before space, with as many channels between them as the bottleneck has",
        stride=4,
        resize=256,
    )
)
def r2plus1d_r50(in_chans: int = 3, temporal_stride: int = 4) -> VideoResNet:
    """Bottlenecks of 50 layers; a stem without time; space is halved in the first group, too."""
    return VideoResNet(
        simple_stem(in_chans, 64, 1),
        (1, 2),
        DEPTHS[50],
        [time_first] * 4,
        bottleneck=True,
        time_strides=time_strides((1, 1, 2, 2), temporal_stride),
        space_strides=(2, 2, 2, 2),
        mean=(0.45,) * in_chans,
        std=(0.225,) * in_chans,
        dropout=0.5,
    )


def _equal(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    return _separated(inputs, outputs, outputs, stride)


class AVIDResNet(VideoResNet):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 8 width, T / 8, H / 32, W / 32]``: AVID's, whose stem is not separated.

    A block is normalised once its shortcut has been added, and neither of the two before.

    Args:
        in_chans: C.
        depths: number of blocks of each group.
        width: channels of the stem and the first group.
        temporal_stride: 1, 2, 4 or 8 frames a step.
    """

    def __init__(
        self,
        in_chans: int = 3,
        depths: tuple[int, int, int, int] = (2, 2, 2, 2),
        width: int = 64,
        temporal_stride: int = 8,
    ) -> None:
        super().__init__(
            simple_stem(in_chans, width, 3, pool=1),
            (1, 4),
            depths,
            [_equal] * 4,
            width=width,
            time_strides=time_strides((1, 2, 2, 2), temporal_stride),
            mean=statistics((0.485, 0.456, 0.406), in_chans),
            std=statistics((0.229, 0.224, 0.225), in_chans),
        )
        for module in self.modules():
            if isinstance(module, VideoBlock):
                # Removing both norms leaves the convolutions under their names.
                module.relu = nn.Sequential(module.conv2.pop(1), module.relu)
                if isinstance(module.downsample, nn.Sequential):
                    module.downsample.pop(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Features pooled by their maximum over time and space, as published."""
        return self.classifier(self.dropout(features.flatten(2).amax(2)))


@register(
    Spec(
        "video",
        "Morgado et al., CVPR 2021 (AVID)",
        15_379_136,
        None,
        (8, 224, 224),
        12.126,
        note="the video half of AVID-CMA's checkpoints, without their projection",
        stride=2,
        resize=256,
    )
)
def r2plus1d_18_avid(in_chans: int = 3, temporal_stride: int = 8) -> AVIDResNet:
    """18 layers; published with 8 or 32 frames at 16 a second."""
    return AVIDResNet(in_chans, temporal_stride=temporal_stride)
