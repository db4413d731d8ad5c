"""What kind of sound a file holds, told by a small network that learned from free recordings and rendered sounds."""

from dataclasses import dataclass

import numpy as np
import torch

from avlearn.apply.confidence import probability
from avlearn.apply.rows import Rows
from avlearn.apply.windows import SILENCE, check_finite
from avlearn.media import stream
from avlearn.media.source import Source, opened_once
from avlearn.models.sound_kinds import KINDS, SAMPLE_RATE, load_sound_kinds, sound_calibration

SURE = 0.85  # probability from which a kind is named
WINDOW, _HOP = 2.0, 1.0  # seconds
_SHORTEST = 0.5  # seconds of a last window, unless it is all there is
_BELOW = 0.05  # of the loudest window's level, from which on a window counts: 26 dB


@dataclass(frozen=True)
class SoundEvidence:
    """What speaks for a kind.

    Attributes:
        score: its logit, on average over the windows that are loud.
        margin: by how much that exceeds the next kind's.
    """

    score: float
    margin: float


@dataclass(frozen=True)
class SoundKind:
    """The kind of sound of a file.

    Attributes:
        kind: one of `avlearn.models.sound_kinds.KINDS`; None where it is not sure.
        best: the likeliest, whether sure or not; "" where all is silent.
        confidence: that ``best`` is heard, in [0, 1], calibrated on held-out recordings and classes of sounds.
        kinds: all, with the share in [0, 1] that the network gives each, the most first.
        starts: ``[N]`` seconds, of the windows.
        shares: ``[N, K]`` of each window; NaN where it is silent.
    """

    kind: str | None
    best: str
    confidence: float
    kinds: tuple[tuple[str, float], ...]
    starts: np.ndarray
    shares: np.ndarray


@opened_once
def sound_kind(path: Source, device: torch.device | None = None) -> SoundKind:
    """The kind of sound that a file holds, two seconds at a time, in constant memory but for four bytes a kind.

    Raises:
        MediaError: the file cannot be read, or has no audio.
    """
    model = load_sound_kinds(device)
    starts: list[float] = []
    levels: list[float] = []
    logits = Rows()
    for clip in stream(path, WINDOW, _HOP, video=False, sample_rate=SAMPLE_RATE, mono=True):
        audio = clip.audio
        if audio.shape[1] < _SHORTEST * SAMPLE_RATE:
            if starts or not audio.shape[1]:
                break
            audio = np.tile(audio, -(-round(_SHORTEST * SAMPLE_RATE) // audio.shape[1]))
        scores = model.scores(torch.from_numpy(audio).to(device or "cpu"))
        starts.append(clip.start)
        logits.extend(check_finite(scores, "the audio").cpu().numpy())
        levels.append(float(np.sqrt(np.square(audio).mean())))
    return _judged(np.array(starts), logits.array().reshape(-1, len(KINDS)), np.array(levels))


def _judged(starts: np.ndarray, logits: np.ndarray, levels: np.ndarray) -> SoundKind:
    shares = 1 / (1 + np.exp(-logits))
    shares[levels < SILENCE] = np.nan
    if not (levels >= SILENCE).any():
        return SoundKind(None, "", 0.0, (), starts, shares)
    scores, evidence = sound_evidence(logits, levels)
    confidence = round(probability(evidence, sound_calibration()), 4)
    order = np.argsort(-scores)
    kinds = tuple((KINDS[k], round(float(1 / (1 + np.exp(-scores[k]))), 4)) for k in order)
    best = KINDS[order[0]]
    return SoundKind(best if confidence >= SURE else None, best, confidence, kinds, starts, shares)


def sound_evidence(logits: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, SoundEvidence]:
    """Mean logits ``[K]`` over the loud of N windows, and what speaks for the best.

    Args:
        logits: ``[N, K]`` of windows.
        levels: ``[N]`` root mean square of each.
    """
    scores = logits[levels >= _BELOW * levels.max()].mean(0)
    second, best = np.sort(scores)[-2:]
    return scores, SoundEvidence(float(best), float(best - second))
