"""A small pair of encoders for talking faces: of a mouth, and of a voice.

Both are embedded so that what belongs to one instant lies close together, as by SyncNet (Chung & Zisserman, ACCV-W
2016). They are trained by which of many moments fits, of the clip's own audio and of that of others, as in Perfect
Match (Chung et al., ICASSP 2019), and learned from GRID alone.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.signal.spectrogram import LogMel

SAMPLE_RATE = 16000  # of the audio
MOUTHS, VOICES = 25, 100  # embeddings a second
SIDE = 48  # pixels of a mouth crop that the encoder sees, about the middle of those of `avlearn.apply.faces.MOUTH`
BANDS = 40  # of the spectrogram
_FOLDER = Path(__file__).parent / "zoo" / "speech_sync"


class _Residual(nn.Module):
    """A convolution over time that adds to what it sees."""

    def __init__(self, channels: int, dilation: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.conv(x)))


class MouthEncoder(nn.Module):
    """``[B, T, 48, 48]``, standardised grey, to ``[B, D, T]`` of length one: each sees half a second."""

    def __init__(self, dim: int = 128, width: int = 16, dropout: float = 0.2):
        super().__init__()
        self.front = nn.Sequential(nn.Conv3d(1, width, 5, (1, 2, 2), 2, bias=False), nn.BatchNorm3d(width), nn.ReLU())
        layers: list[nn.Module] = []
        for channels in (width, 2 * width, 4 * width):
            conv = nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(2 * channels), nn.ReLU()]
        self.frame = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(72 * width, dim))
        self.time = nn.Sequential(_Residual(dim), _Residual(dim), nn.Conv1d(dim, dim, 1))

    def forward(self, mouths: Tensor) -> Tensor:
        x = self.front(mouths[:, None]).transpose(1, 2)  # [B, T, C, H, W]
        x = self.frame(x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(1, 2)
        return F.normalize(self.time(x), dim=1)


class VoiceEncoder(nn.Module):
    """``[B, 40, U]``, a standardised log-mel spectrogram, to ``[B, D, U]`` of length one: each sees 0.28 s."""

    def __init__(self, dim: int = 128, dropout: float = 0.2):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(BANDS, dim, 5, padding=2), nn.BatchNorm1d(dim), nn.ReLU(), nn.Dropout(dropout),
            _Residual(dim), _Residual(dim, 2), _Residual(dim, 3), nn.Conv1d(dim, dim, 1),
        )  # fmt: skip

    def forward(self, spectrogram: Tensor) -> Tensor:
        return F.normalize(self.net(spectrogram), dim=1)


class SpeechSync(nn.Module):
    """Both encoders, and what makes their input of crops and samples."""

    def __init__(self) -> None:
        super().__init__()
        self.mouth, self.voice = MouthEncoder(), VoiceEncoder()
        self.scale = nn.Parameter(torch.tensor(1.5))  # logarithm of what a similarity counts for in the loss
        self.mel = LogMel(SAMPLE_RATE, 512, 0.025, 0.01, BANDS, floor=1e-6, mean=0.0, std=1.0)

    def spectrogram(self, audio: Tensor) -> Tensor:
        """``[S]`` in [-1, 1] at `SAMPLE_RATE` to ``[40, S // 160]``."""
        return self.mel(audio[None])[0, 0]

    @torch.inference_mode()
    def similarity(self, crops: Tensor, audio: Tensor) -> Tensor:
        """How well each moment of a mouth fits each moment of the audio: ``[T, U]``.

        A moment that fits everything, such as a closed mouth, is no evidence: means over rows and columns are taken
        off.

        Args:
            crops: uint8 ``[T, 64, 64]``, `MOUTHS` a second, of `avlearn.apply.faces.MOUTH`.
            audio: ``[S]`` in [-1, 1] at `SAMPLE_RATE`, sample 0 at the first crop.
        """
        margin = (crops.shape[1] - SIDE) // 2
        mouths = standardise_mouths(crops[None, :, margin : margin + SIDE, margin : margin + SIDE].float())
        voice = self.voice(standardise_voice(self.spectrogram(audio)[None]))[0]
        mouth = F.normalize(self.mouth(mouths) + self.mouth(mouths.flip(3)), dim=1)[0]
        similarity = mouth.T @ voice
        return similarity - similarity.mean(1, keepdim=True) - similarity.mean(0, keepdim=True) + similarity.mean()


def standardise_mouths(mouths: Tensor) -> Tensor:
    """``[B, T, H, W]`` grey levels in 0 to 255 to those of mean 0 and about std 1 in each clip."""
    centred = mouths - mouths.mean((1, 2, 3), keepdim=True)
    return centred / (centred.std((1, 2, 3), keepdim=True) + 8)


def standardise_voice(spectrogram: Tensor) -> Tensor:
    """``[B, 40, U]`` to mean 0 in each band and about std 1 in each clip."""
    centred = spectrogram - spectrogram.mean(2, keepdim=True)
    return centred / (centred.std((1, 2), keepdim=True) + 0.3)


@cache
def load_speech_sync(device: torch.device | None = None) -> SpeechSync:
    """The encoders that come with the package, in evaluation mode."""
    model = SpeechSync()
    model.load_state_dict({name: value.float() for name, value in load_file(_FOLDER / "model.safetensors").items()})
    return model.eval().to(device or torch.device("cpu"))


@cache
def speech_calibration() -> dict[str, Any]:
    """What makes a probability of `avlearn.apply.sync.lip_curves.SpeechEvidence`, for speakers that were never seen."""
    return json.loads((_FOLDER / "sync.json").read_text(encoding="utf-8"))
