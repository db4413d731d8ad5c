"""Two streams that meet on the way: fusion of their last maps, and residual connections from motion to appearance.

Feichtenhofer et al., CVPR 2016 and NIPS 2016. Both classify each stream, after a maximum over five steps of time, and
average the probabilities.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.flow_stack import of_flow
from avlearn.models.video.frame_vgg import VGG_16, FrameVGG
from avlearn.models.video.resnet import VideoBlock, init_weights
from avlearn.models.video.tsn import stacked_resnet
from avlearn.models.video.two_stream import TwoStream

MapFusion = Literal["sum", "max", "conv"]
_STEPS, _STRIDE = 5, 2  # of time, that the maximum before the classifiers sees, and from one of them to the next
_SPATIAL, _TEMPORAL = 0.25, 0.75  # of each map, in what the convolution begins as


class MeetingStreams(TwoStream):
    """Streams that are classified from the maps they end with, after a maximum over time.

    Args:
        space: rows and columns of that maximum, and its stride over them.
    """

    def __init__(self, spatial: Encoder, temporal: Encoder, space: int = 1) -> None:
        super().__init__(spatial, temporal)
        self.space = space

    def pooled(self, features: Tensor) -> Tensor:
        """The maximum over five steps of time; of fewer, over all."""
        steps, rows, columns = features.shape[2:]
        kernel = (min(_STEPS, steps), min(self.space, rows), min(self.space, columns))
        return F.max_pool3d(features, kernel, (_STRIDE, self.space, self.space))

    def forward_head(self, features: Tensor) -> Tensor:
        return super().forward_head(self.pooled(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class FusedStreams(MeetingStreams):
    """The last maps of both streams are fused; features are the fused map and that of the temporal stream.

    Args:
        spatial, temporal: of one plan; a last stage ``pool5`` is left to the maximum before the classifiers.
        fusion: of the rectified maps: their sum, their maximum, or a convolution of both over time and space, which
            begins as a blurred sum of a quarter of the one and three quarters of the other.
        kernel: steps, rows and columns of that convolution.
    """

    def __init__(self, spatial: Encoder, temporal: Encoder, fusion: MapFusion, kernel: int = 3) -> None:
        pooled = spatial.stage_info[-1].name == "pool5"
        super().__init__(spatial, temporal, 2 if pooled else 1)
        if fusion not in ("sum", "max", "conv"):
            raise ValueError(f"fusion is sum, max or conv, not {fusion}")
        self.fusion, self.count = fusion, len(spatial.stage_info) - pooled
        last = spatial.stage_info[self.count - 1]
        if fusion == "conv":
            self.fuse = _gaussian_sum(last.channels, kernel)
        count = len(spatial.stage_info)
        kept = [info for i, info in enumerate(self.stage_info) if i % count < self.count]
        self.stage_info = tuple(kept)
        self.feature_info = FeatureInfo(2 * last.channels, kept[-1].stride)
        self.least_side = max(self.least_side // self.space, 1)
        spatial.least_side = temporal.least_side = self.least_side

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """Of each stream before they are fused."""
        found = {}
        for name, stream, part in zip(
            ("spatial", "temporal"), (self.spatial, self.temporal), self.streams(x), strict=True
        ):
            part = stream.prepared(part)
            for stage, layers in stream.stages()[: self.count]:
                found[f"{name}.{stage}"] = part = self.run(layers, part)
        return found

    def forward_features(self, x: Tensor) -> Tensor:
        found = list(self.forward_stages(x).values())
        appearance, motion = found[self.count - 1], found[-1]
        if self.fusion == "conv":
            fused = F.relu(self.fuse(torch.cat([appearance, motion], 1)))
        else:
            fused = appearance + motion if self.fusion == "sum" else torch.maximum(appearance, motion)
        return torch.cat([fused, motion], 1)


def _gaussian_sum(channels: int, kernel: int) -> Conv3d:
    """A convolution of two maps to one of as many channels."""
    conv = Conv3d(2 * channels, channels, kernel, padding=kernel // 2)
    init_weights(conv)  # no bias at first
    line = torch.exp(-0.5 * (torch.arange(kernel, dtype=torch.float32) - kernel // 2).square())
    blur = line[:, None, None] * line[:, None] * line
    same = torch.eye(channels)
    with torch.no_grad():
        conv.weight.copy_(
            torch.cat([_SPATIAL * same, _TEMPORAL * same], 1)[..., None, None, None] * (blur / blur.sum())
        )
    return conv


class STResNet(MeetingStreams):
    """Residual networks of frames and of flow; in each group, motion enters a residual unit of appearance.

    The second unit's branch sees the sum of the first one of appearance, before it is rectified, and of motion; its
    shortcut does not. Its 1 x 1 convolutions see three steps of time, in both streams.

    Args:
        flows: of a stack.
        depths: units of each group, two at least.
        width: channels of the stems.
    """

    def __init__(self, flows: int = 10, depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> None:
        spatial, temporal = (stacked_resnet(*front, depths, width) for front in ((1, 3), (flows, 2)))
        for stream in (spatial, temporal):
            for name in _GROUPS:
                _see_three_steps(getattr(stream, name)[1])
        super().__init__(spatial, temporal)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        frames, flow = self.streams(x)
        appearance = self.run(self.spatial.get_submodule("stem"), self.spatial.prepared(frames))
        motion = self.run(self.temporal.get_submodule("stem"), self.temporal.prepared(flow))
        found = [("stem", appearance, motion)]
        for name in _GROUPS:
            appearance, motion = self.run(
                _through_group, getattr(self.spatial, name), getattr(self.temporal, name), appearance, motion
            )
            found.append((name, appearance, motion))
        stages = {f"spatial.{name}": one for name, one, _ in found}
        return stages | {f"temporal.{name}": other for name, _, other in found}

    def forward_features(self, x: Tensor) -> Tensor:
        found = self.forward_stages(x)
        return torch.cat([found[f"spatial.{_GROUPS[-1]}"], found[f"temporal.{_GROUPS[-1]}"]], 1)


_GROUPS = ("layer1", "layer2", "layer3", "layer4")


def _see_three_steps(block: VideoBlock) -> None:
    """Give both 1 x 1 convolutions of a bottleneck three steps of time."""
    for layers in (block.conv1, block.conv3):
        outputs, inputs = layers.get_parameter("0.weight").shape[:2]
        layers[0] = Conv3d(inputs, outputs, (3, 1, 1), padding=(1, 0, 0), bias=False)
        init_weights(layers[0])


def _through_group(spatial: nn.Sequential, temporal: nn.Sequential, x: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Appearance and motion through one group of units each."""
    first, second, *rest = spatial
    moving, *others = temporal
    flow = moving(flow)
    x = _branch(first, x) + first.get_submodule("downsample")(x)
    x = F.relu(F.relu(x) + _branch(second, x + flow))
    for unit in rest:
        x = unit(x)
    for unit in others:
        flow = unit(flow)
    return x, flow


