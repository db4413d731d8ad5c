"""How well lips fit audio at every offset, and what speaks for the best one."""

from dataclasses import dataclass

import numpy as np

from avlearn.apply.confidence import probability
from avlearn.models.speech_sync import MOUTHS, VOICES, speech_calibration
from avlearn.signal.peak import vertex

DRAWS = 200  # of exchanged blocks
NEAR = 0.12  # seconds around the best offset that are not another one
_BLOCK = 12  # crops of a block that is exchanged for others: half a second
FEWEST = 3 * _BLOCK  # crops that tell anything: fewer blocks cannot be exchanged
_INSIDE = 0.5  # of a track's crops have audio at each offset that is searched
RATIO = VOICES // MOUTHS  # columns of a similarity to a row


@dataclass(frozen=True)
class SpeechEvidence:
    """What speaks for an offset.

    Attributes:
        peak: by how many stds the best offset fits better than the best one does where each half second of lips is
            held against another moment of the audio (exchanged blocks).
        margin: by how many of these stds it fits better than any other offset does.
    """

    peak: float
    margin: float


@dataclass(frozen=True)
class LipCurves:
    """How well lips and audio fit, as sums over their crops.

    Attributes:
        scores: ``[O]`` at each lag; 0 where too little audio overlaps.
        exchanged: ``[D, O]`` the same where blocks of lips are held against other moments.
        searched: ``[O]`` whether enough audio overlaps.
        crops: how many were added up.
    """

    scores: np.ndarray
    exchanged: np.ndarray
    searched: np.ndarray
    crops: int

    def __add__(self, other: "LipCurves") -> "LipCurves":
        return LipCurves(
            self.scores + other.scores,
            self.exchanged + other.exchanged,
            self.searched | other.searched,
            self.crops + other.crops,
        )

    def moved(self, columns: int) -> "LipCurves":
        """The curves of an offset that is smaller by so many columns: their lags are larger."""
        source = np.arange(len(self.scores)) - columns
        inside = (source >= 0) & (source < len(self.scores))
        source = source.clip(0, len(self.scores) - 1)
        return LipCurves(
            self.scores[source] * inside, self.exchanged[:, source] * inside, self.searched[source] & inside, self.crops
        )


def lip_curves(similarity: np.ndarray, before: int, lags: np.ndarray, seed: int = 0, draws: int = DRAWS) -> LipCurves:
    """How well a stretch of lips fits the audio at each lag, and other moments of it.

    Args:
        similarity: ``[T, U]`` as of `avlearn.models.speech_sync.SpeechSync.similarity`.
        before: columns before the moment of the first row. Beyond the last column the first ones are taken.
        lags: ``[O]`` columns by which the audio is later than the lips.
        seed: of the exchange of blocks.
        draws: D, of exchanges.
    """
    rows, columns = np.arange(len(similarity)), similarity.shape[1]
    at = before + RATIO * rows[:, None] + lags
    searched = ((at >= 0) & (at < columns)).mean(0) >= _INSIDE
    # Row t begins at its own moment: column l then holds what is l columns later in the audio.
    own = similarity[rows[:, None], (before + RATIO * rows[:, None] + np.arange(columns)) % columns]
    edges = np.linspace(0, len(rows), max(len(rows) // _BLOCK, 1) + 1).round().astype(int)
    blocks = np.add.reduceat(own, edges[:-1], axis=0)
    moved = np.random.default_rng(seed).integers(0, columns, (draws, len(blocks)))
    exchanged = np.zeros((draws, len(lags)), np.float32)
    for block, shifts in zip(blocks, moved.T, strict=True):
        exchanged += block[(lags + shifts[:, None]) % columns]
    return LipCurves(blocks.sum(0)[lags % columns] * searched, exchanged * searched, searched, len(rows))


def speech_evidence(curves: LipCurves, lags: np.ndarray) -> tuple[float, SpeechEvidence]:
    """The best lag (columns, between the samples), and what speaks for it."""
    highest = curves.exchanged.max(1)
    std = max(float(highest.std()), 1e-9)
    index = int(curves.scores.argmax())
    peak = float(curves.scores[index])
    others = curves.scores[np.abs(lags - lags[index]) > NEAR * VOICES]
    evidence = SpeechEvidence((peak - float(highest.mean())) / std, (peak - float(others.max(initial=-np.inf))) / std)
    return float(lags[index] + vertex(curves.scores, index)), evidence


def judge_lips(curves: LipCurves, lags: np.ndarray) -> tuple[float, float]:
    """The best offset in seconds, positive when the audio leads, and its confidence: 0 in what is too short."""
    lag, evidence = speech_evidence(curves, lags)
    confidence = probability(evidence, speech_calibration()) if curves.crops >= FEWEST else 0.0
    return round(-lag / VOICES, 4), round(confidence, 4)
