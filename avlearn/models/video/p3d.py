"""Pseudo-3D residual networks (Qiu, Yao and Mei, ICCV 2017): three ways to put time beside space, in turns.

A block is A (space, then time), B (both beside each other) or C (time adds to space). The last group is 2-D: it sees
each remaining frame for itself. Parameter names are those of the released PyTorch weights; weights of the last group
are 2-D there and have a time axis of 1 here.
"""

from collections.abc import Callable
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.resnet import Group, init_classifier, init_weights, statistics, time_strides

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PseudoBlock(nn.Module):
    """``[B, C, T, Y, X]`` to ``[B, 4 planes, T, Y / stride, X / stride]``.

    Args:
        kind: A, B or C; "2d" for none of them.
    """

    def __init__(self, inputs: int, planes: int, kind: str, stride: int) -> None:
        super().__init__()
        self.kind = kind
        step = (1, stride, stride)
        self.conv1, self.bn1 = Conv3d(inputs, planes, 1, step, bias=False), nn.BatchNorm3d(planes)
        space = Conv3d(planes, planes, (1, 3, 3), 1, (0, 1, 1), bias=False)
        if kind == "2d":
            self.conv_normal, self.bn_normal = space, nn.BatchNorm3d(planes)
        else:
            self.conv2, self.bn2 = space, nn.BatchNorm3d(planes)
            self.conv3, self.bn3 = Conv3d(planes, planes, (3, 1, 1), 1, (1, 0, 0), bias=False), nn.BatchNorm3d(planes)
        self.conv4, self.bn4 = Conv3d(planes, 4 * planes, 1, bias=False), nn.BatchNorm3d(4 * planes)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != 4 * planes:
            project = Conv3d(inputs, 4 * planes, 1, step, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm3d(4 * planes))
        self.nonlocal_block: nn.Module = nn.Identity()  # see `add_nonlocal`

    def _space_and_time(self, x: Tensor) -> Tensor:
        if self.kind == "2d":
            return F.relu(self.bn_normal(self.conv_normal(x)))
        space = F.relu(self.bn2(self.conv2(x)))
        time = F.relu(self.bn3(self.conv3(x if self.kind == "B" else space)))
        return time if self.kind == "A" else time + space

    def forward(self, x: Tensor) -> Tensor:
        y = self._space_and_time(F.relu(self.bn1(self.conv1(x))))
        return self.nonlocal_block(F.relu(self.bn4(self.conv4(y)) + self.downsample(x)))


class P3D(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 2048, T / 16, H / 32, W / 32]``; two channels are optical flow.

    Args:
        depths: blocks of each group.
        in_chans: C.
        temporal_stride: 1, 2, 4, 8 or 16 (as published) frames a step: late poolings keep them.
    """

    def __init__(self, depths: tuple[int, int, int, int], in_chans: int, temporal_stride: int = 16) -> None:
        # Of optical flow, 0.5 is no motion.
        mean = (0.5, 0.5) if in_chans == 2 else statistics(_MEAN, in_chans)
        super().__init__(mean, statistics(_STD, in_chans), 0.5)
        self.conv1_custom = Conv3d(in_chans, 64, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        times = time_strides((2, 2, 2, 2), temporal_stride)
        self.stem_stride = times[0]
        inputs, done, stages = 64, 0, [FeatureInfo(64, (times[0], 4, 4), "stem")]
        for i, depth in enumerate(depths):
            planes, blocks = 64 * 2**i, []
            for j in range(depth):
                kind = "2d" if i == 3 else "ABC"[(done + j) % 3]
                blocks.append(PseudoBlock(inputs, planes, kind, 2 if i and not j else 1))
                inputs = 4 * planes
            done += depth
            self.add_module(f"layer{i + 1}", Group(blocks, times[i] if i else 1))
            stages.append(FeatureInfo(inputs, (prod(times[: i + 1]), 4 * 2**i, 4 * 2**i), f"layer{i + 1}"))
        self.stage_info = tuple(stages)
        self.feature_info = FeatureInfo(inputs, stages[-1].stride)
        self.least_frames = stages[-1].stride[0]
        init_weights(self)

    def reset_classifier(self, num_classes: int | None) -> None:
        super().reset_classifier(num_classes)
        init_classifier(self.classifier)

    def _stem(self, x: Tensor) -> Tensor:
        time = self.stem_stride
        return F.max_pool3d(F.relu(self.bn1(self.conv1_custom(x))), (time, 3, 3), (time, 2, 2), (0, 1, 1))

    def stages(self) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        return [("stem", self._stem), *((info.name, getattr(self, info.name)) for info in self.stage_info[1:])]


_QIU = "Qiu et al., ICCV 2017"
_CLIP = (16, 160, 160)


@register(Spec("video", _QIU, 25_745_232, 400, _CLIP, 8.442))
def p3d_63(in_chans: int = 3, temporal_stride: int = 16) -> P3D:
    """On the plan of a ResNet-50."""
    return P3D((3, 4, 6, 3), in_chans, temporal_stride)


@register(Spec("video", _QIU, 48_088_400, 400, _CLIP, 12.898))
def p3d_131(in_chans: int = 3, temporal_stride: int = 16) -> P3D:
    """On the plan of a ResNet-101."""
    return P3D((3, 4, 23, 3), in_chans, temporal_stride)


@register(Spec("video", _QIU, 66_492_240, 400, _CLIP, 18.403))
def p3d_199(in_chans: int = 3, temporal_stride: int = 16) -> P3D:
    """On the plan of a ResNet-152."""
    return P3D((3, 8, 36, 3), in_chans, temporal_stride)
