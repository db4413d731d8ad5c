"""Two streams, one of frames and one of their optical flow, fused by their scores (Simonyan & Zisserman, NIPS 2014)."""

from collections.abc import Callable
from math import lcm
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import CHANNELS, Spec, find_encoder, register
from avlearn.models.video.bn_inception import spatial_bn_inception, temporal_bn_inception
from avlearn.models.video.flow_stack import of_flow
from avlearn.models.video.frame_vgg import spatial_cnn_m, temporal_cnn_m
from avlearn.models.video.inception import i3d_inception
from avlearn.models.video.tsn import temporal_r50, tsn_r50

ScoreRule = Literal["average", "sum", "svm"]
_COLOURS = CHANNELS["video"]
_LEAST = 1e-12  # of a probability


class ScoreFusion(nn.Module):
    """Scores ``[B, classes]`` of two streams to one.

    Args:
        rule: ``average``: the logarithm of the weighted mean of their probabilities, whose softmax is that mean;
            ``sum``: the weighted sum of the scores; ``svm``: a linear classifier of both streams' probabilities, each
            clip's of unit length, as the paper's support vector machine has them.
        classes: number of them.
        flow_weight: of the temporal stream, where the spatial one has 1.
    """

    def __init__(self, rule: ScoreRule, classes: int, flow_weight: float = 1.0) -> None:
        super().__init__()
        self.rule, self.flow_weight = rule, flow_weight
        if rule == "svm":
            self.linear = nn.Linear(2 * classes, classes)

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        if self.rule == "sum":
            return spatial + self.flow_weight * temporal
        if self.rule == "svm":
            streams = [F.normalize(scores.softmax(1)) for scores in (spatial, temporal)]
            return self.linear(torch.cat(streams, 1))
        mean = (spatial.softmax(1) + self.flow_weight * temporal.softmax(1)) / (1 + self.flow_weight)
        return mean.clamp(min=_LEAST).log()


