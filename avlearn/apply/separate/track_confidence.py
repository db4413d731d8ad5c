"""The confidence that a separated track is of the place that it was asked for with, and the evidence for it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.confidence import probability
from avlearn.media.resample import resample
from avlearn.models.audiovisual import AudioVisual

_LEAST = 1e-6  # share of the energy below which all shares count alike


@dataclass(frozen=True)
class TrackEvidence:
    """Evidence that a track is the sound of its own place.

    Attributes:
        fit: similarity of the track, heard alone, with its place.
        margin: by how much it is above that with the places of the other tracks, and with most of the video.
        share: of the input's power, its logarithm to the base of 10, because what little a place gets is mostly spilt
            from others.
    """

    fit: float
    margin: float
    share: float


@dataclass
class TrackSimilarity:
    """Similarity of K tracks, heard alone, with the places in the video. Summed over the steps of all stretches.

    Attributes:
        similar: ``[K, K + 1]`` similarity of each track with each place and, last, with the video's median, times
            the track's level.
        level: ``[K]`` root mean square of the tracks.
        power: ``[K + 1]`` of the tracks and, last, of the input.
    """

    similar: np.ndarray
    level: np.ndarray
    power: np.ndarray

    @classmethod
    def none(cls, count: int) -> "TrackSimilarity":
        """Of no stretch yet."""
        return cls(np.zeros((count, count + 1)), np.zeros(count), np.zeros(count + 1))

    def __add__(self, other: "TrackSimilarity") -> "TrackSimilarity":
        return TrackSimilarity(self.similar + other.similar, self.level + other.level, self.power + other.power)

    def evidence(self) -> list[TrackEvidence | None]:
        """Of each track; None for one that is silent."""
        similar = self.similar / np.maximum(self.level, 1e-12)[:, None]
        own = np.diagonal(similar)
        others = similar.copy()
        np.fill_diagonal(others, -np.inf)
        margin = own - others.max(1)
        share = np.log10((self.power[:-1] / max(self.power[-1], 1e-12)).clip(_LEAST))
        found = np.stack([own, margin, share], 1).round(4).tolist()
        return [TrackEvidence(*each) if level > 0 else None for each, level in zip(found, self.level, strict=True)]


def track_confidence(model: AudioVisual, evidence: TrackEvidence | None) -> float:
    """The probability that a track is the sound of its own place, at 5 dB (SI-SDR) or more; 0 where it is silent.

    Calibrated where the model's folder has a calibration (see ``tools/separate_error.py``); else it is the share of
    its place beside the best of the others, which tends to be too sure.

    Args:
        model: from `avlearn.load`.
        evidence: of the track.
    """
    if evidence is None:
        return 0.0
    if model.calibrations.tracks:
        return probability(evidence, model.calibrations.tracks)
    return float(1 / (1 + np.exp(-model.config.score_scale * evidence.margin)))


@torch.inference_mode()
def track_similarity(
    model: AudioVisual, audio: np.ndarray, tracks: np.ndarray, rate: int, features: Tensor, weights: Tensor, kept: slice
) -> TrackSimilarity:
    """Of one stretch.

    Args:
        model: the towers.
        audio: float32 ``[C, S]``, the input.
        tracks: float32 ``[K, C, S]``.
        rate: samples a second.
        features: ``[1, D, T, Y, X]`` of the video over the same seconds.
        weights: ``[K, T, Y, X]``, of which cells each source's place is made.
        kept: the steps that count; the others are context.
    """
    target = model.config.sample_rate
    waves = np.concatenate([tracks.mean(1), audio.mean(0, keepdims=True)])
    mono = torch.from_numpy(resample(np.ascontiguousarray(waves), rate, target))
    samples = round(model.step * target)
    heard = model.project_audio(model.audio_features(mono[:-1].to(model.device))).cpu()
    steps = min(heard.shape[2], features.shape[2], mono.shape[1] // samples)
    kept = slice(kept.start, min(kept.stop, steps))
    if kept.start >= kept.stop:
        return TrackSimilarity.none(len(tracks))
    power = mono[:, : steps * samples].unflatten(1, (steps, samples)).square().mean(2)[:, kept]
    level = power[:-1].sqrt()
    placed = model.project_video(features[:, :, kept].to(model.device))[0].cpu()
    fits = torch.einsum("dtyx,kdt->ktyx", placed, heard[:, :, kept])
    places = torch.einsum("ktyx,jtyx,kt->kj", fits, weights[:, kept], level)
    middle = (fits.flatten(2).median(2).values * level).sum(1)
    similar = torch.cat([places, middle[:, None]], 1)
    return TrackSimilarity(*(part.double().numpy() for part in (similar, level.sum(1), power.sum(1))))
