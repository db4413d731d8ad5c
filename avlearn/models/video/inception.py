"""Inception-V1 in three dimensions: I3D (Carreira and Zisserman, CVPR 2017), S3D and S3D-G (Xie et al., ECCV 2018).

One trunk: what differs is whether convolutions are separated into space and time, whether branches are gated, and
how edges are padded. Parameter names are torchvision's (``features.N``); gates come last in their branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.resnet import time_strides

_Triple = tuple[int, int, int]

# Channels of a block: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | pooling, 1x1x1.
_MIXED = {
    "mixed_3": ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    "mixed_4": (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    "mixed_5": ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
}
# Where the stages lie in ``features``.
_STAGES = {"stem": (0, 1), "conv_2": (1, 4), "mixed_3": (4, 7), "mixed_4": (7, 13), "mixed_5": (13, 16)}


@dataclass(frozen=True)
class Variant:
    """Differences between the networks of this file.

    Attributes:
        separable: convolutions over time and space are one over space, then one over time.
        stem: kernel of the first convolution; None for a separable 7x7x7.
        same: edges are padded as TensorFlow pads them: on even sizes a stride of two pads more behind than before.
        gated: branches are weighted by a gate.
        temporal_norm: separate convolutions over time have batch norm; else a bias, and start as the identity.
        eps: of batch norm.
        mean_window: the classifier averages over all windows of 2 x 7 x 7 cells, not over all cells alike.
    """

    separable: bool = True
    stem: _Triple | None = None
    same: bool = False
    gated: bool = False
    temporal_norm: bool = True
    eps: float = 1e-3
    mean_window: bool = True


def _same(x: Tensor, kernel: Sequence[int], stride: Sequence[int], more: Sequence[int] = (0, 0, 0)) -> Tensor:
    """``[B, C, T, H, W]`` padded so that each side becomes itself over the stride, rounded up; by ``more`` behind."""
    pad: list[int] = []
    # The last side comes first.
    for side, k, s, m in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], more[::-1], strict=True):
        total = max(k - (side % s or s), 0)
        pad += [total // 2, total - total // 2 + m]
    return F.pad(x, pad)


class SameConv3d(Conv3d):
    """A convolution padded as TensorFlow does it; an even side of the kernel as an odd one that goes on behind."""

    def forward(self, x: Tensor) -> Tensor:
        even = tuple(1 - k % 2 for k in self.kernel_size)
        odd = tuple(k - e for k, e in zip(self.kernel_size, even, strict=True))
        return super().forward(_same(x, odd, self.stride, even))


class SameMaxPool3d(nn.Module):
    """Pooling padded as TensorFlow does it; input is never negative, so that zeros beyond the edge are never chosen."""

    def __init__(self, kernel: _Triple, stride: _Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Gate(nn.Module):
    """Channels weighted by what their means say: ``[B, C, T, H, W]`` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3, 4))).sigmoid()[:, :, None, None, None]


