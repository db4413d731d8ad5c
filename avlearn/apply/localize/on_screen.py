"""The probability that what makes the sound is on screen, and the evidence for it in a window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.confidence import probability
from avlearn.apply.windows import SILENCE
from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives.similarity import offset_scores

_OTHERS = 6  # steps on each side that the true offset is held against
_NEAR = 1  # steps from it that count as it


@dataclass(frozen=True)
class OnScreenEvidence:
    """Evidence for a source on screen, in a window.

    Attributes:
        height: similarity at the map's peak above the map's median.
        fit: similarity of video and audio, pooled over places.
        timing: by how much it is above that of the audio at other times, a soft maximum over these.
    """

    height: float
    fit: float
    timing: float


@torch.inference_mode()
def on_screen_evidence(model: AudioVisual, placed: Tensor, heard: Tensor, maps: np.ndarray) -> list[OnScreenEvidence]:
    """The evidence of windows.

    Args:
        model: the towers.
        placed: ``[B, D, T', Y, X]``.
        heard: ``[B, D, T']`` of the same seconds.
        maps: ``[B, Y', X']`` of place and audio.
    """
    offsets = torch.arange(-_OTHERS, _OTHERS + 1)
    curves = offset_scores(placed, heard, model.config.pool_scale, 0, offsets).cpu().numpy()
    heights = maps.max((1, 2)) - np.median(maps, axis=(1, 2))
    true = np.abs(offsets.numpy()) <= _NEAR
    found = []
    for height, curve in zip(heights, curves, strict=True):
        best = float(np.nanmax(curve[true]))
        others = np.nan_to_num(curve[~true], nan=-1.0)
        mass = np.logaddexp.reduce(model.config.score_scale * others) / model.config.score_scale
        found.append(OnScreenEvidence(float(height), best, best - float(mass)))
    return found


def on_screen_probability(model: AudioVisual, evidence: Sequence[OnScreenEvidence], levels: np.ndarray) -> np.ndarray:
    """The probability that something on screen makes the sound: ``[N]`` in [0, 1], 0 where it is silent.

    Calibrated where the model's folder has a calibration (see `avlearn.apply.calibrate`); else it is the share of
    the true offset among others, which tends to be too sure.

    Args:
        model: from `avlearn.load`.
        evidence: of N windows.
        levels: ``[N]`` root mean square of their audio, of full scale.
    """
    calibration = model.calibrations.on_screen
    if calibration:
        found = [probability(each, calibration) for each in evidence]
    else:
        found = [float(1 / (1 + np.exp(-model.config.score_scale * each.timing))) for each in evidence]
    return np.where(np.asarray(levels) < SILENCE, 0.0, found)
