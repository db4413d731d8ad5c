"""Cepstral coefficients: frames, energies, and the transform, each computed in another way."""

import math

import pytest
import torch

from avlearn.signal.mfcc import mfcc


def tone(hertz: float, samples: int = 3200, level: float = 0.5) -> torch.Tensor:
    return level * torch.sin(2 * torch.pi * hertz * torch.arange(samples, dtype=torch.float64) / 16000).unsqueeze(0)


@pytest.mark.parametrize(("samples", "frames"), [(300, 1), (400, 1), (401, 2), (560, 2), (16000, 99), (640 * 25, 99)])
def test_frames(samples, frames):
    assert mfcc(torch.rand(2, samples)).shape == (2, 1, 13, frames)


def test_the_first_coefficient_is_the_energy_of_16_bit_samples():
    audio = torch.randn(1, 720, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1
    samples = audio[0] * 32768
    emphasised = torch.cat([samples[:1], samples[1:] - 0.97 * samples[:-1]])
    found = mfcc(audio)[0, 0, 0]
    for n, start in enumerate((0, 160, 320)):
        window = emphasised[start : start + 400]
        # Parseval: the one-sided sum counts the ends of the spectrum once, all else twice.
        spectrum = torch.fft.fft(window, 512).abs().square()
        energy = (spectrum.sum() + spectrum[0] + spectrum[256]) / 2 / 512
        assert float(found[n]) == pytest.approx(math.log(energy), rel=1e-9)


def test_a_gain_changes_the_first_coefficient_only():
    quiet, loud = mfcc(tone(700, level=0.05)), mfcc(tone(700, level=0.5))
    torch.testing.assert_close(loud[:, :, 1:], quiet[:, :, 1:])
    torch.testing.assert_close(loud[:, :, 0] - quiet[:, :, 0], torch.full_like(loud[:, :, 0], math.log(100)))


def test_known_coefficients():
    """Of an impulse after the first sample the spectrum is that of the emphasis alone: |1 - 0.97 e^-jw|^2."""
    audio = torch.zeros(1, 400, dtype=torch.float64)
    audio[0, 1] = 1 / 32768
    power = [(1 + 0.97**2 - 1.94 * math.cos(2 * math.pi * k / 512)) / 512 for k in range(257)]
    top = 2595 * math.log10(1 + 8000 / 700)
    corners = [math.floor(513 * 700 * (10 ** (top * i / 27 / 2595) - 1) / 16000) for i in range(28)]
    bands = []
    for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
        up = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
        bands.append(math.log(up + sum(power[k] * (high - k) / (high - middle) for k in range(middle, high))))
    found = mfcc(audio)[0, 0, :, 0]
    for order in range(1, 13):
        cosines = sum(band * math.cos(math.pi * order * (j + 0.5) / 26) for j, band in enumerate(bands))
        expected = math.sqrt(2 / 26) * cosines * (1 + 11 * math.sin(math.pi * order / 22))
        assert float(found[order]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_silence_is_finite():
    found = mfcc(torch.zeros(1, 800))
    assert torch.isfinite(found).all()
    assert float(found[0, 0, 0, 0]) == pytest.approx(math.log(2**-52))
