"""Log-mel spectrograms whose frames tile time exactly."""

import torch
import torchaudio.functional as AF
from torch import Tensor, nn
from torch.nn import functional as F


class LogMel(nn.Module):
    """Waveform to log-mel spectrogram.

    Frame ``n`` is centred on ``(n + 0.5) * hop``: it stands for the samples ``[n * hop, (n + 1) * hop)``,
    so that a block of frames and a block of video frames that cover the same seconds carry the same
    index. (The customary centring on ``n * hop`` shifts the sound by half a hop against the picture.)

    Args:
        sample_rate: samples a second of the input.
        n_fft: length of the transform, samples.
        window, hop: seconds.
        mels: number of mel bands between 0 and half the sample rate.
    """

    def __init__(self, sample_rate: int, n_fft: int, window: float, hop: float, mels: int):
        super().__init__()
        self.sample_rate, self.n_fft = sample_rate, n_fft
        self.window_samples = round(window * sample_rate)
        self.hop_samples = round(hop * sample_rate)
        self.hop = self.hop_samples / sample_rate
        filters = AF.melscale_fbanks(
            n_fft // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate, norm=None, mel_scale="htk"
        )
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("taper", torch.hann_window(self.window_samples), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """``[B, S]`` in [-1, 1] to ``[B, 1, mels, N]`` with ``N = S // hop``; values around -2..2."""
        frames = audio.shape[-1] // self.hop_samples
        left = (self.n_fft - self.hop_samples) // 2
        right = self.n_fft - self.hop_samples - left
        padded = F.pad(audio[:, : frames * self.hop_samples].unsqueeze(1), (left, right), "reflect")
        spectrum = torch.stft(
            padded.squeeze(1),
            self.n_fft,
            self.hop_samples,
            self.window_samples,
            self.taper,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return ((torch.matmul(self.filters, power) + 1e-5).log().add(5).div(4)).unsqueeze(1)
