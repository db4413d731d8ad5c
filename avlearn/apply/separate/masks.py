"""A stretch of audio split into the part of each source, at the audio's own rate and channels."""

from fractions import Fraction
from math import gcd, lcm

import torch
from torch import Tensor

from avlearn.apply.windows import check_finite
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.unet import at_frames

# Seconds on either side of a sample that its masks are made from: beyond 0.96 s nothing but rounding is left.
CONTEXT = 1.12
_WEAKEST = 1e-3  # least sum of squared windows that is divided by: at a stretch's very ends it falls to nothing


def stretch_grid(model: AudioVisual, rate: int) -> int:
    """Samples on whose multiples stretches of a file may begin, so that their masks are cut on one grid.

    That is a whole number of samples, of the model's steps and of the U-Net's strides.
    """
    separator = model.require_separator()
    stride = _exact(separator.config.hop) * separator.stride
    return int(_common_multiple(_common_multiple(_exact(model.step), stride), Fraction(1, rate)) * rate)


def _exact(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)


def _common_multiple(a: Fraction, b: Fraction) -> Fraction:
    """The least time that is a whole number of both."""
    return Fraction(lcm(a.numerator, b.numerator), gcd(a.denominator, b.denominator))


class _Transform:
    """The short-time Fourier transform of `avlearn.signal.Stft`, on the model's clock at every sample rate.

    Frame n is centred on ``n * hop`` seconds, rounded to a sample. Where a hop is no whole number of samples (32 ms at
    44.1 kHz are 1411.2), frames drift neither from what is seen nor from those of the next stretch.
    """

    def __init__(self, rate: int, window: float, hop: float, samples: int, device: torch.device):
        self.samples, self.length = samples, round(window * rate / 2) * 2
        count = 1 + int(samples / (hop * rate) + 1e-6)
        self.bin_hz = rate / self.length
        self.taper = torch.hann_window(self.length, device=device)
        # The audio is padded by half a window: the frame that is centred on a sample begins with it.
        self.begins = [round(n * hop * rate) for n in range(count)]
        self.padded = max(self.begins[-1], samples) + self.length

    def forward(self, audio: Tensor) -> Tensor:
        """``[C, S]`` to complex ``[C, F, N]``."""
        before = self.length // 2
        padded = torch.nn.functional.pad(audio, (before, self.padded - before - self.samples))
        frames = padded.unfold(1, self.length, 1)[:, self.begins]
        return torch.fft.rfft(frames * self.taper, dim=2).transpose(1, 2)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Complex ``[C, F, N]`` back to ``[C, S]``."""
        frames = torch.fft.irfft(spectrum.transpose(1, 2), self.length, dim=2) * self.taper
        audio, weight = frames.new_zeros(len(frames), self.padded), frames.new_zeros(self.padded)
        squared = self.taper.square()
        for n, begin in enumerate(self.begins):
            audio[:, begin : begin + self.length] += frames[:, n]
            weight[begin : begin + self.length] += squared
        kept = slice(self.length // 2, self.length // 2 + self.samples)
        return audio[:, kept] / weight[kept].clamp(min=_WEAKEST)


@torch.inference_mode()
def separate_window(
    model: AudioVisual, audio: Tensor, rate: int, queries: Tensor, heard: Tensor | None = None
) -> Tensor:
    """One stretch of audio into what each query explains.

    Args:
        model: with a separator.
        audio: ``[C, S]`` at any rate; all channels share the masks. Stretches of one file that begin on multiples of
            `stretch_grid` agree wherever they reach `CONTEXT` further on both sides.
        rate: samples a second.
        queries: ``[1, K, D, T]`` features of the sources over the same seconds.
        heard: ``[1, S]``, the same audio as the model takes it; the channels' mean by default.

    Returns:
        ``[K, C, S]``; masks of all sources add up to at most one.
    """
    separator = model.require_separator()
    settings = separator.config
    transform = _Transform(rate, settings.window, settings.hop, audio.shape[1], audio.device)
    spectrum = transform.forward(audio)
    # The same audio at a higher rate has more samples in a window: bring its level to the training's.
    mixture = spectrum.mean(0, keepdim=True) if heard is None else transform.forward(heard)
    mixture = mixture * (model.config.sample_rate / rate)
    features = at_frames(queries, model.step, settings.hop, mixture.shape[-1])
    found = check_finite(separator(mixture, transform.bin_hz, features), "the tracks")
    masks = separator.masks(found, spectrum.shape[-2], transform.bin_hz)[0]
    if not masks.is_complex():
        masks = masks / masks.sum(0, keepdim=True).clamp(min=1)
    return torch.stack([transform.inverse(mask * spectrum) for mask in masks])
