"""ResNet-50 on frames from all of a video: TSN averages their scores, TSM shifts channels among them besides.

TSN's temporal stream sees stacks of optical flow instead.

Temporal segment networks (Wang et al., ECCV 2016); temporal shift module (Lin et al., ICCV 2019), in the residual
branch of every block. Their trunk, and how its parameters are named, is in ``resnet.py``: TSM adds none.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avlearn.models.registry import Spec, register
from avlearn.models.video.flow_stack import of_flow, stack_conv
from avlearn.models.video.resnet import DEPTHS, VideoResNet, flat, simple_stem, statistics

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TSN(VideoResNet):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 32 width, T, H / 32, W / 32]``; scores of frames are averaged.

    Args:
        segments: scores are of so many frames: of the middle of each equal part of the clip, or while training of any
            place in it; None: of all. Features are always of all frames.
        depths: blocks of each group.
        width: channels of the stem.
    """

    def __init__(
        self, segments: int | None = None, in_chans: int = 3, depths: Sequence[int] = DEPTHS[50], width: int = 64
    ) -> None:
        super().__init__(
            simple_stem(in_chans, width, 1, pool=1),
            (1, 4),
            depths,
            [flat] * 4,
            bottleneck=True,
            width=width,
            mean=statistics(_IMAGENET_MEAN, in_chans),
            std=statistics(_IMAGENET_STD, in_chans),
            dropout=0.5,
        )
        if segments is not None and segments < 1:
            raise ValueError(f"segments are 1 or more, not {segments}")
        self.segments = segments

    def sampled(self, x: Tensor) -> Tensor:
        """One frame of each segment: ``[B, C, segments, H, W]``."""
        if self.segments is None:
            return x
        within = torch.rand(self.segments, device=x.device) if self.training else 0.5
        places = torch.arange(self.segments, device=x.device) + within
        return x[:, :, (places * x.shape[2] / self.segments).long()]

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return super().forward(self.sampled(x))


def shifted(x: Tensor, parts: int = 8) -> Tensor:
    """``[B, C, T, Y, X]`` with channels of other frames, and zeros where there is none.

    Args:
        parts: the first of so many equal parts of the channels comes from the next frame, the second from the one
            before.
    """
    count = x.shape[1] // parts
    later, earlier, same = x[:, :count], x[:, count : 2 * count], x[:, 2 * count :]
    nothing = torch.zeros_like(later[:, :, :1])
    return torch.cat([torch.cat([later[:, :, 1:], nothing], 2), torch.cat([nothing, earlier[:, :, :-1]], 2), same], 1)


class Shifted(nn.Sequential):
    """Layers that see shifted channels; parameters keep their names."""

    def forward(self, x: Tensor) -> Tensor:
        x = shifted(x)
        for layer in self:
            x = layer(x)
        return x


class TSM(TSN):
    """`TSN` whose residual blocks see an eighth of their channels one frame early, and an eighth one frame late."""

    def __init__(
        self, segments: int | None = None, in_chans: int = 3, depths: Sequence[int] = DEPTHS[50], width: int = 64
    ) -> None:
        super().__init__(segments, in_chans, depths, width)
        for info in self.stage_info[1:]:
            for block in getattr(self, info.name):
                block.conv1 = Shifted(*block.conv1)


@register(
    Spec(
        "video",
        "Wang et al., ECCV 2016",
        24_327_632,
        400,
        (8, 224, 224),
        32.698,
        top1=74.1,
        note="on ResNet-50, where the paper has BN-Inception; accuracy: mmaction2, of 25 segments",
        stride=32,
        resize=256,
    )
)
def tsn_r50(segments: int | None = None, in_chans: int = 3) -> TSN:
    """Every frame by itself; the consensus is the average of scores."""
    return TSN(segments, in_chans)


@register(
    Spec(
        "video",
        "Lin et al., ICCV 2019",
        24_327_632,
        400,
        (8, 224, 224),
        32.698,
        33,
        74.1,
        "accuracy: the authors', of ten clips sampled densely; mmaction2 counts as many parameters",
        stride=8,
        resize=256,
    )
)
def tsm_r50(segments: int | None = None, in_chans: int = 3) -> TSM:
    """Channels are shifted by a frame in every block: an eighth of them forth, an eighth back."""
    return TSM(segments, in_chans)


def stacked_resnet(flows: int, in_chans: int = 2, depths: Sequence[int] = DEPTHS[50], width: int = 64) -> VideoResNet:
    """A ResNet of bottlenecks on stacks of frames: ``[B, C, T, H, W]`` to ``[B, 32 width, T / flows, H / 32, W / 32]``.

    Args:
        flows: frames that a stack has; each is seen once.
        in_chans: 2 of flow, 3 of colours.
        depths: blocks of each group.
        width: channels of the stem.
    """
    stem = simple_stem(in_chans, width, 1, pool=1)
    stem[0] = stack_conv(in_chans, width, 7, flows)
    model = VideoResNet(
        stem,
        (flows, 4),
        depths,
        [flat] * 4,
        bottleneck=True,
        width=width,
        mean=_IMAGENET_MEAN if in_chans == 3 else (0.5,) * in_chans,
        std=statistics(_IMAGENET_STD, in_chans),
        dropout=0.5,
    )
    model.frame_multiple = flows
    return model


@register(
    Spec(
        "video",
        "Wang et al., ECCV 2016",
        24_349_584,
        400,
        (15, 224, 224),
        13.088,
        note="on ResNet-50, where the paper has BN-Inception; scores of stacks of five flows are averaged",
        stride=1,
        resize=256,
        takes="flow",
    )
)
def temporal_r50(flows: int = 5, flow_method: str = "lucas_kanade", in_chans: int = 2) -> VideoResNet:
    """The temporal stream of TSN: the flow of each five frames by itself."""
    return of_flow(stacked_resnet(flows, in_chans), flow_method)
