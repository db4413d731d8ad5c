"""X3D (Feichtenhofer, CVPR 2020): inverted bottlenecks with depthwise 3x3x3 convolutions, one network at four sizes.

Parameter names are PySlowFast's, but that its ``head`` ends with ``conv_5``: ``head.lin_5`` and ``head.projection`` are
``classifier.lin_5`` (here a linear map of the mean) and ``classifier.projection``.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register

_EXPANSION = 2.25  # of channels within a block
_SQUEEZE = 16  # of channels within squeeze and excitation


class Pointwise(nn.Conv3d):
    """A 1x1x1 convolution with a stride over space; where channels lie last in memory, a linear map of them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 1, (1, stride, stride), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_contiguous(memory_format=torch.channels_last_3d):
            return super().forward(x)
        _, y_step, x_step = self.stride
        rows = x.movedim(1, -1)[:, :, ::y_step, ::x_step]  # [B, T, Y, X, C]
        return F.linear(rows, self.weight.flatten(1), self.bias).movedim(-1, 1)


class FrameConv(nn.Conv3d):
    """A 1x3x3 convolution with stride (1, 2, 2), on a CPU run frame by frame; its output has channels last in memory.

    Depthwise convolutions are several times as fast in that order, and all layers of this file keep it.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        frames = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)  # [B T, C, H, W]
        found = F.conv2d(frames, self.weight.squeeze(2), self.bias, stride=2, padding=1)
        return found.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class TemporalConv(nn.Conv3d):
    """A depthwise 5x1x1 convolution, run over ``[B, C, T, H W]``: the library has a fast one in two dimensions only."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (5, 1, 1), padding=(2, 0, 0), groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Flattened with channels last: a batch of one would otherwise lose that order.
        flat = x.movedim(1, -1).flatten(2, 3).movedim(-1, 1)
        found = F.conv2d(flat, self.weight.flatten(3), self.bias, padding=(2, 0), groups=self.groups)
        return found.unflatten(3, x.shape[3:])


class DepthwiseConv(nn.Conv3d):
    """A depthwise 3x3x3 convolution with a stride over space; in bfloat16 on a CPU the sum of three over frames.

    The library's gradients of three dimensions and of strides take several times as long there. Without gradients, and
    in single precision, they do not.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 3, (1, stride, stride), 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not (torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return super().forward(x)
        frames = x.transpose(1, 2).flatten(0, 1)  # [B T, C, H, W]
        step = self.stride[1]
        before, found, after = (
            F.conv2d(frames, weight, padding=1, groups=self.groups)[..., ::step, ::step].unflatten(0, (len(x), -1))
            for weight in self.weight.unbind(2)
        )
        found = found + F.pad(before[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)) + F.pad(after[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
        return found.transpose(1, 2)


class SqueezeExcitation(nn.Module):
    """Channels weighted by what their means say: ``[B, C, T, H, W]`` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Rounded to a multiple of 8, never more than a tenth down.
        squeezed = channels / _SQUEEZE
        width = max(8, int(squeezed + 4) // 8 * 8)
        width += 8 if width < 0.9 * squeezed else 0
        self.fc1 = Pointwise(channels, width, bias=True)
        self.fc2 = Pointwise(width, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3, 4), keepdim=True)
        return x * self.fc2(self.fc1(mean).relu()).sigmoid()


