"""Synchronization of talking faces: how each person's lips fit the audio, at every offset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from avlearn.apply.expert_answer import SURE, ExpertAnswer
from avlearn.apply.faces import FaceTrack, mouth_tracks, side_of
from avlearn.apply.sync.drift import CONSTANT, Timeline
from avlearn.apply.sync.lip_curves import FEWEST, NEAR, LipCurves, judge_lips, lip_curves
from avlearn.apply.sync.lip_windows import LipWindows
from avlearn.apply.windows import AudioVideoInfo, probe_both
from avlearn.media import ClipReader, Window
from avlearn.media.source import Source, opened_once
from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE, VOICES, load_speech_sync

_REACH = 2.0  # seconds searched on each side
_SHORTEST = 20  # crops of a track that is looked at
_LEAST = 1.0  # seconds of audio
_AGREE = 0.08  # seconds by which people of one file may differ
_LONG = 6.0  # seconds of a track that should be sure by itself
_ALONE = 4.0  # seconds of a person who should be sure alone


@opened_once
def speech_sync(path: Source, max_offset: float | None = None, device: torch.device | None = None) -> ExpertAnswer:
    """The offset that a file's talking faces tell, of all together and of each, and how it changes.

    The faces need not be the ones that speak: lips that do not fit the audio add nothing to any offset. The confidence
    comes from the file itself, of the same lips held against other moments of the same audio. Of a file of more than
    ten minutes as much is looked at, in parts that are spread over it. Windows of three seconds tell of edits and of a
    drift, as those of `avlearn.apply.sync.by_model` do; with these taken out, the file has to be sure again.

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
    people: dict[int, LipCurves] = {}
    windows = LipWindows(lags, info.video.duration)
    for track in mouth_tracks(path, device):
        around = _around(info, track, reach)
        if len(track.crops) < _SHORTEST or around.duration < _LEAST:
            continue
        reader = ClipReader(sample_rate=SAMPLE_RATE, mono=True, video=False)
        audio = reader.read(path, [around])[0].audio[0]
        crops, samples = (torch.from_numpy(x).to(device or "cpu") for x in (track.crops, audio))
        before = round((info.start + track.start - around.start) * VOICES)
        similarity = model.similarity(crops, samples).cpu().numpy()
        curves = lip_curves(similarity, before, lags, seed=len(parts))
        if curves.searched.any():
            windows.add(similarity, before, track.start)
            total = curves if total is None else total + curves
            people[track.person] = people[track.person] + curves if track.person in people else curves
            parts.append(_part(track, (info.video.width, info.video.height), *judge_lips(curves, lags)))
    if total is None or total.crops < FEWEST:
        return ExpertAnswer("speech", None, 0.0, "no face is seen for long enough")
    timeline = windows.timeline()
    aligned = windows.aligned(timeline)
    if timeline.constant or judge_lips(aligned, lags)[1] < SURE:
        timeline, aligned = CONSTANT, total
    best, confidence = judge_lips(aligned, lags)
    course = timeline.course(best, info.video.duration)
    reason = _why_not(best, confidence, -lags[aligned.searched] / VOICES, parts, timeline)
    # What drifts fits at no one offset: then one person need not.
    if not reason and (timeline.constant or len(people) > 1) and not _one_is_sure(people, parts, lags):
        reason = "nobody who is seen for long agrees with the audio alone"
    return ExpertAnswer(
        "speech", best, confidence, reason, -lags[::-1] / VOICES, aligned.scores[::-1] / aligned.crops, tuple(parts),
        course,
    )  # fmt: skip


def _around(info: AudioVideoInfo, track: FaceTrack, reach: float) -> Window:
    """The part of the audio that a track is compared with; of no length where there is none."""
    begin = max(info.start + track.start - reach, info.audio.start)
    end = min(info.start + track.start + track.duration + reach, info.audio.start + info.audio.duration)
    return Window(begin, max(end - begin, 0.0))


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


def _one_is_sure(people: dict[int, LipCurves], parts: Sequence[dict[str, Any]], lags: np.ndarray) -> bool:
    """Whether somebody agrees with the audio, over all shots and in one that is long, or is not seen for so long."""
    if max(part["end"] - part["start"] for part in parts) > _LONG and all(part["offset"] is None for part in parts):
        return False
    if max(curves.crops for curves in people.values()) <= _ALONE * MOUTHS:
        return True
    return any(judge_lips(curves, lags)[1] >= SURE for curves in people.values())


def _why_not(
    best: float, confidence: float, searched: np.ndarray, parts: Sequence[dict[str, Any]], timeline: Timeline = CONSTANT
) -> str:
    """Why no offset is named; "" where one is."""
    if confidence < SURE:
        return f"lips and voice agree at no offset, confidence {confidence:.2f}"
    if not searched.min() + NEAR < best < searched.max() - NEAR:
        return f"the best offset lies at the end of what was searched, {searched.min():g} to {searched.max():g} s"
    named = [part["offset"] for part in parts if part["offset"] is not None]
    if any(_apart(part, best, timeline) > _AGREE for part in parts if part["offset"] is not None):
        return f"speakers differ: from {round(1000 * min(named)):+d} to {round(1000 * max(named)):+d} ms"
    return ""


def _apart(part: dict[str, Any], best: float, timeline: Timeline) -> float:
    """Seconds by which what one speaker tells is off that of the file, at whatever moment of the part it is nearest."""
    return float(np.abs(best + timeline.shifts_at(np.linspace(part["start"], part["end"], 20)) - part["offset"]).min())
