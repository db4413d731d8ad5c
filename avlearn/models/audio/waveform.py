"""The audio tower of Owens and Efros (ECCV 2018): convolutions over samples, no spectrogram.

Modules follow the scopes of the released TensorFlow network (``sf/conv1_1`` .. ``sf/conv5_1``).
"""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.audio.stages import AudioEncoder
from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register


class _Conv1d(nn.Conv1d):
    """Padded as TensorFlow pads: what is odd goes to the end."""

    def forward(self, x: Tensor) -> Tensor:
        missing = max(self.kernel_size[0] - self.stride[0], 0)
        return super().forward(F.pad(x, (missing // 2, missing - missing // 2)))


def _norm(channels: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(channels, eps=1e-3)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_Conv1d(inputs, outputs, kernel, stride, bias=False), _norm(outputs))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 4) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, 15, stride)
        self.second = _Conv1d(outputs, outputs, 15)
        self.short = nn.MaxPool1d(1, stride) if inputs == outputs else _conv(inputs, outputs, 1, stride)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.short(x) + self.second(self.first(x).relu())).relu()


class Waveform(AudioEncoder):
    """``[B, C, S]`` samples in [-1, 1] to ``[B, 2 width, S // 1024]``; C is 2, stereo, as published.

    Outputs of the stages are ``[B, D', N']``; ``width`` is that of the first, as published 64.
    """

    axes: tuple[str, ...] = ("C", "N")

    def __init__(self, in_chans: int = 2, width: int = 64) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.conv1 = _conv(in_chans, width, 65, 4)
        self.pool = nn.MaxPool1d(4)
        self.conv2 = _Block(width, 2 * width)
        self.conv3 = _Block(2 * width, 2 * width)
        self.conv4 = _Block(2 * width, 4 * width)
        self.conv5 = _conv(4 * width, 2 * width, 3)
        self.feature_info = FeatureInfo(2 * width, (1024, 0, 0))
        channels = (width, 2 * width, 2 * width, 4 * width, 2 * width)
        stages = zip(channels, (16, 64, 256, 1024, 1024), strict=True)
        self.stage_info = tuple(
            FeatureInfo(many, (stride, 0, 0), f"conv{i}") for i, (many, stride) in enumerate(stages, 1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def prepared(self, x: Tensor) -> Tensor:
        """Quiet samples are brought up (mu-law)."""
        x = super().prepared(x)
        return x.sign() * (1 + 255 * x.abs()).log() / math.log(256)

    def stages(self) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        blocks = [("conv2", self.conv2), ("conv3", self.conv3), ("conv4", self.conv4)]
        return [("conv1", self._first), *blocks, ("conv5", self._last)]

    def _first(self, x: Tensor) -> Tensor:
        return self.pool(self.conv1(x).relu())

    def _last(self, x: Tensor) -> Tensor:
        return self.conv5(x).relu()

    def over_bins(self, x: Tensor) -> Tensor:
        return x  # there are none


@register(
    Spec(
        "audio",
        "Owens and Efros, ECCV 2018",
        2_486_016,
        None,
        (87_588,),
        0.997,
        note="the layout of the released code, without its pooling to the steps of the video network before the last "
        "convolution, and with 1,600 scales of normalisations that it leaves out; input is samples, which "
        "feature_info.stride counts",
        front_end={"kind": "waveform"},
        tower={"in_chans": 1},
    )
)
def waveform_multisensory(in_chans: int = 2) -> Waveform:
    """Stereo at 21 kHz, 4.2 s; steps of 49 ms."""
    return Waveform(in_chans)
