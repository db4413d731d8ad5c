"""The short-time Fourier transform that separation works in."""

import torch
from torch import Tensor, nn


class Stft(nn.Module):
    """Short-time Fourier transform with a window and a hop given in seconds.

    The same seconds at another sample rate give bins of the same width in Hz, so that a mask made
    at 16 kHz applies, bin by bin, to a 48 kHz recording.

    Args:
        sample_rate: samples a second.
        window, hop: seconds; the window is a periodic Hann window and also the transform's length.

    Raises:
        ValueError: a window or a hop is shorter than the transform can have it.
    """

    taper: Tensor

    def __init__(self, sample_rate: int, window: float, hop: float):
        super().__init__()
        self.hop_samples = round(hop * sample_rate)
        self.n_fft = round(window * sample_rate / 2) * 2
        if self.hop_samples < 1 or self.n_fft < 4:
            raise ValueError(f"a window of {self.n_fft} samples and a hop of {self.hop_samples} make no transform")
        self.bin_hz = sample_rate / self.n_fft
        self.register_buffer("taper", torch.hann_window(self.n_fft), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """``[..., S]`` to complex ``[..., n_fft // 2 + 1, 1 + S // hop]``; frame n is centred on n * hop."""
        flat = audio.reshape(-1, audio.shape[-1])
        spectrum = torch.stft(
            flat,
            self.n_fft,
            self.hop_samples,
            window=self.taper,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.reshape(*audio.shape[:-1], *spectrum.shape[-2:])

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """Complex ``[..., F, N]`` back to ``[..., samples]``."""
        flat = spectrum.reshape(-1, *spectrum.shape[-2:])
        audio = torch.istft(flat, self.n_fft, self.hop_samples, window=self.taper, center=True, length=samples)
        return audio.reshape(*spectrum.shape[:-2], samples)
