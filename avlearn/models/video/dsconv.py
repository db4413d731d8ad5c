"""A small video network for the CPU: 2-D convolutions over space, depthwise ones over time.

It sees colour at every second frame, and motion as grey differences to the frames around it, so that
a 25 fps clip costs 10 million multiply-adds for each 80 ms step at 64 x 64.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register

_REACH = (-2, -1, 1, 2)  # frames that each step is compared with


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    # Even kernels where the stride is two: each cell of the map then stands for the middle of its own
    # pixels. Odd ones would put it on its upper left corner, half a cell away from what it sees.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class TemporalConv(nn.Module):
    """Depthwise convolution over three steps, added to its input: ``[B, T, D, Y, X]`` to the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        # Over time and places as two dimensions, with channels last in memory: a third of the time of shifted products.
        flat = x.flatten(3).permute(0, 2, 1, 3)  # [B, D, T, Y X]
        mixed = F.conv2d(flat, self.weight.T[:, None, :, None], self.bias, padding=(1, 0), groups=len(self.bias))
        return x + mixed.relu().permute(0, 2, 1, 3).view_as(x)


class DsConv(Encoder):
    """``[B, 3, T, H, W]`` in [0, 1] to ``[B, D, T // 2, H // 8, W // 8]``; step i is centred on frame 2 i."""

    in_chans, least_frames, least_side = 3, 2, 8

    def __init__(self, widths: tuple[int, int, int, int]):
        super().__init__()
        first, second, third, last = widths
        self.stem = _conv(3 + len(_REACH), first, 6, 2)
        self.stage1, self.time1 = _conv(first, second, 4, 2), TemporalConv(second)
        self.stage2, self.time2 = _conv(second, third, 4, 2), TemporalConv(third)
        self.stage3, self.time3 = _conv(third, last, 1, 1), TemporalConv(last)
        self.mix = nn.Conv2d(last, last, 1)
        self.stage_info = (
            FeatureInfo(second, (2, 4, 4), "stage1"),
            FeatureInfo(third, (2, 8, 8), "stage2"),
            FeatureInfo(last, (2, 8, 8), "stage3"),
        )
        self.feature_info = FeatureInfo(last, (2, 8, 8))

    @staticmethod
    def _colour_and_motion(x: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` to ``[B, T / 2, 7, H, W]``."""
        steps = x.shape[2] // 2
        # Three times the mean, for differences are small beside colour: [B, T, H, W].
        grey = x[:, 0] + x[:, 1] + x[:, 2]
        first, last = grey[:, :1], grey[:, -1:]
        padded = torch.cat([first, first, grey, last, last], 1)  # frame t lies at t + 2
        centre = grey[:, 0 : 2 * steps : 2]
        motion = [padded[:, 2 + reach : 2 + reach + 2 * steps : 2] - centre for reach in _REACH]
        colour = x[:, :, 0 : 2 * steps : 2] - 0.5
        return torch.cat([colour.transpose(1, 2), *(change.unsqueeze(2) for change in motion)], 2)

    def _steps(self, x: Tensor) -> Iterator[Tensor]:
        """``[B, D, T / 2, Y, X]`` after each stage."""
        x = self._colour_and_motion(self.prepared(x))
        batch = len(x)
        # Channels last in memory, here and in all that follows, is up to twice as fast on a CPU.
        x = self.stem(x.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        for stage, time in (self.stage1, self.time1), (self.stage2, self.time2):
            x = time(stage(x).unflatten(0, (batch, -1)))
            yield x.transpose(1, 2)
            x = x.flatten(0, 1)
        x = self.time3(self.stage3(x).unflatten(0, (batch, -1))).flatten(0, 1)
        x = x + self.mix(x)
        yield x.unflatten(0, (batch, -1)).transpose(1, 2)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        return {info.name: found for info, found in zip(self.stage_info, self._steps(x), strict=True)}

    def forward_features(self, x: Tensor) -> Tensor:
        *_, last = self._steps(x)
        return last


@register(
    Spec("video", "ours: separable convolutions over colour and grey differences", 71_072, None, (50, 64, 64), 0.2489)
)
def dsconv_tiny() -> DsConv:
    """The default: learns the synthetic world in minutes on a CPU."""
    return DsConv((16, 32, 64, 128))


@register(Spec("video", "ours: dsconv_tiny at one and a half times the width", 155_760, None, (50, 64, 64), 0.4815))
def dsconv_small() -> DsConv:
    """For longer trainings."""
    return DsConv((24, 48, 96, 192))
