"""SlowFast (Feichtenhofer et al., ICCV 2019): few frames with many channels, many frames with few.

Names: ``slow.*`` and ``fast.*`` as in ``resnet.py``, ``laterals.{i}.{0: conv, 1: norm}``; PySlowFast's
``s{i}.pathway{0,1}_...`` and ``s{i}_fuse.{conv_f2s,bn}`` come to them by renaming. The classifier reads the slow
channels, then the fast ones, as PySlowFast's does.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.bottleneck3d import NONLOCAL_50, inflated
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.nonlocal_block import NonLocalKind, add_nonlocal
from avlearn.models.video.resnet import VideoResNet, init_classifier, init_weights

Lateral = Literal["none", "sum", "concat", "sample", "conv"]
FastInput = Literal["rgb", "gray", "difference", "flow"]
FramePicking = Literal["linspace", "every"]

_SLOW = ((1,), (1,), (3,), (3,))
_FAST = ((3,), (3,), (3,), (3,))
_LUMA = (0.299, 0.587, 0.114)
_WIDTH = 64  # of the slow pathway's first group, as published


class TimeToChannel(nn.Module):
    """``[B, C, alpha T, Y, X]`` to ``[B, alpha C, T, Y, X]``."""

    def __init__(self, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.alpha)).movedim(3, 1).flatten(1, 2)


class TimeSample(nn.Module):
    """``[B, C, alpha T, Y, X]`` to ``[B, C, T, Y, X]``."""

    def __init__(self, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.alpha]


def slow_frames(x: Tensor, alpha: int) -> Tensor:
    """One frame in alpha, the first and the last among them: ``[B, C, T, Y, X]`` to ``[B, C, T / alpha, Y, X]``.

    Released weights were trained on these, not on ``x[:, :, ::alpha]``.
    """
    frames, wanted = x.shape[2], x.shape[2] // alpha
    return x[:, :, torch.arange(wanted, device=x.device) * (frames - 1) // max(wanted - 1, 1)]


class SlowFast(Encoder):
    """``[B, C, T, H, W]`` in [0, 1], T a multiple of alpha, to ``[B, 32 (width + width / beta_inv), T, Y, X]``.

    Y and X are H / 32 and W / 32; with ``output_stride=16``, as for the boxes of AVA, H / 16 and W / 16.

    Slow features are repeated in time and come first.

    Args:
        depth: of both pathways.
        alpha: the slow pathway sees every alpha-th frame.
        beta_inv: the fast pathway has so many times fewer channels.
        lateral: what the slow pathway gets from the fast one after the stem and three groups. ``sum`` and ``concat``
            lay the fast frames of one slow step behind each other as channels; ``sample`` takes one of them; ``conv``
            is a convolution over time with twice as many outputs.
        lateral_kernel: frames that it sees.
        lateral_norm: it is normalized and rectified; not in mmaction2's weights.
        temporal_blocks: blocks of the third group that see several frames, in the slow and the fast pathway.
        fast_input: ``gray``: the luma of the colours; ``difference``: each frame less the one before it; ``flow``: two
            more channels of the input, after the colours, 0.5 where nothing moves.
        frame_picking: of the slow pathway's frames: ``linspace``: see `slow_frames`; ``every``: each alpha-th, the
            first among them (mmaction2's weights).
        output_stride: see `inflated`.
        width: channels of the slow pathway's stem.
    """

    luma: Tensor  # for ``gray``

    def __init__(
        self,
        depth: int,
        alpha: int,
        *,
        beta_inv: int = 8,
        lateral: Lateral = "conv",
        lateral_kernel: int = 5,
        lateral_norm: bool = True,
        temporal_blocks: Sequence[int] = (6, 6),
        fast_input: FastInput = "rgb",
        frame_picking: FramePicking = "linspace",
        output_stride: int = 32,
        in_chans: int = 3,
        width: int = _WIDTH,
    ) -> None:
        if fast_input not in ("rgb", "gray", "difference", "flow"):
            raise ValueError(f"fast_input is rgb, gray, difference or flow, not {fast_input}")
        if fast_input == "gray" and in_chans != 3:
            raise ValueError(f"gray is made of 3 channels, not {in_chans}")
        if frame_picking not in ("linspace", "every"):
            raise ValueError(f"frame_picking is linspace or every, not {frame_picking}")
        motion = 2 if fast_input == "flow" else 0
        super().__init__((0.45,) * in_chans + (0.5,) * motion, (0.225,) * (in_chans + motion), 0.5)
        self.alpha, self.fast_input, self.colours = alpha, fast_input, in_chans
        self.frame_multiple = alpha
        self.frame_picking = frame_picking
        luma = torch.tensor(_LUMA).view(3, 1, 1, 1) if fast_input == "gray" else None
        self.register_buffer("luma", luma, persistent=False)
        narrow = width // beta_inv
        fast_channels = [narrow, *(narrow * 4 * 2**i for i in range(3))]
        self.adds, joined = self._make_laterals(lateral, lateral_kernel, lateral_norm, fast_channels, width)
        fast_chans = {"gray": 1, "flow": 2}.get(fast_input, in_chans)
        self.fast = inflated(
            depth, fast_chans, 5, _FAST, width=narrow, temporal_blocks=temporal_blocks[1],
            output_stride=output_stride, preprocess=False,
        )  # fmt: skip
        self.slow = inflated(
            depth, in_chans, 1, _SLOW, width=width, temporal_blocks=temporal_blocks[0],
            output_stride=output_stride, joined=joined, preprocess=False,
        )  # fmt: skip
        init_weights(self.laterals)
        self.stage_info = tuple(
            FeatureInfo(slow.channels + fast.channels, fast.stride, slow.name)
            for slow, fast in zip(self.slow.stage_info, self.fast.stage_info, strict=True)
        )
        last = self.stage_info[-1]
        self.feature_info = FeatureInfo(last.channels, last.stride)

    def _make_laterals(
        self, kind: Lateral, kernel: int, norm: bool, channels: Sequence[int], width: int
    ) -> tuple[bool, list[int]]:
        """Sets ``laterals``; gives whether they are added to the slow channels, else how many come to them."""
        alpha = self.alpha
        if kind == "conv":
            layers: list[nn.Module] = [
                nn.Sequential(
                    Conv3d(c, 2 * c, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False),
                    *((nn.BatchNorm3d(2 * c), nn.ReLU(inplace=True)) if norm else ()),
                )
                for c in channels
            ]
            factor = 2
        elif kind == "sample":
            layers, factor = [TimeSample(alpha) for _ in channels], 1
        elif kind in ("sum", "concat"):
            layers, factor = [TimeToChannel(alpha) for _ in channels], alpha
            if kind == "sum" and alpha * channels[0] != width:
                raise ValueError(f"lateral sum needs beta_inv = alpha = {alpha}")
        elif kind == "none":
            layers, factor = [], 0
        else:
            raise ValueError(f"lateral is none, sum, concat, sample or conv, not {kind}")
        self.laterals = nn.ModuleList(layers)
        adds = kind == "sum"
        return adds, [0 if adds else factor * c for c in channels]

    def reset_classifier(self, num_classes: int | None) -> None:
        super().reset_classifier(num_classes)
        init_classifier(self.classifier)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized input to those of the slow and the fast pathway."""
        slow = x[:, : self.colours]
        slow = slow[:, :, :: self.alpha] if self.frame_picking == "every" else slow_frames(slow, self.alpha)
        if self.fast_input == "gray":
            return slow, (x * self.luma).sum(1, keepdim=True)
        if self.fast_input == "difference":
            return slow, F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 0, 1, 0))
        return slow, x[:, self.colours :] if self.fast_input == "flow" else x

    def _pathways(self, x: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, slow and fast output of each stage."""
        slow, fast = self._split(self.prepared(x))
        stages = zip(self.slow.stages(), self.fast.stages(), strict=True)
        for i, ((name, slow_stage), (_, fast_stage)) in enumerate(stages):
            slow, fast = self.run(slow_stage, slow), self.run(fast_stage, fast)
            yield name, slow, fast
            if i < len(self.laterals):
                side = self.run(self.laterals[i], fast)
                slow = slow + side if self.adds else torch.cat([slow, side], 1)

    def _joined(self, slow: Tensor, fast: Tensor) -> Tensor:
        return torch.cat([slow.repeat_interleave(self.alpha, 2), fast], 1)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        return {name: self._joined(slow, fast) for name, slow, fast in self._pathways(x)}

    def forward_features(self, x: Tensor) -> Tensor:
        for _, slow, fast in self._pathways(x):  # noqa: B007 (the last ones remain)
            pass
        return self._joined(slow, fast)


def _slow_nonlocal(
    model: SlowFast, after: Sequence[Sequence[int]], kind: NonLocalKind, pool: Sequence[int]
) -> SlowFast:
    """Non-local blocks in the slow pathway (see `add_nonlocal`)."""
    add_nonlocal(model.slow, after, kind, pool)
    model.least_frames, model.least_side = model.alpha * model.slow.least_frames, model.slow.least_side
    return model


_FEICHTENHOFER = "Feichtenhofer et al., ICCV 2019"
_CLIP = (32, 224, 224)
_AT_256 = "published cost is at 256 x 256"


@register(
    Spec(
        "video",
        _FEICHTENHOFER,
        608_632,
        400,
        _CLIP,
        4.910,
        4.9,
        51.7,
        "no temporal kernels in two groups",
        stride=2,
        resize=256,
    )
)
def fast_only_r50(in_chans: int = 3) -> VideoResNet:
    """The fast pathway's width alone; unlike the pathway, its first two groups see one frame at a time."""
    return inflated(50, in_chans, 5, _SLOW, width=_WIDTH // 8)


@register(Spec("video", _FEICHTENHOFER, 34_480_216, 400, _CLIP, 27.639, 36.1, 75.6, _AT_256, stride=2, resize=256))
def slowfast_r50_4x16(
    in_chans: int = 3,
    alpha: int = 8,
    beta_inv: int = 8,
    lateral: Lateral = "conv",
    lateral_kernel: int = 5,
    lateral_norm: bool = True,
    fast_input: FastInput = "rgb",
    frame_picking: FramePicking = "linspace",
    output_stride: int = 32,
) -> SlowFast:
    """4 slow frames, 32 fast ones."""
    return SlowFast(
        50,
        alpha,
        beta_inv=beta_inv,
        lateral=lateral,
        lateral_kernel=lateral_kernel,
        lateral_norm=lateral_norm,
        fast_input=fast_input,
        frame_picking=frame_picking,
        output_stride=output_stride,
        in_chans=in_chans,
    )


@register(Spec("video", _FEICHTENHOFER, 34_566_488, 400, _CLIP, 50.309, 65.7, 77.0, _AT_256, stride=2, resize=256))
def slowfast_r50_8x8(
    in_chans: int = 3,
    alpha: int = 4,
    beta_inv: int = 8,
    lateral: Lateral = "conv",
    lateral_kernel: int = 7,
    lateral_norm: bool = True,
    fast_input: FastInput = "rgb",
    frame_picking: FramePicking = "linspace",
    output_stride: int = 32,
) -> SlowFast:
    """8 slow frames, 32 fast ones; laterals see 7 frames."""
    return slowfast_r50_4x16(
        in_chans, alpha, beta_inv, lateral, lateral_kernel, lateral_norm, fast_input, frame_picking, output_stride
    )


@register(Spec("video", _FEICHTENHOFER, 41_838_680, 400, _CLIP, 72.229, note="PySlowFast's", stride=2, resize=256))
def slowfast_r50_8x8_nl(
    in_chans: int = 3,
    nonlocal_kind: NonLocalKind = "dot",
    nonlocal_pool: Sequence[int] = (1, 2, 2),
    output_stride: int = 32,
) -> SlowFast:
    """Five non-local blocks in the slow pathway; laterals see 5 frames."""
    model = SlowFast(50, 4, in_chans=in_chans, output_stride=output_stride)
    return _slow_nonlocal(model, NONLOCAL_50, nonlocal_kind, nonlocal_pool)


_R101 = "temporal kernels in the first six blocks of the third group; published cost is at 256 x 256"


@register(Spec("video", _FEICHTENHOFER, 53_774_808, 400, _CLIP, 81.548, 106.0, 77.9, _R101, stride=2, resize=256))
def slowfast_r101_8x8(
    in_chans: int = 3,
    temporal_blocks: Sequence[int] = (6, 6),
    lateral_kernel: int = 5,
    lateral_norm: bool = True,
    frame_picking: FramePicking = "linspace",
    output_stride: int = 32,
) -> SlowFast:
    """101 layers; pytorchvideo's has ``temporal_blocks`` (23, 23), mmaction2's also a ``lateral_kernel`` of 7."""
    return SlowFast(
        101,
        4,
        lateral_kernel=lateral_kernel,
        lateral_norm=lateral_norm,
        temporal_blocks=temporal_blocks,
        frame_picking=frame_picking,
        output_stride=output_stride,
        in_chans=in_chans,
    )


@register(
    Spec("video", _FEICHTENHOFER, 53_774_808, 400, (64, 224, 224), 163.095, 213.0, 78.9, _R101, stride=2, resize=256)
)
def slowfast_r101_16x8(in_chans: int = 3, temporal_blocks: Sequence[int] = (6, 6), output_stride: int = 32) -> SlowFast:
    """101 layers; 16 slow frames, 64 fast ones."""
    return SlowFast(101, 4, temporal_blocks=temporal_blocks, output_stride=output_stride, in_chans=in_chans)


@register(
    Spec(
        "video",
        _FEICHTENHOFER,
        60_080_088,
        400,
        (64, 256, 256),
        233.962,
        234.0,
        79.8,
        "the published cost needs the pool (2, 2, 2) of the AVA recipe; that of Kinetics has (1, 2, 2): 242.0",
        stride=2,
        resize=256,
    )
)
def slowfast_r101_16x8_nl(
    in_chans: int = 3,
    nonlocal_kind: NonLocalKind = "dot",
    nonlocal_pool: Sequence[int] = (2, 2, 2),
    output_stride: int = 32,
) -> SlowFast:
    """Three non-local blocks in the third group of the slow pathway; AVA's of 101 layers, for 32 frames as for 64."""
    model = SlowFast(101, 4, in_chans=in_chans, output_stride=output_stride)
    return _slow_nonlocal(model, ((), (), (6, 13, 20), ()), nonlocal_kind, nonlocal_pool)
