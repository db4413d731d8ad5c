"""Plain convolutional networks over spectrograms: a small one of ours, and that of AVID (Morgado et al., CVPR 2021).

Parameters of the latter have the names of AVID-CMA's checkpoints (under ``audio_model.`` there).
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from avlearn.models.audio.stages import AudioEncoder
from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register


def _conv(inputs: int, outputs: int, kernel: int, stride: int | tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Conv2d(AudioEncoder):
    """``[B, 1, 64, N]`` to ``[B, D, N // 8]``: a step spans eight spectrogram frames."""

    bins = 64

    def __init__(self, widths: tuple[int, int, int, int]):
        super().__init__()
        first, second, third, last = widths
        self.body = nn.Sequential(
            _conv(1, first, 5, 2),
            _conv(first, second, 3, 2),
            _conv(second, third, 3, 2),
            _conv(third, last, 3, (2, 1)),
        )
        # The whole spectrum of a step (4 rows are left of 64) and its two neighbours in one product.
        self.spectrum = nn.Conv2d(last, last, (4, 3), padding=(0, 1), bias=False)
        self.norm = nn.BatchNorm1d(last)
        self.relu = nn.ReLU(inplace=True)
        self.feature_info = FeatureInfo(last, (8, 0, 0))
        strides = ((2, 2, 0), (4, 4, 0), (8, 8, 0), (8, 16, 0))
        body = (
            FeatureInfo(width, stride, f"body.{i}")
            for i, (width, stride) in enumerate(zip(widths, strides, strict=True))
        )
        self.stage_info = (*body, FeatureInfo(last, (8, 0, 0), "spectrum"))

    def _over_the_spectrum(self, x: Tensor) -> Tensor:
        """``[B, D, 4, N']`` to ``[B, D, 1, N']``."""
        return self.relu(self.norm(self.spectrum(x).squeeze(2))).unsqueeze(2)

    def stages(self) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        body = [(f"body.{i}", layer) for i, layer in enumerate(self.body)]
        return [*body, ("spectrum", self._over_the_spectrum)]


@register(Spec("audio", "ours: five strided convolutions over 64 mel bands", 294_512, None, (64, 200), 0.0209))
def conv2d_tiny() -> Conv2d:
    """The default beside ``dsconv_tiny``."""
    return Conv2d((16, 32, 64, 128))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.bn2(self.conv2(x)).relu()


class Conv2dAVID(AudioEncoder):
    """``[B, 1, F, N]``, N best a multiple of 16, to ``[B, 512, N // 16]``: the largest answer of all frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(1, 64, 7, 2)
        self.block1 = _Block(64, 64, 2)
        self.block2 = _Block(64, 128, 2)
        self.block3 = _Block(128, 256, 2)
        self.block4 = _Block(256, 512, 1)
        self.feature_info = FeatureInfo(512, (16, 0, 0))
        blocks = zip((64, 128, 256, 512), (4, 8, 16, 16), strict=True)
        self.stage_info = (
            FeatureInfo(64, (2, 2, 0), "conv1"),
            *(FeatureInfo(width, (stride, stride, 0), f"block{i}") for i, (width, stride) in enumerate(blocks, 1)),
        )

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(info.name, self.get_submodule(info.name)) for info in self.stage_info]

    def prepared(self, x: Tensor) -> Tensor:
        """As in the checkpoints: ``[B, 1, N, F]``."""
        return super().prepared(x).transpose(2, 3)

    def on_grid(self, x: Tensor, batch: int) -> Tensor:
        return x.transpose(2, 3)

    def over_bins(self, x: Tensor) -> Tensor:
        return x.amax(2)

    def forward_head(self, features: Tensor) -> Tensor:
        """Features pooled by their maximum over time, as published."""
        return self.classifier(self.dropout(features.amax(2)))


@register(
    Spec(
        "audio",
        "Morgado et al., CVPR 2021 (AVID)",
        4_725_696,
        None,
        (257, 200),
        1.346,
        note="Conv2D-10, the layout of AVID-CMA's checkpoints without their projection",
        front_end={"kind": "log_linear", "n_fft": 1024, "window": 0.04, "bins": 257, "mean": -6.9, "std": 4.5},
    )
)
def conv2d_10() -> Conv2dAVID:
    """9 convolutions; 257 linear bins in decibels, standardised; window 43 ms (1024), hop 10 ms, 24 kHz, 200 frames."""
    return Conv2dAVID()
