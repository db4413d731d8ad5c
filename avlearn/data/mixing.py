"""Mixtures whose parts are known: which clips' audio is added, and how loud."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPREAD = 5.0  # dB by which a source is made louder or softer beside the first


def _gains(rng: np.random.Generator, sources: int) -> np.ndarray:
    """Of the sources of a mixture ``[sources]``, 0 dB on average."""
    level = np.concatenate([[0.0], rng.uniform(-SPREAD, SPREAD, sources - 1)])
    gains: np.ndarray = 10 ** ((level - level.mean()) / 20)
    return gains


@dataclass(frozen=True)
class Mixing:
    """Rule by which mixtures are drawn.

    Attributes:
        sources: that are seen, of a mixture.
        same_class_share: of mixtures whose sources are all of one class.
        offscreen_share: of mixtures with one more source, which nobody sees.
    """

    sources: int = 2
    same_class_share: float = 0.0
    offscreen_share: float = 0.0

    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Mixtures of B clips, each with another clip first.

        Args:
            labels: bool ``[B, classes]``.
            rng: what decides.

        Returns:
            Clips ``[B, K + 1]`` of the sources, different ones where there are enough, and of the one that is not
            seen; and their gains ``[B, K + 1]``, float32, 0 for the last where there is none.
        """
        count = len(labels)
        alike = (labels[:, None] & labels[None]).any(2)
        clips = np.empty((count, self.sources + 1), int)
        for first in range(count):
            others = np.delete(np.arange(count), first)
            kin = others[alike[first, others]]
            same = rng.random() < self.same_class_share and len(kin) >= self.sources - 1
            pool = rng.permutation(kin if same else others)
            pool = np.concatenate([pool, rng.permutation(np.setdiff1d(others, pool))])
            clips[first] = [first, *np.resize(pool if len(pool) else [first], self.sources)]
        gains = np.stack([_gains(rng, self.sources + 1) for _ in range(count)])
        gains[:, -1] *= rng.random(count) < self.offscreen_share
        return clips, gains.astype(np.float32)


@dataclass(frozen=True)
class MixtureList:
    """Mixtures of an evaluation, fixed.

    Attributes:
        clips: ``[M, K]``, which clips are added.
        gains: float32 ``[M, K]``.
        starts: ``[M, K]`` in [0, 1): where each is cut, as a share of what its length leaves free.
    """

    clips: np.ndarray
    gains: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[str], sources: int, same_class: bool, seed: int) -> "MixtureList":
        """A mixture for each clip that has partners, of another class each or all of its own.

        Args:
            labels: of the clips.
            sources: K.
            same_class: which of the two.
            seed: of all that is drawn.
        """
        names = np.asarray(labels)
        clips, gains, starts = [], [], []
        for first in range(len(names)):
            rng = np.random.default_rng([seed, sources, same_class, first])
            chosen = [first]
            for other in rng.permutation(np.delete(np.arange(len(names)), first)):
                taken = names[chosen]
                fits = names[other] == names[first] if same_class else names[other] not in taken
                if fits and len(chosen) < sources:
                    chosen.append(int(other))
            if len(chosen) == sources:
                clips.append(chosen)
                gains.append(_gains(rng, sources))
                starts.append(rng.random(sources))
        shape = (len(clips), sources)
        return cls(
            np.array(clips, int).reshape(shape), np.array(gains, np.float32).reshape(shape),
            np.array(starts).reshape(shape),
        )  # fmt: skip

    def digest(self, names: Sequence[str]) -> str:
        """SHA-256 of the list, by the clips' names: two evaluations of one list have one digest."""
        lines = [
            " ".join(f"{names[clip]} {gain:.6f} {start:.6f}" for clip, gain, start in zip(*row, strict=True))
            for row in zip(self.clips, self.gains, self.starts, strict=True)
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
