"""Where a CNN of images fuses frames (Karpathy et al., CVPR 2014): not at all, early, late or slowly.

In the paper's words the network is C(96,11,3)-N-P-C(256,5,1)-N-P-C(384,3,1)-C(384,3,1)-C(256,3,1)-P-FC(4096)-FC(4096).
Convolutions are padded so that 170 x 170 pixels, and 89 x 89 without the last pool, come to the paper's 7 x 7 cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.hidden_layers import HiddenLayers
from avlearn.models.video.resnet import init_weights

_CELLS = 7  # rows and columns that the linear layers see
_STILL = ((1, 1), (1, 1), (1, 1))


class FrameFusion(HiddenLayers):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, D, T', H / 24, W / 24]``; scores are averaged over the steps T'.

    By default frames are apart: T' is T.

    Args:
        times: frames that each of the first three convolutions sees, and its stride over them.
        in_chans: channels of the input.
        width: channels of the first convolution, 96 in the paper; all others are in proportion.
        hidden: channels between the linear layers.
        streams: 2 for a fovea and a context, whose channels lie side by side; they have no last pool.
    """

    def __init__(
        self,
        times: Sequence[tuple[int, int]] = _STILL,
        in_chans: int = 3,
        width: int = 96,
        hidden: int = 4096,
        streams: int = 1,
    ) -> None:
        super().__init__((117 / 255,) * in_chans, (1 / 255,) * in_chans, dropout=0.5)
        self.hidden, self.cells = (hidden, hidden), _CELLS**2
        channels = [in_chans, *(width * factor // 3 for factor in (3, 8, 12, 12, 8))]
        kernels, norms, pools = (11, 5, 3, 3, 3), (True, True, False, False, False), (2, 2, 1, 1, 2 // streams)
        info, time, space = [], 1, 3 * streams
        for i, (kernel, norm, pool) in enumerate(zip(kernels, norms, pools, strict=True)):
            frames, stride = times[i] if i < len(times) else (1, 1)
            size, strides = (frames, kernel, kernel), (stride, 1 if i else 3, 1 if i else 3)
            parts = [_layers(channels[i], channels[i + 1], size, strides, norm, pool) for _ in range(streams)]
            self.add_module(f"conv{i + 1}", parts[0] if streams == 1 else Streams(*parts))
            time, space = time * stride, space * pool
            info.append(FeatureInfo(streams * channels[i + 1], (time, space, space), f"conv{i + 1}"))
        self.stage_info = tuple(info)
        self.feature_info = FeatureInfo(info[-1].channels, info[-1].stride)
        self.least_frames, self.least_side = time, 22 if streams == 1 else 20
        self.overlap = times[0][0] - times[0][1]  # frames that two steps share: the last step's are repeated
        init_weights(self)

    def prepared(self, x: Tensor) -> Tensor:
        x = super().prepared(x)
        if self.overlap:
            x = torch.cat([x, x[:, :, -1:].expand(-1, -1, self.overlap, -1, -1)], 2)
        return x

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(info.name, self.get_submodule(info.name)) for info in self.stage_info]

    def forward_head(self, features: Tensor) -> Tensor:
        if isinstance(self.classifier, nn.Identity):
            return features.mean((2, 3, 4))
        cells = F.adaptive_avg_pool3d(features, (None, _CELLS, _CELLS))
        return self.classifier(cells.transpose(1, 2).flatten(2)).mean(1)


class ResponseNorm(nn.Module):
    """Channels over ``(k + alpha times the sum of their own and four neighbours' squares) ** beta``.

    As `torch.nn.LocalResponseNorm` (whose alpha is of the mean), but in bf16 on a CPU too.
    """

    def __init__(self, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.5) -> None:
        super().__init__()
        self.k, self.alpha, self.beta = k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        squares = x.square().flatten(2)[:, None]  # [B, 1, C, N]
        sums = 5 * F.avg_pool2d(squares, (5, 1), 1, (2, 0))
        return x * (self.k + self.alpha * sums[:, 0].unflatten(2, x.shape[2:])) ** -self.beta


def _layers(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], norm: bool, pool: int
) -> nn.Sequential:
    """A convolution, valid over time, with what follows it in the paper."""
    padding = (0, kernel[1] // 2, kernel[2] // 2)
    layers: list[nn.Module] = [Conv3d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True)]
    if norm:
        layers.append(ResponseNorm())
    if pool > 1:
        layers.append(nn.MaxPool3d((1, pool, pool)))
    return nn.Sequential(*layers)


class Streams(nn.Module):
    """Two layers side by side: each sees and gives half of the channels."""

    def __init__(self, fovea: nn.Module, context: nn.Module) -> None:
        super().__init__()
        self.fovea, self.context = fovea, context

    def forward(self, x: Tensor) -> Tensor:
        fovea, context = x.chunk(2, 1)
        return torch.cat([self.fovea(fovea), self.context(context)], 1)


class MultiresolutionFrames(FrameFusion):
    """The middle of every frame at full resolution (the fovea) beside the whole of it at half (the context).

    A cell of the features stands for the same place of both: a row and column of the context's, as their stride says.
    """

    def __init__(self, in_chans: int = 3, width: int = 96, hidden: int = 4096) -> None:
        super().__init__(in_chans=in_chans, width=width, hidden=hidden, streams=2)

    def prepared(self, x: Tensor) -> Tensor:
        x = super().prepared(x)
        context = F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])
        rows, columns = context.shape[3:]
        top, left = (x.shape[3] - rows) // 2, (x.shape[4] - columns) // 2
        return torch.cat([x[:, :, :, top : top + rows, left : left + columns], context], 1)


