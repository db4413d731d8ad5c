"""From samples to what an audio encoder takes: spectrograms, cepstra, or the samples themselves."""

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.config import Spectrogram
from avlearn.signal import mfcc
from avlearn.signal.spectrogram import LogLinear, LogMel, LogSpectrogram


class MFCC(nn.Module):
    """Cepstral coefficients (`mfcc`), less ``mean`` and over ``std``, whose frames tile time as spectrograms' do."""

    hop_samples, hop, bands = 160, 0.01, mfcc.COEFFICIENTS

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, audio: Tensor) -> Tensor:
        """``[B, S]`` at 16 kHz to ``[B, 1, 13, S // 160]``."""
        audio = audio[:, : audio.shape[1] // self.hop_samples * self.hop_samples]
        beyond = (mfcc.WINDOW - self.hop_samples) // 2
        return (mfcc.mfcc(F.pad(audio, (beyond, beyond))) - self.mean) / self.std


class Waveform(nn.Module):
    """Samples as they are, of one channel."""

    hop_samples, bands = 1, None

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop = 1 / sample_rate

    def forward(self, audio: Tensor) -> Tensor:
        """``[B, S]`` to ``[B, 1, S]``."""
        return audio.unsqueeze(1)


class FrontEnd(nn.Module):
    """Audio as an encoder takes it, in batches on the device.

    Args:
        sample_rate: samples a second.
        options: of the spectrogram.

    Attributes:
        hop: seconds from one frame, or sample, to the next.

    Raises:
        ValueError: linear bands do not divide the transform's, a window or a hop is longer than the transform or
            shorter than a sample, or cepstra are not of 16 kHz.
    """

    def __init__(self, sample_rate: int, options: Spectrogram) -> None:
        super().__init__()
        o = options
        self.kind: LogSpectrogram | MFCC | Waveform
        for name in ("window", "hop") if o.kind in ("log_mel", "log_linear") else ():
            samples = round(getattr(o, name) * sample_rate)
            if not 1 <= samples <= o.n_fft:
                raise ValueError(f"a {name} of {samples} samples does not go with n_fft {o.n_fft}")
        constants = {"floor": o.floor, "mean": o.mean, "std": o.std}
        if o.kind == "log_mel":
            self.kind = LogMel(sample_rate, o.n_fft, o.window, o.hop, o.mels, **constants)
        elif o.kind == "log_linear":
            bins = o.bins or o.n_fft // 2 + 1
            self.kind = LogLinear(sample_rate, o.n_fft, o.window, o.hop, bins, **constants)
        elif o.kind == "mfcc":
            if sample_rate != mfcc.SAMPLE_RATE:
                raise ValueError(f"kind mfcc is of {mfcc.SAMPLE_RATE} samples a second, not {sample_rate}")
            self.kind = MFCC(o.mean, o.std)
        else:
            self.kind = Waveform(sample_rate)
        self.hop: float = self.kind.hop
        self.margin_samples = o.margin * self.kind.hop_samples

    def frames(self, samples: int) -> int:
        """N of so many samples."""
        return (samples + 2 * self.margin_samples) // self.kind.hop_samples

    def shape(self, frames: int) -> tuple[int, ...]:
        """Of one output of so many frames: ``(1, F, N)``, or ``(1, N)`` of samples."""
        return (1, frames) if self.kind.bands is None else (1, self.kind.bands, frames)

    def forward(self, audio: Tensor) -> Tensor:
        """``[B, S]`` in [-1, 1] to ``[B, 1, F, N]``, or ``[B, 1, N]`` of samples; N covers the margins as well."""
        features: Tensor = self.kind(F.pad(audio, (self.margin_samples, self.margin_samples)))
        return features
