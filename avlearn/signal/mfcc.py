"""Mel-frequency cepstral coefficients (Davis & Mermelstein, IEEE TASSP 1980), with the constants of SyncNet."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 16000
WINDOW, _HOP, _FFT = 400, 160, 512  # samples
COEFFICIENTS = 13
_BANDS, _LIFTER = 26, 22
_PREEMPHASIS = 0.97
_FULL_SCALE = 32768  # the coefficients are those of 16-bit samples
_LEAST = 2.0**-52  # stands for no energy at all


def mfcc(audio: Tensor) -> Tensor:
    """Coefficients of python_speech_features, whose defaults many speech networks were trained on.

    Windows of 25 ms, not tapered, begin every 10 ms; the last is filled up with zeros. The first coefficient is the
    logarithm of a window's energy.

    Args:
        audio: ``[B, S]`` at 16 kHz, in [-1, 1].

    Returns:
        ``[B, 1, 13, N]``, N windows: 1 + (S - 400) / 160, rounded up, and at least 1.
    """
    audio = audio * _FULL_SCALE
    audio = torch.cat([audio[:, :1], audio[:, 1:] - _PREEMPHASIS * audio[:, :-1]], 1)
    windows = 1 + max(0, math.ceil((audio.shape[1] - WINDOW) / _HOP))
    audio = F.pad(audio, (0, (windows - 1) * _HOP + WINDOW - audio.shape[1]))
    power = torch.fft.rfft(audio.unfold(1, WINDOW, _HOP), _FFT).abs().square() / _FFT  # [B, N, 257]
    energy, bands = power.sum(2), power @ _filters().to(power)
    cepstrum = _log(bands) @ _liftered_cosines().to(power)
    coefficients = torch.cat([_log(energy).unsqueeze(2), cepstrum], 2)
    return coefficients.transpose(1, 2).unsqueeze(1)


def _log(energy: Tensor) -> Tensor:
    return torch.where(energy == 0, _LEAST, energy).log()


def _filters() -> Tensor:
    """``[257, 26]`` triangles over mel bands; their corners lie on bins."""
    mels = torch.linspace(0, 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700), _BANDS + 2, dtype=torch.float64)
    corners = ((_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE).floor()
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    bins = torch.arange(_FFT // 2 + 1, dtype=torch.float64).unsqueeze(1)
    return torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)


def _liftered_cosines() -> Tensor:
    """``[26, 12]``: the orthonormal cosine transform (DCT-II) without its mean, the higher coefficients raised."""
    order = torch.arange(1, COEFFICIENTS, dtype=torch.float64)
    places = torch.arange(_BANDS, dtype=torch.float64).unsqueeze(1) + 0.5
    cosines = math.sqrt(2 / _BANDS) * (math.pi / _BANDS * places * order).cos()
    return cosines * (1 + _LIFTER / 2 * (math.pi / _LIFTER * order).sin())