def _branch(unit: nn.Module, x: Tensor) -> Tensor:
    """The residual branch of a bottleneck."""
    for name in ("conv1", "conv2", "conv3"):
        x = unit.get_submodule(name)(x)
    return x


_FUSION = "Feichtenhofer et al., CVPR 2016"
_CLIP = (50, 224, 224)


@register(
    Spec(
        "video",
        _FUSION,
        283_514_762,
        101,
        _CLIP,
        170.035,
        note="101 classes of UCF101",
        stride=1,
        resize=256,
        takes="video+flow",
    )
)
def two_stream_fusion_vgg16(fusion: MapFusion = "conv", flow_method: str = "lucas_kanade") -> FusedStreams:
    """VGG-16 on a frame and on the flow of each ten, fused after the last convolution over 3 x 3 x 3."""
    streams = FrameVGG(VGG_16, dropout=0.85), of_flow(FrameVGG(VGG_16, 10, 2, 0.85), flow_method)
    return FusedStreams(*streams, fusion)


@register(
    Spec(
        "video",
        _FUSION,
        55_873_930,
        101,
        _CLIP,
        46.271,
        note="on ResNet-50, where the paper has VGG-16; maps are fused by 1 x 1 x 1; 101 classes of UCF101",
        stride=1,
        resize=256,
        takes="video+flow",
    )
)
def two_stream_fusion_r50(fusion: MapFusion = "conv", flow_method: str = "lucas_kanade") -> FusedStreams:
    """ResNet-50 on a frame and on the flow of each ten, fused after the last group."""
    return FusedStreams(stacked_resnet(1, 3), of_flow(stacked_resnet(10), flow_method), fusion, 1)


@register(
    Spec(
        "video",
        "Feichtenhofer et al., NIPS 2016",
        58_624_394,
        101,
        _CLIP,
        52.436,
        note="ST-ResNet; 101 classes of UCF101",
        stride=1,
        resize=256,
        takes="video+flow",
    )
)
def st_r50(flow_method: str = "lucas_kanade") -> STResNet:
    """ResNet-50 on a frame and on the flow of each ten; motion enters the residual units of appearance."""
    return of_flow(STResNet(), flow_method)