class LateFusion(FrameFusion):
    """The first and the last of every 16 frames through one network: ``[B, 2 D, T // 16, Y, X]``.

    Args:
        pool: average the two frames' features (``[B, D, T // 16, Y, X]``) where the paper's linear layer sees both.
    """

    window = 16

    def __init__(self, pool: bool = False, in_chans: int = 3, width: int = 96, hidden: int = 4096) -> None:
        super().__init__(in_chans=in_chans, width=width, hidden=hidden)
        self.least_frames, self.pool = self.window, pool
        sides = self.feature_info.stride[1:]
        stages = [FeatureInfo(i.channels, (self.window // 2, *i.stride[1:]), i.name) for i in self.stage_info]
        channels = self.num_features * (1 if pool else 2)
        self.stage_info = (*stages, FeatureInfo(channels, (self.window, *sides), "fused"))
        self.feature_info = FeatureInfo(channels, (self.window, *sides))

    def prepared(self, x: Tensor) -> Tensor:
        x = super().prepared(x)
        windows = x.shape[2] // self.window
        pairs = x[:, :, : windows * self.window].unflatten(2, (windows, self.window))[:, :, :, :: self.window - 1]
        return pairs.flatten(2, 3)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        layers = [(info.name, self.get_submodule(info.name)) for info in self.stage_info[:-1]]
        return [*layers, ("fused", FusedPairs(self.pool))]


class FusedPairs(nn.Module):
    """``[B, D, 2 N, Y, X]`` to the mean of each two frames, or to both of them: ``[B, D or 2 D, N, Y, X]``."""

    def __init__(self, pool: bool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        pairs = x.unflatten(2, (-1, 2))
        return pairs.mean(3) if self.pool else torch.cat([pairs[:, :, :, 0], pairs[:, :, :, 1]], 1)


_PAPER = "Karpathy et al., CVPR 2014"
_NOTE = "487 classes of Sports-1M; the paper prints neither parameters nor multiply-adds"


@register(Spec("video", _PAPER, 73_908_071, 487, (1, 170, 170), 1.272, note=_NOTE, stride=1, resize=200))
def single_frame(in_chans: int = 3) -> FrameFusion:
    """Every frame by itself."""
    return FrameFusion(in_chans=in_chans)


@register(Spec("video", _PAPER, 129_035_495, 487, (1, 178, 178), 0.764, note=_NOTE, stride=1, resize=200))
def single_frame_multires(in_chans: int = 3) -> MultiresolutionFrames:
    """Every frame by itself, in two streams: its middle, and the whole at half the resolution."""
    return MultiresolutionFrames(in_chans)


@register(Spec("video", _PAPER, 125_288_295, 487, (16, 170, 170), 2.525, note=_NOTE, stride=1, resize=200))
def late_fusion(in_chans: int = 3, pool: bool = False) -> LateFusion:
    """Two frames, 15 apart, meet in the first linear layer, or (``pool``) in an average."""
    return LateFusion(pool, in_chans)


@register(Spec("video", _PAPER, 74_221_703, 487, (10, 170, 170), 2.291, note=_NOTE, stride=1, resize=200))
def early_fusion(in_chans: int = 3) -> FrameFusion:
    """The first convolution sees ten frames."""
    return FrameFusion(((10, 10), (1, 1), (1, 1)), in_chans)


@register(
    Spec(
        "video",
        _PAPER,
        75_511_751,
        487,
        (10, 170, 170),
        5.042,
        note=f"{_NOTE}; a step sees 10 frames, the next one those 8 later: of 10 frames, a fifth step of the first "
        "convolution is computed that no other sees",
        stride=1,
        resize=200,
    )
)
def slow_fusion(in_chans: int = 3) -> FrameFusion:
    """The first three convolutions see 4, then 2 and 2 steps, each with stride 2: together ten frames."""
    return FrameFusion(((4, 2), (2, 2), (2, 2)), in_chans)
