"""Does an input look, or sound, like what the model was trained on?"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError

_DIRECTIONS = 64  # that are told apart; the others share one variance
_SHRINK = 0.1  # of each variance towards one: few clips say little about rare directions
_FLOOR = 0.01  # of the spread of all values: the least that one of them is taken to spread
_FOLDS = 5
_SHARE = 0.98  # of held-out clips that are to be known
_MARGIN = 1.1  # what is unlike lies far beyond: this much costs little, and spares other clips of the same kind
_CELLS = 8  # of the picture in which motion is looked for: coarse enough for the noise of codecs to vanish


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


class Familiarity(nn.Module):
    """Gaussian of the descriptions of clips that were held out of the training, and the distance up to which it holds.

    The distance is Mahalanobis' (Lee et al., NeurIPS 2018), with a covariance of few directions and one variance for
    what is left (probabilistic PCA: Tipping & Bishop, 1999). Until `fit`, nothing is known.
    """

    def __init__(self, values: int):
        super().__init__()
        directions = min(_DIRECTIONS, values)
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("scale", torch.ones(values))
        self.register_buffer("directions", torch.zeros(values, directions))
        self.register_buffer("variances", torch.ones(directions))
        self.register_buffer("rest", torch.ones(()))
        self.register_buffer("limit", torch.zeros(()))  # 0: not measured

    @classmethod
    def of_video(cls, channels: int) -> "Familiarity":
        """For `describe_video` of features with so many channels."""
        return cls(2 * channels + 1)

    @classmethod
    def of_audio(cls, channels: int) -> "Familiarity":
        """For `describe_audio` of features with so many channels."""
        return cls(2 * channels)

    def distance(self, described: Tensor) -> Tensor:
        """Distances of descriptions ``[B, V]`` from the mean: ``[B]``; about 1 for clips like those of `fit`."""
        values = (described - self.mean) / self.scale
        along = (values @ self.directions).square()
        beyond = (values.square().sum(1) - along.sum(1)).clamp(min=0)
        return (((along / self.variances).sum(1) + beyond / self.rest) / len(self.mean)).sqrt()

    def fit(self, described: Tensor, clips: Tensor) -> None:
        """Learn from windows of held-out clips; fewer than two clips teach nothing.

        Distances are measured by cross-validation over clips. The fewer they are, the further the limit lies.

        Args:
            described: ``[N, V]``.
            clips: ``[N]`` which clip each window is of.
        """
        described = described.to(self.mean)
        names, number = clips.unique(return_inverse=True)
        number = number.to(described.device)
        if len(names) < 2:
            return
        distances = described.new_zeros(len(described))
        for fold in range(min(_FOLDS, len(names))):
            held = number % _FOLDS == fold
            self._learn(described[~held])
            distances[held] = self.distance(described[held])
        medians = torch.stack([distances[number == k].median() for k in range(len(names))])
        self._learn(described)
        self.limit.copy_(torch.quantile(medians, _SHARE) * (_MARGIN + len(names) ** -0.5))

    def _learn(self, described: Tensor) -> None:
        self.mean.copy_(described.mean(0))
        spread = described.std(0, unbiased=False)
        self.scale.copy_((spread + _FLOOR * described.std(unbiased=False)).clamp(min=1e-6))
        values = (described - self.mean) / self.scale
        _, singular, directions = torch.linalg.svd(values, full_matrices=False)
        variances = singular.square() / len(values)
        count = min(len(self.variances), (len(values) - 1) // 2)
        left = (variances[count:].sum() / max(len(self.mean) - count, 1)).item()
        self.directions.zero_()
        self.variances.fill_(1)
        self.directions[:, :count] = directions[:count].T
        self.variances[:count] = (1 - _SHRINK) * variances[:count] + _SHRINK
        self.rest.fill_((1 - _SHRINK) * left + _SHRINK)

    def knows(self, described: Tensor) -> bool | None:
        """Whether the median of windows ``[B, V]`` is near enough; None where that was never measured."""
        if not self.limit:
            return None
        return bool(self.distance(described).median() <= self.limit)

    @staticmethod
    def outdated(names: Iterable[str]) -> bool:
        """Whether a weight file's tensors are of a version that kept other statistics, which are of no use now."""
        return any(name.endswith(".deviation") for name in names if name.startswith("familiar."))

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        """Take what a file says, after a look at it; one without these statistics leaves them as not measured.

        Raises:
            ModelError: a value that divides is not above zero.
        """
        if prefix + "directions" not in state_dict:
            return
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for name in ("scale", "variances", "rest"):
            if (getattr(self, name) <= 0).any():
                raise ModelError(f"{prefix}{name} holds values that are not above zero")
        if self.limit < 0:
            raise ModelError(f"{prefix}limit is below zero")
