"""Shortcuts: classifiers that tell from the audio or the video alone where in its clip a window was cut."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from avlearn.data.cache import ClipCache
from avlearn.evaluation.windows import BATCH, audio_windows, video_windows
from avlearn.models.audiovisual import AudioVisual

_STRENGTH = 0.1  # of the fit: little, for some hundred windows
_COMPONENTS = 12  # of the model's features
_FOLDS = 5
_BANDS = 8
_PIECES = 8  # of the first and of the last step, for its level
_SILENCE = 1e-5


@dataclass(frozen=True)
class WindowFeatures:
    """Of windows: ``values [M, F]``, and what each of them is, ``names [F]``."""

    names: list[str]
    values: np.ndarray


def predict_positions(features: WindowFeatures, place: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Log-probabilities ``[M, O]`` of windows' places, by a logistic regression that never saw their clips.

    Args:
        features: of the windows.
        place: ``[M]``, where each was cut; every place from 0 to O - 1 is there.
        group: ``[M]``, whose windows are never parted.
    """
    found = np.zeros((len(place), place.max() + 1))
    for train, test in GroupKFold(_FOLDS).split(features.values, place, group):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=300))
        probe.fit(features.values[train], place[train])
        found[test[:, None], probe.classes_] = log_softmax(probe.decision_function(features.values[test]), 1)
    return found


def most_informative(features: WindowFeatures, place: np.ndarray) -> str:
    """The feature that differs most from place to place."""
    kept = features.values.std(0) > 0
    scores, _ = f_classif(features.values[:, kept], place)
    return str(np.array(features.names)[kept][np.argmax(scores)])


@torch.inference_mode()
def audio_window_features(model: AudioVisual, cache: ClipCache, clip: np.ndarray, start: np.ndarray) -> WindowFeatures:
    """Of audio of clips ``clip [M]`` from ``start [M]`` seconds on, each encoded on its own: how loud they are, how
    they begin and end, and what the model sees there. Levels are relative to the window's own.
    """
    low, high = [], []
    for k in range(0, len(clip), BATCH):
        audio = audio_windows(cache, clip[k : k + BATCH], start[k : k + BATCH], model.config.seconds).to(model.device)
        low.append(_audio_values(audio, _steps(model)))
        high.append(_edges(model.audio_features(audio)))
    return _joined(_audio_names(_steps(model)), low, high)


@torch.inference_mode()
def video_window_features(model: AudioVisual, cache: ClipCache, clip: np.ndarray, start: np.ndarray) -> WindowFeatures:
    """Of videos likewise: brightness, change and detail of each step, and what the model sees at both ends."""
    low, high = [], []
    for k in range(0, len(clip), BATCH):
        rows = slice(k, k + BATCH)
        video = video_windows(cache, clip[rows], start[rows], model.config.seconds, model.device)
        low.append(_video_values(video, _steps(model)))
        high.append(_edges(model.video_features(video).mean((3, 4))))
    names = [f"the {kind} in step {k}" for kind in ("brightness", "change", "detail") for k in range(_steps(model))]
    return _joined(names, low, high)


def _steps(model: AudioVisual) -> int:
    return round(model.config.seconds / model.step)


def _joined(names: list[str], low: list[Tensor], high: list[Tensor]) -> WindowFeatures:
    """Plain features, and the main components of the model's."""
    rows = torch.cat(high).cpu().numpy()
    components = PCA(min(_COMPONENTS, *rows.shape), random_state=0).fit_transform(rows)
    names = names + ["the model's features at the ends"] * components.shape[1]
    return WindowFeatures(names, np.concatenate([torch.cat(low).cpu().numpy(), components], 1))


def _edges(features: Tensor) -> Tensor:
    """First and last step beside the mean of all: ``[B, D, T]`` to ``[B, 2 D]``."""
    mean = features.mean(2)
    return torch.cat([features[..., 0] - mean, features[..., -1] - mean], 1)


def _level(audio: Tensor) -> Tensor:
    """``[..., S]`` to dB."""
    return 20 * (audio.square().mean(-1).sqrt() + _SILENCE).log10()


def _audio_names(steps: int) -> list[str]:
    ends = ("first", "last")
    return [
        *(f"the {kind} in step {k}" for kind in ("level", "sharpest jump") for k in range(steps)),
        *(f"the level in the {end} step" for end in ends for _ in range(_PIECES)),
        *(f"the spectrum of the {end} step" for end in ends for _ in range(_BANDS)),
    ]


def _audio_values(audio: Tensor, steps: int) -> Tensor:
    """``[B, S]`` to ``[B, F]``, as `_audio_names` has them."""
    parts = audio[:, : audio.shape[1] // steps * steps].unflatten(1, (steps, -1))
    levels = _level(parts)
    middle = levels.median(1, keepdim=True).values
    pieces = parts.shape[2] // _PIECES * _PIECES
    jumps = 20 * (parts.diff(n=2).abs().amax(2) + _SILENCE).log10()
    found = [levels - middle, jumps - jumps.median(1, keepdim=True).values]
    found += [_level(parts[:, k, :pieces].unflatten(1, (_PIECES, -1))) - middle for k in (0, -1)]
    power = torch.fft.rfft(parts).abs().square()
    bounds = torch.logspace(0, np.log10(power.shape[2]), _BANDS + 1).long()
    bands = torch.stack([power[..., a : max(b, a + 1)].mean(2) for a, b in pairwise(bounds.tolist())], 2)
    bands = 10 * (bands + _SILENCE**2).log10()
    found += [bands[:, k] - bands.mean(1) for k in (0, -1)]
    return torch.cat(found, 1)


def _video_values(video: Tensor, steps: int) -> Tensor:
    """``[B, 3, T, H, W]`` to brightness, change and detail of each step: ``[B, 3 steps]``."""
    grey = video.mean(1)
    change = (grey[:, 1:] - grey[:, :-1]).abs().mean((2, 3))
    change = torch.cat([change[:, :1], change], 1)  # of the first frame nothing is known
    detail = (grey[..., 1:] - grey[..., :-1]).abs().mean((2, 3)) + (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((2, 3))
    found = []
    for curve in (grey.mean((2, 3)), (change + 1e-4).log(), (detail + 1e-4).log()):
        means = curve[:, : curve.shape[1] // steps * steps].unflatten(1, (steps, -1)).mean(2)
        found.append(means - means.median(1, keepdim=True).values)
    return torch.cat(found, 1)
