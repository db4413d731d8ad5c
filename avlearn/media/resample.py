"""Samples at another rate, so that a window equals its cut of the whole."""

from math import gcd

import numpy as np
import soxr

from avlearn.media.decode_audio import Samples

_REACH = 0.02  # seconds of source audio on either side that the resampler's filter sees, generously


class Resampled:
    """A `Samples` at another rate, without state between windows: a window equals its cut of the whole.

    Args:
        samples: of a file.
        rate: samples a second; the track's own by default.
        mono: average the channels.

    Attributes:
        rate: of what is read.
    """

    def __init__(self, samples: Samples, rate: int | None, mono: bool):
        self.samples, self.mono = samples, mono
        self.rate = rate or samples.rate
        common = gcd(self.rate, samples.rate)
        self.up, self.down = self.rate // common, samples.rate // common
        self.margin = resample_margin(samples.rate, self.rate)

    def read(self, first: int, count: int) -> np.ndarray:
        """Samples at this rate, float32 ``[C, count]`` (``[1, count]`` for mono)."""
        if self.up == self.down == 1:
            return mix(self.samples.read(first, count), self.mono)
        # From a sample whose instant both rates share, so that the filter's phase is always the same.
        lower = (first * self.down // self.up) // self.down * self.down - self.margin
        upper = -(-(first + count) * self.down // self.up) + self.margin
        source = mix(self.samples.read(lower, upper - lower), self.mono)
        out = resample(source, self.samples.rate, self.rate)
        skip = first - lower // self.down * self.up
        return np.ascontiguousarray(out[:, skip : skip + count])

    def forget(self, before: int) -> None:
        """Drop what no window from this sample on needs."""
        self.samples.forget(before * self.down // self.up - 2 * self.margin - self.down)

    def end(self) -> int | None:
        """The sample after the last, once it is known."""
        end = self.samples.end()
        return None if end is None else -(-end * self.up // self.down)


def resample_margin(source: int, target: int) -> int:
    """Source samples on either side that the filter needs: whole steps of the two rates' common grid."""
    if source == target:
        return 0
    step = source // gcd(source, target)
    reach = _REACH * source * max(1.0, source / target, 8000 / min(source, target))
    return -(-int(reach) // step) * step


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Change the rate of float32 ``[C, S]`` with a linear-phase filter (soxr, HQ); sample 0 keeps its instant.

    Args:
        audio: at the rate ``source``.
        source, target: samples a second.

    Returns:
        Float32 ``[C, S']``, S' about ``S * target / source``; ``audio`` itself where the rates are the same.
    """
    if source == target:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, source, target, "HQ").T)


def mix(audio: np.ndarray, mono: bool) -> np.ndarray:
    """Float32 ``[C, S]``, or its mean ``[1, S]``."""
    mixed: np.ndarray = audio.mean(0, keepdims=True) if mono and len(audio) > 1 else audio
    return mixed
