"""A small network that gives each face that is seen its own voice.

Dilated convolutions over time see a mixture's spectrogram, once for each face with the moments of its lips and of those
of the others, and say how much of every time and frequency is its voice (Ephrat et al., SIGGRAPH 2018; Afouras et al.,
Interspeech 2018). The masks of all faces and of what is left add up to one: faces compete. It learned from GRID and
ESC-10 alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE, SIDE, standardise_mouths
from avlearn.signal.stft import Stft

LIPS = 48  # numbers of a moment of lips
FRAMES = 2  # of the spectrogram to a crop of the mouth
_BINS = 320  # that are masked; the highest shares the mask of the one below
_SMALL = 0.3  # power to which magnitudes are raised: quiet harmonics count, too
_DILATIONS = 1, 2, 4, 8, 16, 1, 2, 4  # of what sees a face: a second of the mixture on either side


class _Residual(nn.Module):
    """A convolution over time that adds to what it sees."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.conv = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(self.norm(x)))


class VoiceMasks(nn.Module):
    """Masks of K faces, and of what is left."""

    def __init__(self, width: int = 192, before: Sequence[int] = (1, 2, 4), after: Sequence[int] = _DILATIONS):
        super().__init__()
        self.heard = nn.Sequential(nn.Conv1d(_BINS, width, 3, padding=1), *(_Residual(width, d) for d in before))
        self.seen = nn.Sequential(
            nn.Conv1d(LIPS + 1, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1)
        )
        self.others = nn.Conv1d(width, width, 1)
        self.time = nn.Sequential(*(_Residual(width, d) for d in after))
        self.out = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, _BINS, 1))

    def forward(self, magnitude: Tensor, lips: Tensor) -> Tensor:
        """Logits ``[B, K, 320, N]`` of each face's share; what is left has 0.

        Args:
            magnitude: ``[B, 320, N]`` of a mixture of about RMS 1, raised to the power of 0.3.
            lips: ``[B, K, 49, T]``: of `VoiceSeparation.lips`, and last 1; all 0 where no face is seen. Two columns
                are to a crop: T is at least N / 2.
        """
        count, frames = lips.shape[1], magnitude.shape[2]
        heard = self.heard(magnitude)
        seen = self.seen(lips.flatten(0, 1)).repeat_interleave(FRAMES, 2)[:, :, :frames].unflatten(0, (-1, count))
        others = self.others((seen.sum(1, keepdim=True) - seen).flatten(0, 1)).unflatten(0, (-1, count))
        return self.out(self.time((heard[:, None] + seen + others).flatten(0, 1))).unflatten(0, (-1, count))


class VoiceSeparation(nn.Module):
    """The masks, and what makes their input of crops and samples."""

    components: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.masks = VoiceMasks()
        self.stft = Stft(SAMPLE_RATE, 2 * _BINS / SAMPLE_RATE, 1 / (FRAMES * MOUTHS))
        self.register_buffer("components", torch.zeros(LIPS, (SIDE // 2) ** 2))
        self.register_buffer("spread", torch.ones(LIPS))

    def lips(self, crops: Tensor) -> Tensor:
        """What moves of lips, ``[B, 48, T]`` of about std 1: of uint8 ``[B, T, 64, 64]`` of a track of a face.

        Args:
            crops: of `avlearn.apply.faces.MOUTH`, `MOUTHS` a second.
        """
        margin = (crops.shape[-1] - SIDE) // 2
        return self.project(moving(standardise_mouths(crops[:, :, margin:-margin, margin:-margin].float())))

    def project(self, pixels: Tensor) -> Tensor:
        """``[B, 48, T]`` of `moving`: principal components, each to std 1 (Bregler & Konig, ICASSP 1994)."""
        return (pixels @ self.components.T / self.spread).transpose(1, 2)

    def masked(self, audio: Tensor, lips: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrograms ``[B, 321, N]`` of ``[B, S]`` at RMS 1, and masks ``[B, K + 1, 321, N]``, that of the rest last.

        Args:
            audio: mixtures at `SAMPLE_RATE`, of any level.
            lips: as of `VoiceMasks`, ``[B, K, 49, T]``; T crops from the first sample on.
        """
        spectrum = self.stft(audio / (audio.square().mean(1, keepdim=True).sqrt() + 1e-6))
        logits = self.masks(spectrum[:, :_BINS].abs() ** _SMALL, lips)
        masks = F.pad(logits, (0, 0, 0, 0, 0, 1)).softmax(1)
        return spectrum, torch.cat([masks, masks[:, :, -1:]], 2)

    @torch.inference_mode()
    def separate(self, audio: Tensor, lips: Tensor) -> Tensor:
        """Each face's voice ``[K, C, S]``: the masks are those of the mean of the channels.

        Args:
            audio: ``[C, S]`` at `SAMPLE_RATE`.
            lips: ``[K, 49, T]``, see `masked`.
        """
        _, masks = self.masked(audio.mean(0, keepdim=True), lips[None])
        return self.stft.inverse(self.stft(audio) * masks[0, :-1, None], audio.shape[1])


def moving(mouths: Tensor) -> Tensor:
    """``[B, T, 48, 48]``, standardised, to ``[B, T, 576]``: at half the resolution, less what does not move."""
    pixels = F.avg_pool2d(mouths, 2).flatten(2)
    return pixels - pixels.mean(1, keepdim=True)
