"""Log spectrograms whose frames tile time exactly."""

import torch
import torchaudio.functional as AF
from torch import Tensor, nn
from torch.nn import functional as F


class LogSpectrogram(nn.Module):
    """Waveform to the logarithm of its power in bands of frequency, standardised.

    Frame ``n`` is centred on ``(n + 0.5) * hop``: it stands for the samples ``[n * hop, (n + 1) * hop)``,
    so that a block of frames and a block of video frames that cover the same seconds carry the same
    index. (The customary centring on ``n * hop`` shifts the audio by half a hop against the video.)

    Args:
        sample_rate: samples a second of the input.
        filters: ``[F, n_fft // 2 + 1]``, what each band takes of the power of each bin.
        n_fft: length of the transform, samples.
        window, hop: seconds.
        floor: added to the power of a band.
        mean, std: subtracted from the natural logarithm, and what it is divided by then.
    """

    filters: Tensor
    taper: Tensor

    def __init__(
        self,
        sample_rate: int,
        filters: Tensor,
        n_fft: int,
        window: float,
        hop: float,
        floor: float = 1e-5,
        mean: float = -5.0,
        std: float = 4.0,
    ):
        super().__init__()
        self.sample_rate, self.n_fft, self.bands = sample_rate, n_fft, len(filters)
        self.window_samples = round(window * sample_rate)
        self.hop_samples = round(hop * sample_rate)
        self.hop = self.hop_samples / sample_rate
        self.floor, self.mean, self.std = floor, mean, std
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("taper", torch.hann_window(self.window_samples), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """``[B, S]`` in [-1, 1] to ``[B, 1, F, N]`` with ``N = S // hop``."""
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
        bands = torch.matmul(self.filters, power)
        return (bands + self.floor).log().sub(self.mean).div(self.std).unsqueeze(1)


class LogMel(LogSpectrogram):
    """In bands of equal width in mel, between 0 and half the sample rate.

    Args:
        sample_rate, n_fft, window, hop: see `LogSpectrogram`.
        mels: number of bands.
        constants: ``floor``, ``mean`` and ``std`` of `LogSpectrogram`; by default values are around -2..2.
    """

    def __init__(self, sample_rate: int, n_fft: int, window: float, hop: float, mels: int, **constants: float):
        with torch.device("cpu"):  # looks at its numbers, which a model on the meta device has not
            filters = AF.melscale_fbanks(
                n_fft // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate, norm=None, mel_scale="htk"
            )
        super().__init__(sample_rate, filters.T.contiguous(), n_fft, window, hop, **constants)


class LogLinear(LogSpectrogram):
    """In bands of equal width in Hz: the bins of the transform, or means of neighbours above the first.

    Args:
        sample_rate, n_fft, window, hop: see `LogSpectrogram`.
        bins: number of bands; half of ``n_fft`` is a multiple of ``bins - 1``.
        constants: see `LogMel`.

    Raises:
        ValueError: it is not.
    """

    def __init__(self, sample_rate: int, n_fft: int, window: float, hop: float, bins: int, **constants: float):
        group, left = divmod(n_fft // 2, bins - 1) if bins > 1 else (0, 1)
        if left or not group:
            raise ValueError(f"{n_fft // 2 + 1} bins do not make {bins} bands of equal width above the first")
        filters = torch.zeros(bins, n_fft // 2 + 1)
        filters[0, 0] = 1
        filters[1:, 1:] = torch.eye(bins - 1).repeat_interleave(group, 1) / group
        super().__init__(sample_rate, filters, n_fft, window, hop, **constants)
