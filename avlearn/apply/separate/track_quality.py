"""An estimate of a separated track's SI-SDR without its true sound."""

from dataclasses import dataclass

import numpy as np
import torch

from avlearn.models.calibration import TrackQualityMap

_WINDOW, _HOPS = 0.064, 4  # seconds of the transform's window, and its hops
_SHARPEST = 40.0  # dB


@dataclass(frozen=True)
class TrackQuality:
    """How clean a track is, by its masks alone.

    Attributes:
        sharpness: dB; 10 of it say that a track lets through 90 % of what is in the cells of the spectrogram that it
            takes anything from, on average by what it takes: where things overlap, masks are soft.
        si_sdr: dB, the estimate of its SI-SDR, if it is the sound of its place at all.
        error: dB within which nine in ten estimates lie.
    """

    sharpness: float
    si_sdr: float
    error: float


class MaskSums:
    """Sums over the stretches of a file from which the sharpness of its tracks follows.

    Args:
        tracks: how many.
        rate: samples a second.
    """

    def __init__(self, tracks: int, rate: int):
        self._taken, self._there = np.zeros(tracks), np.zeros(tracks)
        self._window = round(_WINDOW * rate / _HOPS) * _HOPS

    def add(self, audio: np.ndarray, tracks: np.ndarray) -> None:
        """Add a stretch: ``[C, S]``, and ``[K, C, S]`` of it."""
        if audio.shape[1] <= self._window or not len(tracks):
            return
        mono = torch.from_numpy(np.concatenate([tracks.mean(1), audio.mean(0, keepdims=True)]).astype(np.float32))
        taper = torch.hann_window(self._window)
        size = torch.stft(mono, self._window, self._window // _HOPS, window=taper, return_complex=True).abs()
        self._taken += size[:-1].square().sum((1, 2)).double().numpy()
        self._there += (size[:-1] * size[-1]).sum((1, 2)).double().numpy()

    def sharpness(self) -> list[float | None]:
        """Of each track, dB; None of one that is silent."""
        found = []
        for taken, there in zip(self._taken, self._there, strict=True):
            withheld = max(1 - taken / there, 10 ** (-_SHARPEST / 10)) if there > 0 and taken > 0 else None
            found.append(None if withheld is None else round(float(-10 * np.log10(withheld)), 2))
        return found


def track_quality(sharpness: float | None, calibration: TrackQualityMap | None) -> TrackQuality | None:
    """The estimate of a track's SI-SDR; None where it is silent, or the model was not held to tracks of known truth."""
    if sharpness is None or calibration is None:
        return None
    estimate = calibration.bias + calibration.weight * sharpness
    return TrackQuality(sharpness, round(min(max(estimate, calibration.low), calibration.high), 1), calibration.error)


def fit_quality(sharpness: np.ndarray, si_sdr: np.ndarray) -> TrackQualityMap:
    """A line from sharpness ``[N]`` to SI-SDR ``[N]``, both dB, by least squares."""
    weight, bias = np.polyfit(sharpness, si_sdr, 1)
    estimates = bias + weight * sharpness
    low, high = np.quantile(estimates, (0.01, 0.99))
    error = np.quantile(np.abs(estimates.clip(low, high) - si_sdr), 0.9)
    return TrackQualityMap(*(round(float(value), 3) for value in (weight, bias)), *(
        round(float(value), 1) for value in (error, low, high)
    ))  # fmt: skip
