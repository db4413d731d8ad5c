"""The offset at which a recording explains itself: no model, no training, a few seconds of one scene.

At each candidate lag a linear map from video to audio is fitted on some blocks of the recording and scored on the
others; at the true lag what was learned from one part holds for the rest. How sure that is comes from the recording,
too: from the same score where blocks of audio are exchanged in time, so that nothing belongs together.

Linear maps between mouths or motion and audio: Slaney & Covell, NeurIPS 2000; Kidron, Schechner & Elad, CVPR 2005.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avlearn.signal.peak import vertex

SHORTEST = 6.0  # seconds that tell anything
LAG_STEP = 0.04  # seconds from one candidate lag to the next
_BLOCK = 1.0  # seconds of a block at least
_BLOCKS = 24  # at most: longer recordings have longer blocks
_FEWEST = 6  # blocks
_TREND = 1.0  # seconds (std of a Gaussian): what changes more slowly is taken out
_DIRECTIONS = 40  # principal components of the video that the map sees
_RIDGE = 0.1  # of their mean variance
_NEAR = 0.1  # seconds around the best lag that are not another one
_APART = 1  # blocks between those that a map is fitted on and those that it is scored on, at most
_KNOWN = 0.5  # of the video that has audio at a lag, at least
_LAGS = 10  # at least
_DRAWS = 30  # exchanges of blocks
_CANONICAL = 4  # directions that a map is of


@dataclass(frozen=True)
class Stretch:
    """Features of a part of a recording without a cut.

    Attributes:
        video: views of the video, ``[T, P]`` each.
        audio: views of the audio, ``[U, Q]`` each.
        before: seconds of audio before the first video frame.
    """

    video: Sequence[np.ndarray]
    audio: Sequence[np.ndarray]
    before: float = 0.0


@dataclass(frozen=True)
class SelfCalibrationEvidence:
    """What speaks for an offset, in stds of the best score over exchanged blocks.

    Attributes:
        peak: by how much the best score lies above the mean best score of exchanged blocks.
        margin: by how much it lies above the best score further than 100 ms away.
    """

    peak: float
    margin: float


@dataclass(frozen=True)
class SelfCalibration:
    """The offset that a recording tells by itself.

    Attributes:
        offset: seconds, positive when the audio leads: the one that fits best.
        evidence: for it.
        offsets: ``[O]`` seconds, increasing.
        scores: ``[O]`` mean held-out correlation at each.
    """

    offset: float
    evidence: SelfCalibrationEvidence
    offsets: np.ndarray
    scores: np.ndarray


def self_calibrate(
    stretches: Sequence[Stretch], fps: float, audio_rate: float, reach: float, seed: int = 0
) -> SelfCalibration | None:
    """The offset at which blocks of a recording explain one another best.

    Args:
        stretches: of one camera or one face, with the same views.
        fps, audio_rate: frames a second of the features.
        reach: seconds searched on each side.
        seed: of the exchanges.

    Returns:
        None where there is too little to tell anything: less than six whole blocks of a second, no change, or
        no lag at which half of the video has audio. Only such lags are searched.
    """
    lags = np.arange(-round(reach / LAG_STEP), round(reach / LAG_STEP) + 1) * LAG_STEP
    blocks = _Blocks.of(stretches, fps, audio_rate, lags)
    if blocks is None or len(blocks.lags) < _LAGS:
        return None
    lags = blocks.lags
    scores = blocks.scores()
    best = int(scores.argmax())
    rng = np.random.default_rng(seed)
    apart = min(max(2, int(np.ceil(reach / blocks.seconds))), (blocks.count - 1) // 2)
    exchanged = np.array([blocks.scores(_exchange(blocks.count, apart, rng)).max() for _ in range(_DRAWS)])
    std = max(float(exchanged.std()), 1e-6)
    others = scores[np.abs(lags - lags[best]) > _NEAR + 1e-6]
    evidence = SelfCalibrationEvidence(
        float(scores[best] - exchanged.mean()) / std, float(scores[best] - others.max()) / std
    )
    lag = float(lags[best]) + vertex(scores, best) * LAG_STEP
    return SelfCalibration(-lag, evidence, -lags[::-1], scores[::-1])


@dataclass(frozen=True)
class CanonicalMap:
    """Where the audio is seen.

    Attributes:
        heights: one ``[P]`` a view of the video, of at least 0: correlation of each feature with what is heard.
        evidence: by how many stds the highest lies above that of exchanged blocks.
    """

    heights: tuple[np.ndarray, ...]
    evidence: float


def canonical_map(
    stretch: Stretch, fps: float, audio_rate: float, offset: float = 0.0, seed: int = 0
) -> CanonicalMap | None:
    """What goes with the audio in a stretch of video, learned from the stretch alone.

    Args:
        stretch: at least six seconds; all views of the audio tell more than its onsets.
        fps, audio_rate: frames a second of the features.
        offset: seconds by which the audio leads.
        seed: of the exchanges.

    Returns:
        None where there is too little, as of `self_calibrate`.
    """
    blocks = _Blocks.of([stretch], fps, audio_rate, np.array([-offset]))
    if blocks is None:
        return None
    heights = blocks.heard_in_cells()
    rng = np.random.default_rng(seed)
    orders = [_exchange(blocks.count, 2, rng) for _ in range(_DRAWS)]
    highest = np.array([blocks.heard_in_cells(order).max() for order in orders])
    evidence = float(heights.max() - highest.mean()) / max(float(highest.std()), 1e-6)
    return CanonicalMap(tuple(np.split(heights, np.cumsum(blocks.sizes)[:-1])), evidence)


@dataclass(frozen=True)
class _Blocks:
    """A recording in blocks of N frames.

    Attributes:
        video: ``[B, N, K]`` principal components.
        basis: ``[K, P]`` of them, of all views together.
        sizes: features of each view of the video.
        audio: ``[L, B, N, Q]`` beside them at each lag; 0 where there is none.
        known: ``[L, B, N, 1]`` whether there is.
        lags: ``[L]`` seconds by which the audio is later.
        groups: features of each view of the audio.
        seconds: of a block.
    """

    video: np.ndarray
    basis: np.ndarray
    sizes: tuple[int, ...]
    audio: np.ndarray
    known: np.ndarray
    lags: np.ndarray
    groups: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        return len(self.video)

    @classmethod
    def of(cls, stretches: Sequence[Stretch], fps: float, audio_rate: float, lags: np.ndarray) -> "_Blocks | None":
        """None where there are too few."""
        total = sum(len(s.video[0]) for s in stretches)
        length = max(round(_BLOCK * fps), -(-total // _BLOCKS))
        counts = [len(s.video[0]) // length for s in stretches]
        if sum(counts) < _FEWEST or not all(len(s.audio[0]) for s in stretches):
            return None
        video = _standard([s.video for s in stretches], fps)
        audio = _standard([s.audio for s in stretches], audio_rate)
        used = np.concatenate([x[: n * length] for x, n in zip(video, counts, strict=True)])
        left, values, basis = np.linalg.svd(used - used.mean(0), full_matrices=False)
        keep = values[:_DIRECTIONS] > 1e-3 * max(values[0], 1e-6)
        if not keep.any() or not any(x.any() for x in audio):
            return None
        components = (left[:, :_DIRECTIONS] * values[:_DIRECTIONS])[:, keep]
        beside = [
            _beside(x, s.before, n * length, fps, audio_rate, lags)
            for x, s, n in zip(audio, stretches, counts, strict=True)
        ]
        shape = (len(lags), sum(counts), length, -1)
        heard, known = (np.concatenate(part, 1).reshape(shape) for part in zip(*beside, strict=True))
        enough = known.mean((1, 2, 3)) >= _KNOWN
        if not enough.any():
            return None
        return cls(
            components.reshape(sum(counts), length, -1), basis[:_DIRECTIONS][keep],
            tuple(v.shape[1] for v in stretches[0].video), heard[enough], known[enough], lags[enough],
            tuple(v.shape[1] for v in stretches[0].audio), length / fps,
        )  # fmt: skip

    def scores(self, order: np.ndarray | None = None) -> np.ndarray:
        """``[L]`` correlation of the audio with what the map of other blocks makes of the video, mean over the views.

        Blocks next to one another are not told of each other.

        Args:
            order: which block of audio each block of video is held against, its own by default.
        """
        audio = self._centred(order)
        shared = self.video.transpose(0, 2, 1) @ audio  # [L, B, K, Q]
        lags, count, size, features = shared.shape
        index = np.arange(count)
        others = (np.abs(index[:, None] - index) > _APART).astype(shared.dtype)
        own = self.video.transpose(0, 2, 1) @ self.video  # [B, K, K]
        ridge = _RIDGE * np.trace(own.sum(0)) / size * np.eye(size)
        fitted = np.tensordot(others, shared, (1, 1)).transpose(0, 2, 1, 3).reshape(count, size, -1)
        maps = np.linalg.solve(np.tensordot(others, own, 1) + ridge, fitted)  # [B, K, L * Q]
        product = (maps * shared.transpose(1, 2, 0, 3).reshape(count, size, -1)).sum((0, 1))
        power = (maps * (own @ maps)).sum((0, 1)) * (audio**2).sum((1, 2)).reshape(-1)
        correlation = (product / np.sqrt(power + 1e-9)).reshape(lags, features)
        starts = np.cumsum((0, *self.groups[:-1]))
        means: np.ndarray = (np.add.reduceat(correlation, starts, axis=1) / self.groups).mean(1)
        return means

    def heard_in_cells(self, order: np.ndarray | None = None) -> np.ndarray:
        """``[P]``: how well each feature of the video is told by canonical variates of the audio, at the first lag.

        Directions of both are fitted on other blocks (as in `scores`): what is correlated are a feature's own changes
        with the variate of the audio, as what a direction's weights are large for need not go with the audio at all
        (Haufe et al., NeuroImage 2014). Each of the directions counts as much as its two variates agree.
        """
        audio = self._centred(order)[0]  # [B, N, Q]
        turned = self.video.transpose(0, 2, 1)
        index = np.arange(self.count)
        others = (np.abs(index[:, None] - index) > _APART).astype(audio.dtype)
        seen, shared, heard = (
            np.tensordot(others, moments, 1)
            for moments in (turned @ self.video, turned @ audio, audio.transpose(0, 2, 1) @ audio)
        )
        whiten, listen = _whitening(seen), _whitening(heard)
        left, _, right = np.linalg.svd(whiten.transpose(0, 2, 1) @ shared @ listen, full_matrices=False)
        of_audio = listen @ right.transpose(0, 2, 1)[:, :, :_CANONICAL]
        # Variates of the blocks go together: of one scale, and positive where more is heard.
        power = np.einsum("bqd,bqr,brd->bd", of_audio, heard, of_audio)
        sign = np.sign((heard @ of_audio).sum(1))
        of_audio *= (sign / np.sqrt(power + 1e-9))[:, None]
        of_video = whiten @ left[:, :, :_CANONICAL] * sign[:, None]
        told = (audio @ of_audio).reshape(-1, of_audio.shape[2])
        strength = np.maximum(_correlation((self.video @ of_video).reshape(told.shape), told).diagonal(), 0)
        cells = (self.video @ self.basis).reshape(len(told), -1)
        found: np.ndarray = np.linalg.norm(np.maximum(_correlation(cells, told), 0) * strength, axis=1)
        return found

    def _centred(self, order: np.ndarray | None) -> np.ndarray:
        """Audio in another order of blocks, its mean at each lag taken out."""
        audio, known = (x if order is None else x[:, order] for x in (self.audio, self.known))
        mean = audio.sum((1, 2), keepdims=True) / np.maximum(known.sum((1, 2), keepdims=True), 1)
        centred: np.ndarray = (audio - mean) * known
        return centred


def _whitening(moments: np.ndarray) -> np.ndarray:
    """``[B, K, K]`` that make second moments ``[B, K, K]`` those of white noise, from the left transposed."""
    size = moments.shape[1]
    ridge = _RIDGE * np.trace(moments, axis1=1, axis2=2)[:, None, None] / size + 1e-9
    found: np.ndarray = np.linalg.cholesky(np.linalg.inv(moments + ridge * np.eye(size, dtype=moments.dtype)))
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``[P, D]`` of columns of ``[T, P]`` with those of ``[T, D]``."""
    a, b = a - a.mean(0), b - b.mean(0)
    found: np.ndarray = a.T @ b / (np.sqrt((a**2).sum(0))[:, None] * np.sqrt((b**2).sum(0)) + 1e-6)
    return found


