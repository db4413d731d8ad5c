"""VGG networks for audio: VGG-M of SyncNet and AVTS, and VGGish.

VGG-M: Chung and Zisserman, ACCV-W 2016; Korbar et al., NeurIPS 2018. VGGish: Hershey et al., ICASSP 2017. Parameters
have the names of ``syncnet_v2.model`` and of torchvggish (the PyTorch port of AudioSet's release).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.audio.stages import AudioEncoder
from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register


def _conv(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class VGGM(AudioEncoder):
    """``[B, 1, F, N]`` to ``[B, D, N // 4]``: a step is the middle of 20 frames that are seen for it.

    The ends of the spectrogram are repeated, so that the first and last steps see 20 frames, too.

    Args:
        bins: F.
        windowed: see each step's 20 frames alone, as SyncNet does (5 times the work); else convolve all frames at once,
            and layers within see their neighbours where windows end.
        embedding: channels of two linear layers on top; None for none (D is 8 width).
        width: channels of the first layer.
    """

    window, hop = 20, 4

    def __init__(self, bins: int, windowed: bool, embedding: int | None, width: int = 64) -> None:
        super().__init__()
        rows = ((bins - 2) - 3) // 2 + 1  # what the two poolings leave
        last = 8 * width
        self.netcnnaud = nn.Sequential(
            *_conv(1, width),
            nn.Identity(),  # a pooling of one cell in the checkpoint's numbering
            *_conv(width, 3 * width),
            nn.MaxPool2d(3, (1, 2)),
            *_conv(3 * width, 6 * width),
            *_conv(6 * width, 4 * width),
            *_conv(4 * width, 4 * width),
            nn.MaxPool2d(3, 2),
            *_conv(4 * width, last, (rows, 4), 0),
        )
        self.netfcaud: nn.Module = nn.Identity()
        if embedding is not None:
            self.netfcaud = nn.Sequential(
                nn.Linear(last, last), nn.BatchNorm1d(last), nn.ReLU(inplace=True), nn.Linear(last, embedding)
            )
        self.windowed, self.bins = windowed, bins
        self.feature_info = FeatureInfo(embedding or last, (self.hop, 0, 0))
        strides = ((1, 1, 0), (2, 1, 0), (2, 1, 0), (2, 1, 0), (4, 2, 0), (4, 0, 0))
        widths = (width, 3 * width, 6 * width, 4 * width, 4 * width, last)
        self.stage_info = tuple(
            FeatureInfo(*info, f"conv{i}") for i, info in enumerate(zip(widths, strides, strict=True), 1)
        )
        if embedding is not None:
            self.stage_info += (FeatureInfo(embedding, (self.hop, 0, 0), "netfcaud"),)

    def stages(self) -> Sequence[tuple[str, Callable[[Tensor], Tensor]]]:
        starts = (0, 4, 8, 11, 14, 18, len(self.netcnnaud))  # a layer's pooling belongs to it
        convs = [(f"conv{i}", self.netcnnaud[start:end]) for i, (start, end) in enumerate(pairwise(starts), 1)]
        return convs if isinstance(self.netfcaud, nn.Identity) else [*convs, ("netfcaud", self._embed)]

    def _embed(self, x: Tensor) -> Tensor:
        """``[B, 8 width, 1, U]``, or of windows ``[B U, 8 width, 1, 1]``, to embeddings in the same places."""
        found = self.netfcaud(x.squeeze(2).transpose(1, 2).flatten(0, 1))
        return found.unflatten(0, (len(x), -1)).transpose(1, 2).unsqueeze(2)

    def prepared(self, x: Tensor) -> Tensor:
        """The ends repeated; where windows are seen alone, as a batch of them: ``[B U, 1, F, 20]``."""
        margin = (self.window - self.hop) // 2
        x = F.pad(super().prepared(x), (margin, margin, 0, 0), mode="replicate")
        if self.windowed:
            x = x.unfold(3, self.window, self.hop).permute(0, 3, 1, 2, 4).flatten(0, 1)
        return x

    def on_grid(self, x: Tensor, batch: int) -> Tensor:
        """Windows seen alone lie behind each other, though their frames are in part the same."""
        return x.unflatten(0, (batch, -1)).permute(0, 2, 3, 1, 4).flatten(3) if self.windowed else x


@register(
    Spec(
        "audio",
        "Chung and Zisserman, ACCV-W 2016 (SyncNet)",
        5_664_704,
        None,
        (13, 20),
        1.220,
        note="the audio half of syncnet_v2.model; features of steps from the third to the third last are SyncNet's "
        "of windows that begin 8 frames earlier",
        front_end={"kind": "mfcc", "mean": 0.0, "std": 1.0},
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
        None,
        (40, 100),
        5.383,
        note="VGG-M on 40 filter banks; no code was released: SyncNet's layers, with the last spanning all rows that "
        "are left, and no projection",
        front_end={"window": 0.02, "mels": 40},
    )
)
def vggm_avts() -> VGGM:
    """40 log filter banks, window 20 ms, hop 10 ms; steps of 40 ms."""
    return VGGM(40, windowed=False, embedding=None)


class VGGish(AudioEncoder):
    """``[B, 1, 64, N]`` to ``[B, 128, N // 96]``: a step spans 96 frames and sees no others.

    Args:
        width: channels of the first layer.
        hidden: of the linear layers on top.
    """

    window, bins = 96, 64

    def __init__(self, width: int = 64, hidden: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        info = []
        channels = 1
        for i, convolutions in enumerate((1, 1, 2, 2)):
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width << i, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width << i
            layers.append(nn.MaxPool2d(2))
            info.append(FeatureInfo(channels, (2 << i, 2 << i, 0), f"conv{i + 1}"))
        self.features = nn.Sequential(*layers)
        sizes = (channels * 6 * 4, hidden, hidden, 128)
        self.embeddings = nn.Sequential(
            *(layer for inputs, outputs in pairwise(sizes) for layer in (nn.Linear(inputs, outputs), nn.ReLU()))
        )
        self.feature_info = FeatureInfo(128, (self.window, 0, 0))
        self.stage_info = (*info, FeatureInfo(128, (self.window, 0, 0), "embeddings"))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # Without normalisation, the published std of 0.01 would let next to nothing through at first.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def stages(self) -> Sequence[tuple[str, Callable[[Tensor], Tensor]]]:
        starts = (0, 3, 6, 11, 16)
        convs = [(f"conv{i}", self.features[start:end]) for i, (start, end) in enumerate(pairwise(starts), 1)]
        return [*convs, ("embeddings", self._embed)]

    def _embed(self, x: Tensor) -> Tensor:
        """``[B U, D, 6, 4]`` to ``[B U, 128, 1, 1]``; the release's weights count channels fastest."""
        return self.embeddings(x.permute(0, 2, 3, 1).flatten(1))[..., None, None]

    def prepared(self, x: Tensor) -> Tensor:
        """A batch of windows with time first, as in the release: ``[B U, 1, 96, 64]``."""
        x = super().prepared(x).unflatten(3, (-1, self.window))  # [B, 1, 64, U, 96]
        return x.permute(0, 3, 1, 4, 2).flatten(0, 1)

    def on_grid(self, x: Tensor, batch: int) -> Tensor:
        return x.unflatten(0, (batch, -1)).permute(0, 2, 4, 1, 3).flatten(3)  # from [B U, D, N', F']


@register(
    Spec(
        "audio",
        "Hershey et al., ICASSP 2017",
        72_141_184,
        None,
        (64, 96),
        0.864,
        note="the layout of AudioSet's release; its whitening and quantisation are left out",
    )
)
def vggish() -> VGGish:
    """64 bands of log(mel + 0.01), 125 to 7500 Hz; window 25 ms, hop 10 ms, 16 kHz; steps of 0.96 s."""
    return VGGish()
