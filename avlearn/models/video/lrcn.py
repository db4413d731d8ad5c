"""LRCN (Donahue et al., CVPR 2015): a CNN on every frame, an LSTM over what its first linear layer gives.

The CNN is that of the authors' released definition, between CaffeNet and Zeiler and Fergus' network.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.frame_fusion import ResponseNorm
from avlearn.models.video.recurrent import ConvRecurrence, FrameLinear
from avlearn.models.video.resnet import init_weights, statistics

_SIZE = 227  # of the frames in the paper


class CaffePool(nn.Module):
    """The maximum of 3 x 3, with stride 2; a window that goes beyond the end counts, as in Caffe."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (min(3, side) for side in x.shape[3:])
        return F.max_pool3d(x, (1, rows, columns), (1, 2, 2), ceil_mode=True)


class LRCN(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to the LSTM's states ``[B, D, T, 1, 1]``, each of its frame and all before it.

    Args:
        readout: ``mean``: every frame is classified, and scores are averaged (many to many); ``last``: the last one
            (many to one).
        hidden: D.
        width: channels of the first convolution, 96 as published; those of the others are in proportion.
        linear: channels of the linear layer.
    """

    def __init__(
        self,
        readout: Literal["mean", "last"] = "mean",
        in_chans: int = 3,
        hidden: int = 256,
        width: int = 96,
        linear: int = 4096,
    ) -> None:
        means = statistics((123.68 / 255, 116.779 / 255, 103.939 / 255), in_chans)
        super().__init__(means, (1 / 255,) * in_chans, dropout=0.5)
        self.readout, self.least_side = readout, 25
        two, three, five = 4 * width, 16 * width // 3, 4 * width
        norm = {"k": 1.0, "alpha": 1e-4 / 5, "beta": 0.75}  # Caffe's alpha is of the mean
        frames: list[nn.Module] = [
            *(_conv(in_chans, width, 7, 2), CaffePool(), ResponseNorm(**norm)),
            *(_conv(width, two, 5, 2, groups=2), CaffePool(), ResponseNorm(**norm)),
            *(_conv(two, three, 3, padding=1), _conv(three, three, 3, padding=1, groups=2)),
            *(_conv(three, five, 3, padding=1, groups=2), CaffePool()),
        ]
        self.fc6 = nn.Sequential(*frames, FrameLinear(five, 6, linear), nn.Dropout(0.9))
        self.lstm = ConvRecurrence("lstm", linear, hidden, kernel=1)
        whole = (1, _SIZE, _SIZE)
        self.stage_info = FeatureInfo(linear, whole, "fc6"), FeatureInfo(hidden, whole, "lstm")
        self.feature_info = FeatureInfo(hidden, whole)
        init_weights(self.fc6)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [("fc6", self.fc6), ("lstm", self.lstm)]

    def forward_head(self, features: Tensor) -> Tensor:
        states = features.flatten(2)
        # A linear classifier of the mean is the mean of what it makes of each.
        return self.classifier(self.dropout(states[:, :, -1] if self.readout == "last" else states.mean(2)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1) -> nn.Sequential:
    sizes = (1, kernel, kernel), (1, stride, stride), (0, padding, padding)
    return nn.Sequential(Conv3d(inputs, outputs, *sizes, groups=groups), nn.ReLU(inplace=True))


@register(
    Spec(
        "video",
        "Donahue et al., CVPR 2015",
        65_421_285,
        101,
        (16, 227, 227),
        19.11,
        note="101 classes of UCF-101; the paper prints neither parameters nor multiply-adds",
        stride=1,
        resize=(240, 320),
    )
)
def lrcn(readout: Literal["mean", "last"] = "mean", in_chans: int = 3) -> LRCN:
    """An LSTM over what a CNN makes of frames; ``readout="last"`` classifies its last state alone."""
    return LRCN(readout, in_chans)
