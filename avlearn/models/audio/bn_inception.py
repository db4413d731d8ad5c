"""BN-Inception over log spectrograms: the audio stream of EPIC-Fusion (TBN; Kazakos et al., ICCV 2019)."""

from collections.abc import Sequence

from torch import Tensor, nn

from avlearn.models.audio.stages import AudioEncoder
from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.bn_inception import BNInception


class BNInceptionAudio(AudioEncoder):
    """``[B, 1, F, N]`` to ``[B, 16 width, N // 32]``: bins averaged.

    Args:
        width: see `BNInception`.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(dropout=0.5)
        self.net = BNInception(1, 1, width)
        self.stage_info = tuple(
            FeatureInfo(info.channels, (info.stride[1], info.stride[1], 0), info.name) for info in self.net.stage_info
        )
        last = self.stage_info[-1]
        self.feature_info = FeatureInfo(last.channels, (last.stride[0], 0, 0))

    def prepared(self, x: Tensor) -> Tensor:
        return super().prepared(x).unsqueeze(2)  # an image is a clip of one frame

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return self.net.stages()

    def on_grid(self, x: Tensor, batch: int) -> Tensor:
        return x.squeeze(2)


_HEARS = {"kind": "log_linear", "n_fft": 510, "window": 0.01, "hop": 0.005, "bins": 256}


@register(
    Spec(
        "audio",
        "Kazakos et al., ICCV 2019 (TBN); Ioffe & Szegedy, ICML 2015",
        10_263_968,
        None,
        (256, 256),
        2.551,
        note="256 bins of a transform of 510 samples, 511 in the authors' code, which hears 24 kHz",
        front_end=_HEARS,
    )
)
def bn_inception() -> BNInceptionAudio:
    """256 bins, window 10 ms, hop 5 ms: 1.28 s are 256 frames."""
    return BNInceptionAudio()
