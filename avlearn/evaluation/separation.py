"""How well are two sounds told apart, by the pictures of what makes them?"""

import numpy as np
import torch

from avlearn.apply.masks import separate_window
from avlearn.build import solo_features
from avlearn.data.cache import ClipCache
from avlearn.metrics import Figure
from avlearn.metrics.separation import separation
from avlearn.models.audiovisual import AudioVisual
from avlearn.signal import Stft
from avlearn.tasks.separate import Mixtures


@torch.inference_mode()
def separation_figures(model: AudioVisual, cache: ClipCache, labels: list[str], seed: int) -> list[Figure]:
    """Figures of separation, for mixtures of different classes and of the same one.

    Args:
        model: one with a separator.
        cache: decoded clips with one source each.
        labels: of the clips.
        seed: of the mixtures.
    """
    config = model.config
    features = solo_features(model, cache)
    figures = []
    for name, share in (("different classes", 0.0), ("same class", 1.0)):
        pairs = Mixtures(cache.audio, features, labels, share, config.seconds, model.step, config.sample_rate)
        estimates, references, ideal, lone = [], [], [], []
        stft = Stft(config.sample_rate, config.separator.window, config.separator.hop)
        for i in range(len(pairs)):
            item = pairs[(i, seed + i)]
            if (labels[item["index"][0]] == labels[item["index"][1]]) != bool(share):
                continue
            mixture = item["stems"].sum(0, keepdim=True)
            tracks = separate_window(model, mixture, config.sample_rate, item["features"][None])[:, 0]
            alone = separate_window(model, mixture, config.sample_rate, item["features"][None, :1])[:, 0]
            spectra = stft(item["stems"])
            ratio = spectra.abs() / spectra.abs().sum(0).clamp(min=1e-8)
            ideal.append(stft.inverse(ratio * stft(mixture), mixture.shape[1]).numpy())
            estimates.append(tracks.numpy())
            lone.append(torch.cat([alone, mixture - alone]).numpy())
            references.append(item["stems"].numpy())
        if not estimates:
            continue
        truth, best = np.stack(references), np.stack(ideal)
        figures += separation(np.stack(estimates), truth, best, name)
        if not share:
            figures += separation(np.stack(lone), truth, best, "on and off screen")
    return figures
