"""SlowFast in small: the two pathways of Feichtenhofer et al. (ICCV 2019) at a laptop's size."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register


def _conv(inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), padding, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class SlowFastTiny(Encoder):
    """``[B, 3, T, H, W]`` in [0, 1], T a multiple of 8, to ``[B, D, T // 2, H // 8, W // 8]``.

    The fast pathway sees every second frame with few channels, the slow one every eighth with many;
    after each stage the fast features reach the slow ones through a time-strided convolution.
    """

    alpha, frame_multiple, in_chans = 4, 8, 3

    def __init__(self, slow: tuple[int, int, int], fast: tuple[int, int, int]):
        super().__init__()
        self.fast = nn.ModuleList()
        self.slow = nn.ModuleList()
        self.lateral = nn.ModuleList()
        fast_inputs, slow_inputs = 3, 3
        for i, (wide, narrow) in enumerate(zip(slow, fast, strict=True)):
            self.fast.append(_conv(fast_inputs, narrow, (3, 3, 3), 2))
            self.slow.append(_conv(slow_inputs, wide, (1 if i < 2 else 3, 3, 3), 2))
            self.lateral.append(nn.Conv3d(narrow, 2 * narrow, (5, 1, 1), (self.alpha, 1, 1), (2, 0, 0), bias=False))
            fast_inputs, slow_inputs = narrow, wide + 2 * narrow
        self.stage_info = tuple(
            FeatureInfo(wide + 3 * narrow, (2, 2 ** (i + 1), 2 ** (i + 1)), f"stage{i + 1}")
            for i, (wide, narrow) in enumerate(zip(slow, fast, strict=True))
        )
        self.feature_info = FeatureInfo(slow_inputs + fast[-1], (2, 8, 8))

    def _steps(self, x: Tensor) -> Iterator[Tensor]:
        """Both pathways after each stage, the slow one first."""
        x = self.prepared(x) - 0.5
        fast = x[:, :, ::2]
        slow = fast[:, :, :: self.alpha]
        for fast_stage, slow_stage, lateral in zip(self.fast, self.slow, self.lateral, strict=True):
            fast, slow = fast_stage(fast), slow_stage(slow)
            slow = torch.cat([slow, lateral(fast)], 1)
            yield torch.cat([slow.repeat_interleave(self.alpha, 2)[:, :, : fast.shape[2]], fast], 1)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        return {info.name: found for info, found in zip(self.stage_info, self._steps(x), strict=True)}

    def forward_features(self, x: Tensor) -> Tensor:
        *_, last = self._steps(x)
        return last


@register(Spec("video", "after Feichtenhofer et al., ICCV 2019; our size", 392_216, None, (32, 64, 64), 0.1636))
def slowfast_tiny() -> SlowFastTiny:
    """Three stages; alpha 4; the fast pathway has a quarter of the slow one's channels."""
    return SlowFastTiny((32, 64, 128), (8, 16, 32))