def _standard(stretches: Sequence[Sequence[np.ndarray]], rate: float) -> list[np.ndarray]:
    """Features ``[T, P]`` of each stretch: trends taken out, of one scale, outliers drawn in, views of equal weight."""
    views = []
    for parts in zip(*stretches, strict=True):
        flat = [x - gaussian_filter1d(x, _TREND * rate, axis=0, mode="nearest") for x in parts]
        whole = np.concatenate(flat)
        std = whole.std(0)
        scale = std + 0.1 * std.max() + 1e-9
        views.append([np.clip((x - whole.mean(0)) / scale, -4, 4) / np.sqrt(x.shape[1]) for x in flat])
    return [np.concatenate(parts, 1).astype(np.float32) for parts in zip(*views, strict=True)]


def _beside(
    audio: np.ndarray, before: float, frames: int, fps: float, rate: float, lags: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean audio ``[L, T, Q]`` of each video frame's time at each lag, and whether all of it is there ``[L, T, 1]``."""
    sums = np.concatenate([np.zeros((1, audio.shape[1])), np.cumsum(audio, 0, dtype=np.float64)])
    middle = (np.arange(frames)[None] / fps + lags[:, None] + before) * rate
    low, high = middle - rate / fps / 2, middle + rate / fps / 2

    def at(place: np.ndarray) -> np.ndarray:
        place = np.clip(place, 0, len(audio))
        whole = np.minimum(place.astype(int), len(audio) - 1)
        part = (place - whole)[..., None]
        value: np.ndarray = sums[whole] * (1 - part) + sums[whole + 1] * part
        return value

    known = ((low >= -1e-6) & (high <= len(audio) + 1e-6))[..., None]
    return ((at(high) - at(low)) / (rate / fps) * known).astype(np.float32), known


def _exchange(count: int, apart: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of blocks in which each is at least ``apart`` away from its place."""
    for _ in range(100):
        order = rng.permutation(count)
        if (np.abs(order - np.arange(count)) >= apart).all():
            return order
    return np.roll(np.arange(count), int(rng.integers(apart, count - apart + 1)))