class TwoStream(Encoder):
    """``[B, 5, T, H, W]`` in [0, 1], colours and flow of each frame, to both streams' features, the spatial first.

    Features are ``[B, D + D', T', Y, X]`` on the grid of the temporal stream; where its steps last longer, the spatial
    one sees the frame in the middle of each.

    The classifiers of both streams are ``spatial.classifier`` and ``temporal.classifier``.

    Args:
        spatial, temporal: of 3 and of 2 channels; their cells are equally large.
        rule, flow_weight: see `ScoreFusion`.

    Raises:
        ModelError: they see other channels, or have other grids.
    """

    in_chans = CHANNELS["video+flow"]

    def __init__(
        self, spatial: Encoder, temporal: Encoder, rule: ScoreRule = "average", flow_weight: float = 1.0
    ) -> None:
        super().__init__()
        if rule not in ("average", "sum", "svm"):
            raise ValueError(f"fusion is average, sum or svm, not {rule}")
        if (spatial.in_chans, temporal.in_chans) != (_COLOURS, CHANNELS["flow"]):
            raise ModelError(f"streams see 3 and 2 channels, not {spatial.in_chans} and {temporal.in_chans}")
        own, other = spatial.feature_info, temporal.feature_info
        self.every = other.stride[0] // own.stride[0]
        if (own.stride[0] * self.every, *own.stride[1:]) != other.stride:
            raise ModelError(f"steps of the streams, {own.stride} and {other.stride} (t, y, x), do not fit together")
        self.spatial, self.temporal, self.rule, self.flow_weight = spatial, temporal, rule, flow_weight
        self.frame_multiple = lcm(self.every * spatial.frame_multiple, temporal.frame_multiple)
        self.least_frames = max(self.every * spatial.least_frames, temporal.least_frames)
        self.least_side = max(spatial.least_side, temporal.least_side)
        self.flow_method = temporal.flow_method
        self.feature_info = FeatureInfo(own.channels + other.channels, other.stride)
        self.stage_info = (*_stages_of("spatial", spatial, self.every), *_stages_of("temporal", temporal, 1))

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put new classifiers on both streams, and what fuses their scores, or take all off (None or 0)."""
        self.spatial.reset_classifier(num_classes)
        self.temporal.reset_classifier(num_classes)
        fused = ScoreFusion(self.rule, num_classes, self.flow_weight) if num_classes else nn.Identity()
        self.classifier = fused

    def as_tower(self) -> Self:
        self.spatial.as_tower()
        self.temporal.as_tower()
        return super().as_tower()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        super().set_grad_checkpointing(enable)
        self.spatial.set_grad_checkpointing(enable)
        self.temporal.set_grad_checkpointing(enable)

    def streams(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the spatial stream, ``[B, 3, T', H, W]``, and of the temporal one."""
        self.check(x)
        return x[:, :_COLOURS, self.every // 2 :: self.every], x[:, _COLOURS:]

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """Of both streams, ``spatial.NAME`` before ``temporal.NAME``."""
        frames, flow = self.streams(x)
        found = {f"spatial.{name}": stage for name, stage in self.spatial.forward_stages(frames).items()}
        return found | {f"temporal.{name}": stage for name, stage in self.temporal.forward_stages(flow).items()}

    def forward_features(self, x: Tensor) -> Tensor:
        frames, flow = self.streams(x)
        return torch.cat([self.spatial.forward_features(frames), self.temporal.forward_features(flow)], 1)

    def stream_scores(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, classes]`` of each stream (or pooled features, where there is no classifier)."""
        own, other = features.split([self.spatial.num_features, self.temporal.num_features], 1)
        return self.spatial.forward_head(own), self.temporal.forward_head(other)

    def fused(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """Scores of both streams to one; pooled features side by side."""
        if isinstance(self.classifier, nn.Identity):
            return torch.cat([spatial, temporal], 1)
        return self.classifier(spatial, temporal)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.fused(*self.stream_scores(features))

    def forward(self, x: Tensor) -> Tensor:
        # Each stream as it classifies alone: some read scores from more than their features.
        frames, flow = self.streams(x)
        return self.fused(self.spatial(frames), self.temporal(flow))


def _stages_of(name: str, stream: Encoder, every: int) -> list[FeatureInfo]:
    return [
        FeatureInfo(info.channels, (info.stride[0] * every, *info.stride[1:]), f"{name}.{info.name}")
        for info in stream.stage_info
    ]


def _paired(
    spatial: Callable[..., Encoder], temporal: Callable[..., Encoder], rule: ScoreRule, flow_weight: float, method: str
) -> TwoStream:  # fmt: skip
    return TwoStream(spatial(), of_flow(temporal(in_chans=2), method), rule, flow_weight)


_PAPER = "Simonyan & Zisserman, NIPS 2014"
_TSN = "Wang et al., ECCV 2016"


@register(
    Spec(
        "video",
        f"{_PAPER}; the networks: Tran et al., CVPR 2018",
        63_008_445,
        400,
        (16, 112, 112),
        80.928,
        note="parameters are of two r2plus1d_18; spatial=NAME and temporal=NAME take any two encoders on one grid",
        stride=2,
        resize=(128, 171),
        takes="video+flow",
    )
)
def two_stream(
    spatial: str = "r2plus1d_18",
    temporal: str = "r2plus1d_18",
    fusion: ScoreRule = "average",
    flow_weight: float = 1.0,
    flow_method: str = "lucas_kanade",
) -> TwoStream:
    """Any two video encoders, one on the frames and one on their flow, which has to have the option ``in_chans``."""
    return _paired(find_encoder(spatial)[1], find_encoder(temporal)[1], fusion, flow_weight, flow_method)


@register(
    Spec(
        "video", _PAPER, 181_335_594, 101, (10, 224, 224), 4.801,
        note="101 classes of UCF101", stride=1, resize=256, takes="video+flow",
    )
)  # fmt: skip
def two_stream_cnn_m(
    fusion: ScoreRule = "average", flow_weight: float = 1.0, flow_method: str = "lucas_kanade"
) -> TwoStream:
    """CNN-M-2048 on a frame and on the flow of ten."""
    return _paired(spatial_cnn_m, temporal_cnn_m, fusion, flow_weight, flow_method)


@register(
    Spec(
        "video", _TSN, 21_382_432, 400, (15, 224, 224), 13.016,
        note="scores of three frames and of three stacks of five flows", stride=1, resize=256, takes="video+flow",
    )
)  # fmt: skip
def two_stream_bn_inception(
    fusion: ScoreRule = "sum", flow_weight: float = 1.5, flow_method: str = "lucas_kanade"
) -> TwoStream:
    """TSN's streams; the weight of flow is the paper's."""
    return _paired(spatial_bn_inception, temporal_bn_inception, fusion, flow_weight, flow_method)


@register(
    Spec(
        "video", _TSN, 48_677_216, 400, (15, 224, 224), 25.351,
        note="on ResNet-50, where the paper has BN-Inception", stride=1, resize=256, takes="video+flow",
    )
)  # fmt: skip
def two_stream_r50(fusion: ScoreRule = "sum", flow_weight: float = 1.5, flow_method: str = "lucas_kanade") -> TwoStream:
    """TSN's streams on ResNet-50; the weight of flow is the paper's."""
    return _paired(tsn_r50, temporal_r50, fusion, flow_weight, flow_method)


@register(
    Spec(
        "video",
        "Carreira and Zisserman, CVPR 2017",
        25_372_576,
        400,
        (64, 224, 224),
        213.494,
        216.0,
        note="216 is twice the 108 that papers print of one stream",
        stride=1,
        resize=256,
        takes="video+flow",
    )
)
def two_stream_i3d(
    fusion: ScoreRule = "average", flow_weight: float = 1.0, flow_method: str = "lucas_kanade"
) -> TwoStream:
    """I3D on frames and on flow."""
    return _paired(i3d_inception, i3d_inception, fusion, flow_weight, flow_method)
