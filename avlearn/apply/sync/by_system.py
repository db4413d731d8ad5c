"""`sync` by a released system in place of our model: the same result, with the reasons why it may not answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avlearn.apply.sync.by_model import SyncResult, describe_offset
from avlearn.apply.sync.offsets import STILL
from avlearn.apply.sync.released import Network, load_released, sync_with_released
from avlearn.apply.sync.released_answer import OffsetsCompared, ReleasedSyncResult, speaker_lines
from avlearn.apply.sync.released_syncnet import Crop
from avlearn.apply.verdict import SILENT
from avlearn.media import probe, stream
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged

_CANNOT = "cannot be synchronized"
_SURE = 0.5  # confidence below which no offset is named
_AGREE = 3.0  # LSE-C below which lips and voice say nothing: data sets of talking faces are filtered so
_SEEN = 6.0  # seconds of a speaker whose own offset counts
_DIFFER = 0.08  # seconds by which speakers of one file may differ
_SECONDS, _FPS, _SIDE = 2.0, 10, 64  # of the parts that are looked through for motion, and what is seen of them


@dataclass(frozen=True)
class SyncSystem:
    """A released network that tells offsets.

    Attributes:
        network: of `load_released`.
        title: what it is called.
        device, precision: as of `AudioVisual`.
        crop: where SyncNet's face is.
    """

    network: Network
    title: str
    device: torch.device
    precision: torch.dtype | None
    crop: Crop | None = None


def open_sync(path: Path, *, title: str, device: torch.device, precision: torch.dtype | None) -> SyncSystem:
    """A system from its file."""
    return SyncSystem(load_released(path).to(device), title, device, precision)


@unchanged
@opened_once
def sync_by_system(path: Source, system: SyncSystem, *, tolerance: float = 0.04) -> SyncResult:
    """What a released system says of a file, as `avlearn.apply.sync.by_model.sync_by_model` says it.

    Its confidence is its own probability, which was never held to files like this one. It names no offset where that
    is below a half, where the offset is the outermost that it knows, of audio that is silent, or of a still video.

    Args:
        path: any file with video and audio.
        system: of `open_sync`.
        tolerance: seconds that count as in sync; half of what lies between its offsets, where that is more.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    (answer,) = sync_with_released(path, [system.network], system.crop, system.device, system.precision)
    if answer.curve is None or answer.offset is None:
        reason = SILENT if answer.reason == "the audio is silent" else answer.reason
        return _result(path, system, tolerance, reason=reason or "it tells no offset")
    curve = answer.curve
    step = float(curve.offsets[1] - curve.offsets[0])
    tolerance = max(tolerance, round(step / 2, 4))
    reason = _why_not(path, answer, curve)
    inside = abs(answer.offset) <= tolerance
    facts: dict[str, Any] = {"best": round(answer.offset, 4), "confidence": round(curve.confidence, 4)}
    if not reason:
        facts |= {"status": "in sync" if inside else "out of sync", "offset": round(answer.offset, 4)}
        facts["verdict"] = describe_offset(answer.offset, inside, tolerance)
    notes = [f"by {system.title}, whose offsets are {step * 1000:.0f} ms apart: {', '.join(answer.figures())}"]
    notes += [answer.note] * bool(answer.note) + speaker_lines(answer.speakers)
    facts |= {"notes": tuple(notes), "speakers": answer.speakers}
    return _result(path, system, tolerance, curve, reason=reason, **facts)


def _why_not(path: Source, answer: ReleasedSyncResult, curve: OffsetsCompared) -> str:
    """Why an offset is not named; empty where it is."""
    assert answer.offset is not None
    sure = [one["offset"] for one in answer.speakers if one["lse_c"] >= _AGREE and one["end"] - one["start"] >= _SEEN]
    if not _moves(path):
        return "the video does not move"
    if curve.confidence < _SURE:
        return f"no offset stands out, confidence {curve.confidence:.2f}"
    if answer.values.get("lse_c", _AGREE) < _AGREE:
        return f"lips and voice hardly agree at any offset, LSE-C {answer.values['lse_c']:.1f}"
    if sure and max(sure) - min(sure) > _DIFFER:
        return f"speakers differ: from {1000 * min(sure):+.0f} to {1000 * max(sure):+.0f} ms"
    if abs(answer.offset) >= curve.offsets[-1] - 1e-6:
        return f"the best offset is the outermost that it knows, {curve.offsets[-1]:.1f} s"
    return ""


def _moves(path: Source) -> bool:
    """Whether anything moves, as `sync_by_model` counts it, within one part of the video at least."""
    for clip in stream(path, _SECONDS, _SECONDS, fps=_FPS, size=_SIDE, audio=False):
        change = np.abs(np.diff(clip.video.astype(np.int16), axis=0)).mean((1, 2, 3))
        if len(change) and change.mean() >= STILL:
            return True
    return False


def _result(
    path: Source,
    system: SyncSystem,
    tolerance: float,
    curve: OffsetsCompared | None = None,
    *,
    reason: str,
    status: str = "undecidable",
    verdict: str = _CANNOT,
    offset: float | None = None,
    best: float | None = None,
    confidence: float = 0.0,
    notes: tuple[str, ...] = (),
    speakers: tuple[dict[str, Any], ...] = (),
) -> SyncResult:
    none, begin = np.zeros(0), probe(path).start
    windows = [
        {"start": round(start - begin, 3), "offset": round(found, 4), "confidence": round(share, 4), "fresh": 1.0}
        for start, found, share in (curve.windows if curve else ())
    ]
    return SyncResult(
        path=str(path),
        status=status,
        offset=offset,
        best=best,
        drift=None,
        steps=[],
        confidence=confidence,
        calibrated=False,
        verdict=verdict,
        reason=reason,
        tolerance=tolerance,
        offsets=curve.offsets if curve else none,
        scores=curve.scores if curve else none,
        windows=windows,
        evidence=None,
        in_distribution={"video": None, "audio": None},
        notice=None,
        notes=notes,
        speakers=speakers,
        system=system.title,
    )
