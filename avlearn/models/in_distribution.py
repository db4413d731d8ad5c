"""In-distribution statistics: Gaussians of the features of video and audio like a model's training data."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import TwoTower, frames_to_input
from avlearn.models.weights.checkpoint import check_finite, write_tensors

FILE = "in_distribution.safetensors"  # in a model folder
LABELLED = "labels."  # before the kind, of statistics of what the classifiers were trained on, where that differs
FORMER_PREFIX = "familiar."  # of the statistics among the weights, where folders of before have them

_DIRECTIONS = 64  # that are told apart; the others share one variance
_SHRINK = 0.1  # of each variance towards one: few clips say little about rare directions
_FLOOR = 0.01  # of the spread of all values: the least that one of them is taken to spread
_FOLDS = 5
_SHARE = 0.98  # of held-out clips that are to be in-distribution
_MARGIN = 1.1  # what is unlike lies far beyond: this much costs little, and spares other clips of the same kind
_CELLS = 8  # of a frame in which motion is looked for: coarse enough for the noise of codecs to vanish


def describe_video(features: Tensor, frames: Tensor) -> Tensor:
    """Statistics of windows: mean and std of the features over time and places, and how much the frames change.

    Args:
        features: ``[B, D, T, Y, X]``.
        frames: uint8 ``[B, T', H, W, 3]``.

    Returns:
        ``[B, 2 D + 1]``.
    """
    grey = frames.float().mean(4).div_(255)
    cells = F.adaptive_avg_pool2d(grey, _CELLS)
    change = cells.diff(dim=1).abs().mean((1, 2, 3)) if cells.shape[1] > 1 else cells.new_zeros(len(cells))
    flat = features.flatten(2)
    return torch.cat([flat.mean(2), flat.std(2, unbiased=False), (change + 1e-4).log()[:, None]], 1)


def describe_audio(features: Tensor) -> Tensor:
    """Statistics of windows: mean and std of the features over time.

    The spectrum itself tells codecs apart, which cut it off, better than kinds of sounds.

    Args:
        features: ``[B, D, T]``.

    Returns:
        ``[B, 2 D]``.
    """
    return torch.cat([features.mean(2), features.std(2, unbiased=False)], 1)


@dataclass(frozen=True, eq=False)
class InDistribution:
    """Gaussian of the descriptions of clips that were held out of the training, and the distance up to which it holds.

    The distance is Mahalanobis' (Lee et al., NeurIPS 2018), with a covariance of few directions and one variance for
    what is left (probabilistic PCA: Tipping & Bishop, 1999).

    Attributes:
        mean, scale: ``[V]`` of the values.
        directions, variances: ``[V, K]`` and ``[K]``, of the scaled values.
        rest: variance along all other directions.
        limit: the largest distance that is in-distribution.
    """

    mean: Tensor
    scale: Tensor
    directions: Tensor
    variances: Tensor
    rest: Tensor
    limit: Tensor

    @classmethod
    def fit(cls, described: Tensor, clips: Tensor) -> "InDistribution | None":
        """Statistics of windows of held-out clips; None where there are fewer than two clips.

        Distances are measured by cross-validation over clips. The fewer they are, the further the limit lies.

        Args:
            described: ``[N, V]``.
            clips: ``[N]`` which clip each window is of.
        """
        names, number = clips.unique(return_inverse=True)
        if len(names) < 2:
            return None
        distances = described.new_zeros(len(described))
        for fold in range(min(_FOLDS, len(names))):
            held = number % _FOLDS == fold
            distances[held] = _gaussian(described[~held]).distance(described[held])
        medians = torch.stack([distances[number == k].median() for k in range(len(names))])
        limit = torch.quantile(medians, _SHARE) * (_MARGIN + len(names) ** -0.5)
        return _gaussian(described, limit)

    def distance(self, described: Tensor) -> Tensor:
        """Distances of descriptions ``[B, V]`` from the mean: ``[B]``; about 1 for clips like those of `fit`."""
        values = (described.to(self.mean) - self.mean) / self.scale
        along = (values @ self.directions).square()
        beyond = (values.square().sum(1) - along.sum(1)).clamp(min=0)
        return (((along / self.variances).sum(1) + beyond / self.rest) / len(self.mean)).sqrt()

    def contains(self, described: Tensor) -> bool:
        """Whether the median of windows ``[B, V]`` is near enough."""
        return bool(self.distance(described).median() <= self.limit)


def _gaussian(described: Tensor, limit: Tensor | None = None) -> InDistribution:
    """The Gaussian of descriptions ``[N, V]``; without a limit, of no distance."""
    values = described.shape[1]
    mean, spread = described.mean(0), described.std(0, unbiased=False)
    scale = (spread + _FLOOR * described.std(unbiased=False)).clamp(min=1e-6)
    scaled = (described - mean) / scale
    _, singular, found = torch.linalg.svd(scaled, full_matrices=False)
    every = singular.square() / len(scaled)
    most = min(_DIRECTIONS, values)
    count = min(most, (len(scaled) - 1) // 2)
    left = (every[count:].sum() / max(values - count, 1)).item()
    directions, variances = described.new_zeros(values, most), described.new_ones(most)
    directions[:, :count] = found[:count].T
    variances[:count] = (1 - _SHRINK) * every[:count] + _SHRINK
    rest = described.new_tensor((1 - _SHRINK) * left + _SHRINK)
    return InDistribution(mean, scale, directions, variances, rest, described.new_zeros(()) if limit is None else limit)


@torch.inference_mode()
def measure(model: TwoTower, windows: Iterable[tuple[int, Tensor, Tensor]]) -> dict[str, InDistribution]:
    """Statistics of ``video`` and ``audio`` in windows of held-out clips; empty where there are fewer than two clips.

    Args:
        model: the towers, in evaluation mode.
        windows: the number of the clip, uint8 ``[1, T, H, W, 3]`` and ``[1, S]``; audio may be longer than the video.
    """
    clips: list[int] = []
    described: dict[str, list[Tensor]] = {"video": [], "audio": []}
    samples = round(model.config.seconds * model.config.sample_rate)
    for clip, frames, audio in windows:
        frames, audio = frames.to(model.device), audio[:, :samples].to(model.device)
        clips.append(clip)
        described["video"].append(describe_video(model.video_features(frames_to_input(frames)), frames).cpu())
        described["audio"].append(describe_audio(model.audio_features(audio)).cpu())
    if not clips:
        return {}
    found = {kind: InDistribution.fit(torch.cat(parts), torch.tensor(clips)) for kind, parts in described.items()}
    return {kind: statistics for kind, statistics in found.items() if statistics is not None}


def save(statistics: dict[str, InDistribution], folder: Path) -> None:
    """Write a model folder's `FILE`, or remove it where there are no statistics.

    Raises:
        OutputError: it cannot be written.
    """
    if not statistics:
        (folder / FILE).unlink(missing_ok=True)
        return
    tensors = {
        f"{kind}.{field.name}": getattr(found, field.name).clone()  # two kinds may have the same statistics
        for kind, found in statistics.items()
        for field in fields(found)
    }
    write_tensors(tensors, folder / FILE)


def load(folder: Path, model: TwoTower | Recognizer) -> dict[str, InDistribution]:
    """Statistics in a model folder; those of before lie among its weights.

    Raises:
        ModelError: they are not of that model's features, or no such statistics.
    """
    own = folder / FILE
    path, prefix = (own, "") if own.is_file() else (folder / "model.safetensors", FORMER_PREFIX)
    values: dict[str, int] = {}
    if model.video is not None:
        values["video"] = 2 * model.video.num_features + 1
    if model.audio is not None:
        values["audio"] = 2 * model.audio.num_features
    values |= {LABELLED + kind: count for kind, count in values.items()}
    found = {}
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            for kind, count in values.items():
                start = f"{prefix}{kind}."
                if f"{start}directions" not in names:  # the oldest statistics have none, and are of no use now
                    continue
                if prefix and file.get_slice(f"{start}mean").get_shape() != [count]:  # nor are those of other features
                    continue
                found[kind] = _read(file, names, path, start, count)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{path} holds no in-distribution statistics that can be read: {reason}") from error
    return {kind: statistics for kind, statistics in found.items() if statistics.limit > 0}  # 0: was not measured


def _read(file: safe_open, names: set[str], path: Path, start: str, values: int) -> InDistribution:
    most = min(_DIRECTIONS, values)
    shapes = {
        "mean": [values], "scale": [values], "directions": [values, most], "variances": [most], "rest": [], "limit": []
    }  # fmt: skip
    tensors = {}
    for name, shape in shapes.items():
        if start + name not in names:
            raise ModelError(f"{path}: {start}{name} is missing")
        if file.get_slice(start + name).get_shape() != shape:
            raise ModelError(f"{path}: {start}{name} is not of the shape {shape}")
        tensors[name] = file.get_tensor(start + name)
        if tensors[name].dtype != torch.float32:
            raise ModelError(f"{path}: {start}{name} holds {tensors[name].dtype}, not numbers in single precision")
    check_finite({start + name: tensor for name, tensor in tensors.items()}, path)
    for name in ("scale", "variances", "rest"):
        if (tensors[name] <= 0).any():
            raise ModelError(f"{path}: {start}{name} holds values that are not above zero")
    if tensors["limit"] < 0:
        raise ModelError(f"{path}: {start}limit is below zero")
    return InDistribution(**tensors)
