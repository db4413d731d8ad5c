"""Weights of clips by the kinds of sound within their class: audio-balanced learning (Zhang et al., CVPR 2022)."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

from avlearn.signal.spectrogram import LogMel
from avlearn.tasks.recognize.clips import LabelledClips

_BETA = 0.999  # of effective numbers of clips (Cui et al., CVPR 2019), as published
_MOST = 20  # kinds of sound in a class


def audio_balanced_weights(clips: LabelledClips) -> torch.Tensor:
    """Weights ``[N]`` of training clips: rare classes, and within a class rare kinds of sound, count for more.

    The kinds are clusters of the clips' log-mel spectra, of their means and stds over time; the authors cluster
    features of a network of audio. A clip without a label, or one that cannot be read, has weight 1.
    """
    mel = LogMel(clips.how.sample_rate, 512, 0.025, 0.01, 64)
    spectra, classes, used = [], [], []
    for index in range(len(clips)):
        item = clips[(index, 0, ())]
        if "skipped" in item or not clips.rows[index].labels:
            continue
        item = item["windows"][0] if "windows" in item else item
        spectrum = mel(torch.as_tensor(item["audio"])[None])[0, 0]
        spectra.append(torch.cat(torch.std_mean(spectrum, 1)).numpy())
        classes.append(int(torch.as_tensor(item["labels"]).int().argmax()))
        used.append(index)
    weights = torch.ones(len(clips))
    if used:
        values = StandardScaler().fit_transform(np.stack(spectra))
        weights[used] = torch.from_numpy(balanced_by_cluster(values, np.array(classes))).float()
    return weights


def balanced_by_cluster(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Weights ``[N]`` by effective numbers of clips; those of classes are 1 on average, and those of its clusters.

    Args:
        values: ``[N, D]``, of the audio.
        classes: ``[N]``.
    """
    names, counts = np.unique(classes, return_counts=True)
    of_class = 1 / _effective(counts)
    of_class *= len(names) / of_class.sum()
    weights = np.ones(len(classes))
    for name, weight in zip(names, of_class, strict=True):
        own = np.flatnonzero(classes == name)
        kinds = clusters(values[own])
        of_kind = 1 / _effective(np.bincount(kinds))
        weights[own] = weight * (of_kind * len(of_kind) / of_kind.sum())[kinds]
    return weights


def clusters(values: np.ndarray) -> np.ndarray:
    """Clusters ``[N]`` of ``[N, D]`` by k-means, as many as where more of them help less: the knee of the inertia."""
    most = min(_MOST, len(np.unique(values, axis=0)))
    fits = [KMeans(count, n_init=3, random_state=0).fit(values) for count in range(1, most + 1)]
    return np.asarray(fits[_knee([fit.inertia_ for fit in fits])].labels_)


def _knee(falling: Sequence[float]) -> int:
    """Where a falling curve is farthest below the line from its first value to its last (Satopaa et al., 2011)."""
    values = np.array(falling)
    if len(values) < 3 or values[0] <= values[-1]:
        return 0
    below = np.linspace(1, 0, len(values)) - (values - values[-1]) / (values[0] - values[-1])
    return int(below.argmax())


def _effective(counts: np.ndarray) -> np.ndarray:
    found: np.ndarray = (1 - _BETA**counts) / (1 - _BETA)
    return found