def _pool(kernel: _Triple, stride: _Triple, same: bool) -> nn.Module:
    if same:
        return SameMaxPool3d(kernel, stride)
    # Odd kernels are padded on both sides; the only even one is 2x2x2.
    return nn.MaxPool3d(kernel, stride, tuple((k - 1) // 2 for k in kernel))


def _conv(
    inputs: int, outputs: int, kernel: _Triple, stride: _Triple, variant: Variant, norm: bool = True
) -> nn.Sequential:
    """Convolution, batch norm (or a bias) and ReLU."""
    same = variant.same and max(stride) > 1
    padding = (0, 0, 0) if same else (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    kind = SameConv3d if same else Conv3d
    layers: list[nn.Module] = [kind(inputs, outputs, kernel, stride, padding, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm3d(outputs, variant.eps))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _spacetime(inputs: int, outputs: int, size: int, stride: _Triple, variant: Variant) -> nn.Sequential:
    if not variant.separable:
        return _conv(inputs, outputs, (size,) * 3, stride, variant)
    space = _conv(inputs, outputs, (1, size, size), (1, *stride[1:]), variant)
    time = _conv(outputs, outputs, (size, 1, 1), (stride[0], 1, 1), variant, variant.temporal_norm)
    if not variant.temporal_norm:
        nn.init.dirac_(time.get_parameter("0.weight"))
        nn.init.zeros_(time.get_parameter("0.bias"))
    return nn.Sequential(space, time)


class Mixed(nn.Module):
    """Four branches, concatenated: ``[B, C, T, H, W]`` to ``[B, D, T, H, W]``."""

    def __init__(self, inputs: int, widths: tuple[int, ...], variant: Variant) -> None:
        super().__init__()
        width0, inner1, width1, inner2, width2, width3 = widths
        one = (1, 1, 1)
        self.branch0 = _conv(inputs, width0, one, one, variant)
        self.branch1 = nn.Sequential(
            _conv(inputs, inner1, one, one, variant), _spacetime(inner1, width1, 3, one, variant)
        )
        self.branch2 = nn.Sequential(
            _conv(inputs, inner2, one, one, variant), _spacetime(inner2, width2, 3, one, variant)
        )
        self.branch3 = nn.Sequential(_pool((3, 3, 3), one, False), _conv(inputs, width3, one, one, variant))
        if variant.gated:
            branches = (self.branch0, self.branch1, self.branch2, self.branch3)
            for branch, width in zip(branches, (width0, width1, width2, width3), strict=True):
                branch.append(Gate(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], 1)


class Inception3d(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 16 width, T / 8, H / 32, W / 32]``.

    Args:
        variant: which of the networks.
        mean, std: of the channels; none where the network was trained on [0, 1].
        in_chans: channels of the input.
        dropout: before the classifier.
        temporal_stride: 1, 2, 4 or 8 (as published) frames a step: late poolings keep them.
        width: channels of the stem, a multiple of 8; all others go with it.
    """

    def __init__(
        self,
        variant: Variant,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        in_chans: int = 3,
        dropout: float = 0.2,
        temporal_stride: int = 8,
        width: int = 64,
    ) -> None:
        super().__init__(mean, std, dropout)
        self.in_chans, self.mean_window = in_chans, variant.mean_window
        first, fourth, fifth = time_strides((2, 2, 2), temporal_stride)
        if variant.stem is None:
            stem = _spacetime(in_chans, width, 7, (first, 2, 2), variant)
        else:
            stem = _conv(in_chans, width, variant.stem, (first, 2, 2), variant)
        third = _spacetime(width, 3 * width, 3, (1, 1, 1), variant)
        if variant.gated:
            third.append(Gate(3 * width))
        small, halved = (1, 3, 3), (1, 2, 2)
        layers = [stem, _pool(small, halved, variant.same), _conv(width, width, (1, 1, 1), (1, 1, 1), variant), third]
        pools = {
            "mixed_3": (small, halved),
            "mixed_4": ((3, 3, 3), (fourth, 2, 2)),
            "mixed_5": ((fifth, 2, 2), (fifth, 2, 2)),
        }
        channels = {"stem": width, "conv_2": 3 * width}
        last = channels["conv_2"]
        for name, blocks in _MIXED.items():
            layers.append(_pool(*pools[name], variant.same))
            for published in blocks:
                widths = tuple(channel * width // 64 for channel in published)
                layers.append(Mixed(last, widths, variant))
                last = widths[0] + widths[2] + widths[4] + widths[5]
            channels[name] = last
        self.features = nn.Sequential(*layers)
        times = (first, first, first, first * fourth, temporal_stride)
        self.stage_info = tuple(
            FeatureInfo(channels[name], (time, 2 << i, 2 << i), name)
            for i, (name, time) in enumerate(zip(_STAGES, times, strict=True))
        )
        self.feature_info = FeatureInfo(last, self.stage_info[-1].stride)
        if not variant.same:  # the last pooling takes pairs
            self.least_frames, self.least_side = 5 if fifth > 1 else 1, 17
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module.bias is None:
                nn.init.trunc_normal_(module.weight, std=0.01)

    def normalized(self, x: Tensor) -> Tensor:
        x = super().normalized(x)
        # On a CPU pooling is ten times as fast where channels are last in memory, and no layer after it changes that.
        return x.contiguous(memory_format=torch.channels_last_3d) if x.device.type == "cpu" else x

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(name, self.features[start:end]) for name, (start, end) in _STAGES.items()]

    def forward_head(self, features: Tensor) -> Tensor:
        if self.mean_window:
            # Cells in the middle lie in more windows than those at the ends, so that they weigh more.
            window = [min(side, most) for side, most in zip(features.shape[2:], (2, 7, 7), strict=True)]
            # In single precision: on a CPU, this pooling knows no other.
            features = F.avg_pool3d(features.float(), window, 1).to(features.dtype)
        return super().forward_head(features)


@register(
    Spec(
        "video",
        "Carreira and Zisserman, CVPR 2017",
        12_697_264,
        400,
        (64, 224, 224),
        111.153,
        108.0,
        72.1,
        "108 is what papers print, no released definition has it; top-1 of RGB, as the SlowFast paper quotes it",
        stride=1,
        resize=256,
    )
)
def i3d_inception(in_chans: int = 3, temporal_stride: int = 8) -> Inception3d:
    """The RGB stream; ``in_chans=2`` for the other one, of optical flow: 0.5 is no motion, 0 and 1 are 20 pixels."""
    variant, half = Variant(separable=False, stem=(7, 7, 7), same=True), (0.5,) * in_chans
    return Inception3d(variant, half, half, in_chans, 0.5, temporal_stride)


_S3D_PAPER = "Xie et al., ECCV 2018"


@register(
    Spec(
        "video",
        f"{_S3D_PAPER} (torchvision's definition)",
        8_320_048,
        400,
        (64, 224, 224),
        71.916,
        66.4,
        72.2,
        "separable 7x7x7 stem, not the paper's; top-1 the paper's (torchvision's weights: 68.4, one clip)",
        stride=2,
        resize=(256, 256),
    )
)
def s3d(in_chans: int = 3, temporal_stride: int = 8) -> Inception3d:
    """Separable convolutions throughout."""
    mean: tuple[float, ...] = (0.43216, 0.394666, 0.37645)
    std: tuple[float, ...] = (0.22803, 0.22145, 0.216989)
    if in_chans != 3:
        mean, std = (sum(mean) / 3,) * in_chans, (sum(std) / 3,) * in_chans
    return Inception3d(Variant(), mean, std, in_chans, temporal_stride=temporal_stride)


@register(
    Spec(
        "video",
        f"{_S3D_PAPER} (TensorFlow slim's definition)",
        8_310_064,
        400,
        (64, 224, 224),
        64.184,
        66.4,
        note="parameters with batch norm (scale and shift) everywhere; slim has none after convolutions over time",
        stride=1,
        resize=256,
    )
)
def s3d_dense_stem(in_chans: int = 3, temporal_norm: bool = True, temporal_stride: int = 8) -> Inception3d:
    """A dense 3x7x7 stem; ``temporal_norm=False`` leaves out batch norm after convolutions over time, as slim does."""
    variant = Variant(stem=(3, 7, 7), same=True, temporal_norm=temporal_norm)
    half = (0.5,) * in_chans
    return Inception3d(variant, half, half, in_chans, temporal_stride=temporal_stride)


@register(
    Spec(
        "video",
        f"{_S3D_PAPER}; the definition of Miech et al., CVPR 2020 (HowTo100M)",
        9_649_872,
        512,
        (64, 224, 224),
        64.182,
        71.4,
        74.7,
        "classes are the 512 of the joint space with text; top-1 the paper's, of its own S3D-G",
    )
)
def s3d_g(in_chans: int = 3, space_to_depth: bool = False, temporal_stride: int = 8) -> Inception3d:
    """A dense 3x7x7 stem and gates.

    With ``space_to_depth`` the stem is 4x8x8, which is 2x4x4 over the pixels of cells of 2x2x2 as channels: so it is in
    the weights of HowTo100M, which bring the option with them. Frames, rows and columns are then even.
    """
    variant = Variant(
        stem=(4, 8, 8) if space_to_depth else (3, 7, 7), same=True, gated=True, eps=1e-5, mean_window=False
    )
    return Inception3d(variant, (), (), in_chans, 0.0, temporal_stride)
