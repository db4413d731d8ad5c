"""Tensors to tensors, no weights: spectrograms and short-time Fourier transforms."""

from avlearn.signal.spectrogram import LogMel
from avlearn.signal.stft import Stft

__all__ = ["LogMel", "Stft"]
