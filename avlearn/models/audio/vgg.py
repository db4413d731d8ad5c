"""VGG networks for audio: VGG-M of SyncNet and AVTS, and VGGish.

VGG-M: Chung and Zisserman, ACCV-W 2016; Korbar et al., NeurIPS 2018. VGGish: Hershey et al., ICASSP 2017. Parameters
have the names of ``syncnet_v2.model`` and of torchvggish (the PyTorch port of AudioSet's release).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register


def _conv(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class VGGM(Encoder):
    """``[B, 1, F, N]`` to ``[B, D, N // 4]``: a step is the middle of 20 frames that are seen for it.

    The ends of the spectrogram are repeated, so that the first and last steps see 20 frames, too.

    Args:
        bins: F.
        windowed: see each step's 20 frames alone, as SyncNet does (5 times the work); else convolve all frames at once,
            and layers within see their neighbours where windows end.
        embedding: channels of two linear layers on top; None for none (D is 512).
    """

    window, hop = 20, 4

    def __init__(self, bins: int, windowed: bool, embedding: int | None) -> None:
        super().__init__()
        rows = ((bins - 2) - 3) // 2 + 1  # what the two poolings leave
        self.netcnnaud = nn.Sequential(
            *_conv(1, 64),
            nn.Identity(),  # a pooling of one cell in the checkpoint's numbering
            *_conv(64, 192),
            nn.MaxPool2d(3, (1, 2)),
            *_conv(192, 384),
            *_conv(384, 256),
            *_conv(256, 256),
            nn.MaxPool2d(3, 2),
            *_conv(256, 512, (rows, 4), 0),
        )
        self.netfcaud: nn.Module = nn.Identity()
        if embedding is not None:
            self.netfcaud = nn.Sequential(
                nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, embedding)
            )
        self.windowed = windowed
        self.feature_info = FeatureInfo(embedding or 512, (self.hop, 0, 0))

    def forward_features(self, x: Tensor) -> Tensor:
        batch, steps = len(x), x.shape[-1] // self.hop
        margin = (self.window - self.hop) // 2
        x = F.pad(x[..., : steps * self.hop], (margin, margin, 0, 0), mode="replicate")
        if self.windowed:
            x = x.unfold(3, self.window, self.hop)  # [B, 1, F, U, 20]
            x = x.permute(0, 3, 1, 2, 4).flatten(0, 1)
        x = self.run(self.netcnnaud, x)  # [B, 512, 1, U] or [B U, 512, 1, 1]
        x = self.netfcaud(x.squeeze(2).transpose(1, 2).flatten(0, 1))
        return x.unflatten(0, (batch, steps)).transpose(1, 2)


@register(
    Spec(
        "audio",
        "Chung and Zisserman, ACCV-W 2016 (SyncNet)",
        5_664_704,
        note="the audio half of syncnet_v2.model; features of steps from the third to the third last are SyncNet's "
        "of windows that begin 8 frames earlier",
    )
)
def vggm_syncnet() -> VGGM:
    """13 MFCCs, window 25 ms, hop 10 ms, 16 kHz; steps of 40 ms that see 0.2 s."""
    return VGGM(13, windowed=True, embedding=1024)


@register(
    Spec(
        "audio",
        "Korbar et al., NeurIPS 2018 (AVTS)",
        11_691_456,
        note="VGG-M on 40 filter banks; no code was released: SyncNet's layers, with the last spanning all rows that "
        "are left, and no projection",
    )
)
def vggm_avts() -> VGGM:
    """40 log filter banks, window 20 ms, hop 10 ms; steps of 40 ms."""
    return VGGM(40, windowed=False, embedding=None)


class VGGish(Encoder):
    """``[B, 1, 64, N]`` to ``[B, 128, N // 96]``: a step spans 96 frames and sees no others."""

    window = 96

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for widths in ((64,), (128,), (256, 256), (512, 512)):
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128), nn.ReLU()
        )
        self.feature_info = FeatureInfo(128, (self.window, 0, 0))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # Without normalisation, the published deviation of 0.01 would let next to nothing through at first.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        batch, steps = len(x), x.shape[-1] // self.window
        x = x[..., : steps * self.window].unflatten(3, (steps, self.window))  # [B, 1, 64, U, 96]
        x = x.permute(0, 3, 1, 4, 2).flatten(0, 1)  # [B U, 1, 96, 64]: the release has time first
        x = self.run(self.features, x)
        # Its weights count channels fastest.
        x = self.embeddings(x.permute(0, 2, 3, 1).flatten(1))
        return x.unflatten(0, (batch, steps)).transpose(1, 2)


@register(
    Spec(
        "audio",
        "Hershey et al., ICASSP 2017",
        72_141_184,
        note="the layout of AudioSet's release; its whitening and quantisation are left out",
    )
)
def vggish() -> VGGish:
    """64 bands of log(mel + 0.01), 125 to 7500 Hz; window 25 ms, hop 10 ms, 16 kHz; steps of 0.96 s."""
    return VGGish()
