"""A small convolutional network over log-mel spectrograms."""

from torch import Tensor, nn

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register


def _conv(inputs: int, outputs: int, kernel: int, stride: int | tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Conv2d(Encoder):
    """``[B, 1, 64, N]`` to ``[B, D, N // 8]``: a step spans eight spectrogram frames."""

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

    def forward_features(self, x: Tensor) -> Tensor:
        frames = x.shape[-1] // 8 * 8
        return self.relu(self.norm(self.spectrum(self.body(x[..., :frames])).squeeze(2)))


@register(Spec("audio", "ours: five strided convolutions over 64 mel bands", 294_512))
def conv2d_tiny() -> Conv2d:
    """The default beside ``dsconv_tiny``."""
    return Conv2d((16, 32, 64, 128))