class Block(nn.Module):
    """``[B, C, T, H, W]`` to ``[B, D, T, H / stride, W / stride]``: 1x1x1, depthwise 3x3x3, 1x1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int, squeeze: bool, shortcut_norm: bool) -> None:
        super().__init__()
        inner = int(_EXPANSION * outputs)
        layers: list[tuple[str, nn.Module]] = [
            ("a", Pointwise(inputs, inner)),
            ("a_bn", nn.BatchNorm3d(inner)),
            ("a_relu", nn.ReLU(inplace=True)),
            ("b", DepthwiseConv(inner, stride)),
            ("b_bn", nn.BatchNorm3d(inner)),
            *([("se", SqueezeExcitation(inner))] if squeeze else []),
            ("b_swish", nn.SiLU(inplace=True)),
            ("c", Pointwise(inner, outputs)),
            ("c_bn", nn.BatchNorm3d(outputs)),
        ]
        self.branch1: nn.Module | None = None
        self.branch1_bn: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.branch1 = Pointwise(inputs, outputs, stride)
            if shortcut_norm or inputs != outputs:
                self.branch1_bn = nn.BatchNorm3d(outputs)
        self.branch2 = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.branch1 is None else self.branch1(x)
        if self.branch1_bn is not None:
            shortcut = self.branch1_bn(shortcut)
        return torch.relu(shortcut + self.branch2(x))


class X3D(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 432, T, H / 32, W / 32]`` (2.25 times the last width).

    Args:
        depths: blocks of the four stages.
        widths: channels of the four stages; the stem has those of the first.
        hidden: channels between the mean and the classifier.
        shortcut_norm: normalise the first shortcut (PySlowFast); pytorchvideo leaves that out.
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        widths: tuple[int, int, int, int] = (24, 48, 96, 192),
        hidden: int = 2048,
        in_chans: int = 3,
        shortcut_norm: bool = True,
    ) -> None:
        super().__init__((0.45,) * in_chans, (0.225,) * in_chans, dropout=0.5)
        stem = OrderedDict(
            conv_xy=FrameConv(in_chans, widths[0]),
            conv=TemporalConv(widths[0]),
            bn=nn.BatchNorm3d(widths[0]),
            relu=nn.ReLU(inplace=True),
        )
        self.s1 = nn.Sequential(OrderedDict(pathway0_stem=nn.Sequential(stem)))
        info = [FeatureInfo(widths[0], (1, 2, 2), "s1")]
        inputs = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), 2):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range(depth):
                squeeze = i % 2 == 0
                blocks[f"pathway0_res{i}"] = Block(inputs, width, 1 if i else 2, squeeze, shortcut_norm)
                inputs = width
            self.add_module(f"s{number}", nn.Sequential(blocks))
            info.append(FeatureInfo(width, (1, 2**number, 2**number), f"s{number}"))
        last, self.hidden = int(_EXPANSION * inputs), hidden
        self.head = nn.Sequential(
            OrderedDict(
                conv_5=Pointwise(inputs, last),
                conv_5_bn=nn.BatchNorm3d(last),
                conv_5_relu=nn.ReLU(inplace=True),
            )
        )
        self.feature_info = FeatureInfo(last, (1, 32, 32))
        self.stage_info = (*info, FeatureInfo(last, (1, 32, 32), "head"))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Block):
                nn.init.zeros_(module.branch2.get_parameter("c_bn.weight"))

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put a new linear map to classes on the head's hidden layer, or take that off, too (None or 0)."""
        if not num_classes:
            self.classifier = nn.Identity()
            return
        if isinstance(self.classifier, nn.Identity):
            hidden = nn.Linear(self.num_features, self.hidden, bias=False)
            nn.init.kaiming_normal_(hidden.weight, mode="fan_out", nonlinearity="relu")
            layers = OrderedDict(lin_5=hidden, relu=nn.ReLU(inplace=True), dropout=self.dropout)
            self.classifier = nn.Sequential(layers)
        projection = nn.Linear(self.hidden, num_classes)
        nn.init.normal_(projection.weight, std=0.01)
        nn.init.zeros_(projection.bias)
        self.classifier.add_module("projection", projection)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(info.name, self.get_submodule(info.name)) for info in self.stage_info]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(features.mean((2, 3, 4)))


_PAPER = "Feichtenhofer, CVPR 2020"
_NOTE = (
    "parameters with PySlowFast's norm on the first shortcut; shortcut_norm=False is pytorchvideo's, 48 fewer; "
    "top-1 pytorchvideo's"
)


@register(Spec("video", _PAPER, 3_794_322, 400, (4, 160, 160), 0.605, None, 69.1, _NOTE, stride=12, resize=182))
def x3d_xs(in_chans: int = 3, shortcut_norm: bool = True) -> X3D:
    """The network of `x3d_m` on 4 frames."""
    return X3D((3, 5, 11, 7), in_chans=in_chans, shortcut_norm=shortcut_norm)


@register(Spec("video", _PAPER, 3_794_322, 400, (13, 160, 160), 1.963, None, 73.3, _NOTE, stride=6, resize=182))
def x3d_s(in_chans: int = 3, shortcut_norm: bool = True) -> X3D:
    """The network of `x3d_m` on 13 frames at the resolution of `x3d_xs`."""
    return X3D((3, 5, 11, 7), in_chans=in_chans, shortcut_norm=shortcut_norm)


@register(Spec("video", _PAPER, 3_794_322, 400, (16, 224, 224), 4.732, None, 75.9, _NOTE, stride=5, resize=256))
def x3d_m(in_chans: int = 3, shortcut_norm: bool = True) -> X3D:
    """26 blocks."""
    return X3D((3, 5, 11, 7), in_chans=in_chans, shortcut_norm=shortcut_norm)


@register(Spec("video", _PAPER, 6_153_432, 400, (16, 312, 312), 18.368, None, 77.4, _NOTE, stride=5, resize=356))
def x3d_l(in_chans: int = 3, shortcut_norm: bool = True) -> X3D:
    """55 blocks."""
    return X3D((5, 10, 25, 15), in_chans=in_chans, shortcut_norm=shortcut_norm)
