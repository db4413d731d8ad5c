"""Tensors to tensors, no weights: what encoders take of audio, and short-time Fourier transforms."""

from avlearn.config import Spectrogram
from avlearn.signal.front_end import FrontEnd
from avlearn.signal.spectrogram import LogLinear, LogMel
from avlearn.signal.stft import Stft

__all__ = ["FrontEnd", "LogLinear", "LogMel", "Spectrogram", "Stft"]
