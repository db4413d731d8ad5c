"""Synchronization of talking faces: how each person's lips fit the audio, at every offset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avlearn.apply.confidence import probability
from avlearn.apply.expert_answer import SURE, ExpertAnswer
from avlearn.apply.faces import FaceTrack, mouth_tracks, side_of
from avlearn.apply.windows import AudioVideoInfo, probe_both
from avlearn.media import ClipReader, Window
from avlearn.media.source import Source, opened_once
from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE, VOICES, load_speech_sync, speech_calibration
from avlearn.signal.peak import vertex

_REACH = 2.0  # seconds searched on each side
_BLOCK = 12  # crops of a block that is exchanged for others: half a second
_SHORTEST = 20  # crops of a track that is looked at
_FEWEST = 3 * _BLOCK  # crops that tell anything: fewer blocks cannot be exchanged
_LEAST = 1.0  # seconds of audio
_INSIDE = 0.5  # of a track's crops have audio at each offset that is searched
_DRAWS = 200  # of exchanged blocks
_NEAR = 0.12  # seconds around the best offset that are not another one
_AGREE = 0.08  # seconds by which people of one file may differ
_ALONE = 6.0  # seconds of a track that should be sure by itself
_RATIO = VOICES // MOUTHS


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
        exchanged: ``[_DRAWS, O]`` the same where blocks of lips are held against other moments.
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


@opened_once
def speech_sync(path: Source, max_offset: float | None = None, device: torch.device | None = None) -> ExpertAnswer:
    """The offset that a file's talking faces tell, of all together and of each.

    The faces need not be the ones that speak: lips that do not fit the audio add nothing to any offset. The confidence
    comes from the file itself, of the same lips held against other moments of the same audio. Of a file of more than
    ten minutes as much is looked at, in parts that are spread over it.

    Args:
        path: a file with video and audio.
        max_offset: seconds searched on each side; 2 by default.
        device: of the networks; the CPU by default.

    Raises:
        MissingExtraError: the face detector is not installed; says how.
        MediaError: the file cannot be read, or lacks video or audio.
    """
    reach = max_offset or _REACH
    info = probe_both(path)
    lags = np.arange(-round(reach * VOICES), round(reach * VOICES) + 1)
    parts: list[dict[str, Any]] = []
    model = load_speech_sync(device)
    total: LipCurves | None = None
    for track in mouth_tracks(path, device):
        around = _around(info, track, reach)
        if len(track.crops) < _SHORTEST or around.duration < _LEAST:
            continue
        reader = ClipReader(sample_rate=SAMPLE_RATE, mono=True, video=False)
        audio = reader.read(path, [around])[0].audio[0]
        crops, samples = (torch.from_numpy(x).to(device or "cpu") for x in (track.crops, audio))
        before = round((info.start + track.start - around.start) * VOICES)
        curves = lip_curves(model.similarity(crops, samples).cpu().numpy(), before, lags, seed=len(parts))
        if curves.searched.any():
            total = curves if total is None else total + curves
            parts.append(_part(track, (info.video.width, info.video.height), *judge_lips(curves, lags)))
    if total is None or total.crops < _FEWEST:
        return ExpertAnswer("speech", None, 0.0, "no face is seen for long enough")
    best, confidence = judge_lips(total, lags)
    reason = _why_not(best, confidence, -lags[total.searched] / VOICES, parts)
    scores = total.scores[::-1] / total.crops
    return ExpertAnswer("speech", best, confidence, reason, -lags[::-1] / VOICES, scores, tuple(parts))


def _around(info: AudioVideoInfo, track: FaceTrack, reach: float) -> Window:
    """The part of the audio that a track is compared with; of no length where there is none."""
    begin = max(info.start + track.start - reach, info.audio.start)
    end = min(info.start + track.start + track.duration + reach, info.audio.start + info.audio.duration)
    return Window(begin, max(end - begin, 0.0))


def lip_curves(similarity: np.ndarray, before: int, lags: np.ndarray, seed: int = 0) -> LipCurves:
    """How well a stretch of lips fits the audio at each lag, and other moments of it.

    Args:
        similarity: ``[T, U]`` as of `avlearn.models.speech_sync.SpeechSync.similarity`.
        before: columns before the moment of the first row. Beyond the last column the first ones are taken.
        lags: ``[O]`` columns by which the audio is later than the lips.
        seed: of the exchange of blocks.
    """
    rows, columns = np.arange(len(similarity)), similarity.shape[1]
    at = before + _RATIO * rows[:, None] + lags
    searched = ((at >= 0) & (at < columns)).mean(0) >= _INSIDE
    # Row t begins at its own moment: column l then holds what is l columns later in the audio.
    own = similarity[rows[:, None], (before + _RATIO * rows[:, None] + np.arange(columns)) % columns]
    edges = np.linspace(0, len(rows), max(len(rows) // _BLOCK, 1) + 1).round().astype(int)
    blocks = np.add.reduceat(own, edges[:-1], axis=0)
    moved = np.random.default_rng(seed).integers(0, columns, (_DRAWS, len(blocks)))
    exchanged = np.zeros((_DRAWS, len(lags)))
    for block, shifts in zip(blocks, moved.T, strict=True):
        exchanged += block[(lags + shifts[:, None]) % columns]
    return LipCurves(blocks.sum(0)[lags % columns] * searched, exchanged * searched, searched, len(rows))


def speech_evidence(curves: LipCurves, lags: np.ndarray) -> tuple[float, SpeechEvidence]:
    """The best lag (columns, between the samples), and what speaks for it."""
    highest = curves.exchanged.max(1)
    std = max(float(highest.std()), 1e-9)
    index = int(curves.scores.argmax())
    peak = float(curves.scores[index])
    others = curves.scores[np.abs(lags - lags[index]) > _NEAR * VOICES]
    evidence = SpeechEvidence((peak - float(highest.mean())) / std, (peak - float(others.max(initial=-np.inf))) / std)
    return float(lags[index] + vertex(curves.scores, index)), evidence


def judge_lips(curves: LipCurves, lags: np.ndarray) -> tuple[float, float]:
    """The best offset in seconds, positive when the audio leads, and its confidence: 0 in what is too short."""
    lag, evidence = speech_evidence(curves, lags)
    confidence = probability(evidence, speech_calibration()) if curves.crops >= _FEWEST else 0.0
    return round(-lag / VOICES, 4), round(confidence, 4)


def _part(track: FaceTrack, size: tuple[int, int], best: float, confidence: float) -> dict[str, Any]:
    """What one speaker tells."""
    return {
        "speaker": track.person,
        "shot": track.shot,
        "side": side_of(track, size[0]),
        "box": [round(float(x), 4) for x in np.median(track.boxes, 0) / np.tile(size, 2)],
        "start": round(track.start, 3),
        "end": round(track.start + track.duration, 3),
        "offset": best if confidence >= SURE else None,
        "best": best,
        "confidence": confidence,
    }


def _why_not(best: float, confidence: float, searched: np.ndarray, parts: Sequence[dict[str, Any]]) -> str:
    """Why no offset is named; "" where one is."""
    if confidence < SURE:
        return f"lips and voice agree at no offset, confidence {confidence:.2f}"
    if not searched.min() + _NEAR < best < searched.max() - _NEAR:
        return f"the best offset lies at the end of what was searched, {searched.min():g} to {searched.max():g} s"
    named = [part["offset"] for part in parts if part["offset"] is not None]
    if not named and max(part["end"] - part["start"] for part in parts) > _ALONE:
        return "several people are seen for long, and none of them agrees with the audio alone"
    if any(abs(offset - best) > _AGREE for offset in named):
        return f"speakers differ: from {round(1000 * min(named)):+d} to {round(1000 * max(named)):+d} ms"
    return ""
