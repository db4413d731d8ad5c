"""Synchronization without a trained model: each shot, and each person's mouth, is held against the audio by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from avlearn.apply.confidence import probability
from avlearn.apply.expert_answer import SURE, ExpertAnswer
from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.apply.shots import cuts
from avlearn.apply.sync.self_calibration import (
    SHORTEST,
    CanonicalMap,
    SelfCalibration,
    Stretch,
    canonical_map,
    self_calibrate,
)
from avlearn.apply.windows import probe_both
from avlearn.errors import MissingExtraError
from avlearn.media.clip import Clip, Window
from avlearn.media.reader import ClipReader
from avlearn.media.source import Source, opened_once
from avlearn.signal.motion import AUDIO_RATE, audio_events, grid_motion

NAME = "self-calibration"
_REACH, _FURTHEST = 1.5, 5.0  # seconds searched on each side: by default, and at most
_STRETCH, _STRETCHES = 20.0, 3  # seconds of the parts of a long file that are looked at, and how many there are
_SIDE, _CELLS, _MOUTH_CELLS = 96, 12, 16  # pixels of the frame's short side, and cells of the grids
_FASTEST, _SLOWEST = 33.0, 10.0  # frames a second: of more each second, third, ... is taken, less show too little
_RATE = 16_000  # samples a second
_LONG = 600.0  # seconds of video from which on no faces are looked for: that takes a pass over all of it
_MOST = 8  # shots and people that are judged, the longest ones
_PLACED = 18.0  # seconds of a shot from which on the place is told where the audio is seen
_AGREE = 0.08  # seconds by which they may differ
_END = 0.1  # seconds from the end of what was searched
# Of tools/speech_sync/self_calibration.py, by mouths and voices of GRID.
_CALIBRATION = {"weights": {"peak": 0.699, "margin": 0.599}, "bias": -4.188}


@dataclass(frozen=True)
class Track:
    """What is held against the audio as one.

    Attributes:
        what: ``frame`` or ``mouth``.
        number: of the shot, or of the speaker.
        start, end: seconds from the file's first frame.
        fps: of its features.
        stretches: its features.
        heard: of a shot, all views of the audio, those that offsets are found by included; else none.
    """

    what: str
    number: int
    start: float
    end: float
    fps: float
    stretches: tuple[Stretch, ...]
    heard: tuple[np.ndarray, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds that are looked at."""
        return sum(len(s.video[0]) for s in self.stretches) / self.fps


@opened_once
def self_calibrated_sync(
    path: Source, max_offset: float | None = None, device: torch.device | None = None
) -> ExpertAnswer:
    """The offset that a file tells by itself: of its shots, and of the mouths in them.

    Of a file of more than a minute three parts of 20 s are looked at, and of more than ten no mouths.

    Args:
        path: a file with video and audio.
        max_offset: seconds searched on each side; 1.5 by default, 5 at most.
        device: of the face detector; the CPU by default.

    Raises:
        MediaError: the file cannot be read, or lacks video or audio.
    """
    reach = min(max_offset or _REACH, _FURTHEST)
    tracks = sorted([*_shots(path, reach), *_mouths(path, reach, device)], key=lambda t: -t.duration)[:_MOST]
    judged = [(track, found) for track in tracks if (found := _calibrate(track, reach))]
    if not judged:
        return ExpertAnswer(NAME, None, 0.0, f"nothing is seen and heard to change for {SHORTEST:g} s")
    parts = sorted((_part(track, found, len(judged)) for track, found in judged), key=lambda p: -p["confidence"])
    best = max((found for _, found in judged), key=lambda found: _confidence(found, 1))
    return ExpertAnswer(
        NAME, parts[0]["best"], parts[0]["confidence"], _why_not(parts, reach), best.offsets, best.scores,
        tuple(parts),
    )  # fmt: skip


def _calibrate(track: Track, reach: float) -> SelfCalibration | None:
    return self_calibrate(track.stretches, track.fps, AUDIO_RATE, reach)


def _confidence(found: SelfCalibration, judged: int) -> float:
    """The probability that the offset is right; where more were judged, each may be so by chance (Bonferroni)."""
    return max(0.0, 1 - judged * (1 - probability(found.evidence, _CALIBRATION)))


def _part(track: Track, found: SelfCalibration, judged: int) -> dict[str, Any]:
    """What one shot or one person tells."""
    confidence = round(_confidence(found, judged), 4)
    best = round(found.offset, 4)
    place = _place(track, found.offset) if track.heard and track.duration >= _PLACED else {}
    return {
        "shot" if track.what == "frame" else "speaker": track.number,
        "start": round(track.start, 3),
        "end": round(track.end, 3),
        # On camera footage 2 of 7 offsets that frames were sure of were right within 80 ms: told, and not named.
        "offset": best if confidence >= SURE and track.what == "mouth" else None,
        "best": best,
        "confidence": confidence,
        "peak": round(found.evidence.peak, 2),
        "margin": round(found.evidence.margin, 2),
        **place,
    }


def _place(track: Track, offset: float) -> dict[str, float]:
    """Where in a shot its audio is seen at an offset: x and y, fractions of the frame, and what speaks for it."""
    (stretch,) = track.stretches
    found = canonical_map(replace(stretch, audio=track.heard), track.fps, AUDIO_RATE, offset)
    if found is None:
        return {}
    row, column = divmod(int(place_map(found, stretch.video[1], (_CELLS, _CELLS)).argmax()), _CELLS)
    x, y = ((at + 0.5) / _CELLS for at in (column, row))
    return {"x": round(x, 4), "y": round(y, 4), "seen": round(found.evidence, 2)}


def place_map(found: CanonicalMap, motion: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """``[Y, X]`` of at least 0: what moves with the audio, the more it moves.

    Args:
        found: of the views of `avlearn.signal.motion.grid_motion`.
        motion: ``[T, P]``, the second of them.
        grid: Y and X.
    """
    _, moves, changes = found.heights
    heat = (moves + changes) * np.sqrt(np.square(motion).mean(0))
    smooth: np.ndarray = gaussian_filter(heat.reshape(grid), 1.0, mode="nearest")
    return smooth


def _why_not(parts: Sequence[dict[str, Any]], reach: float) -> str:
    """Why no offset is named; "" where one is. The surest part comes first."""
    best, confidence = parts[0]["best"], parts[0]["confidence"]
    if confidence < SURE:
        return f"no offset explains the file better than chance, confidence {confidence:.2f}"
    if abs(best) > reach - _END:
        return f"the best offset lies at the end of the {reach:g} s that were searched"
    sure = [part["best"] for part in parts if part["confidence"] >= SURE]
    if max(sure) - min(sure) > _AGREE:
        return f"shots or speakers differ: from {round(1000 * min(sure)):+d} to {round(1000 * max(sure)):+d} ms"
    if all(part["offset"] is None for part in parts):
        return (
            f"motion fits best at {round(1000 * best):+d} ms, which is no answer: on camera footage it is often wrong"
        )
    return ""


def _shots(path: Source, reach: float) -> Iterator[Track]:
    """The shots of a file, or of parts of it, that last long enough."""
    info = probe_both(path)
    fps = info.video.fps / max(1, round(info.video.fps / 30)) if info.video.fps > _FASTEST else info.video.fps
    if fps < _SLOWEST:
        return
    number = 0
    for clip, first in _stretches(path, info.start, info.video.duration, fps, reach):
        audio, before = _events(path, clip)
        for begin, end in pairwise([0, *cuts(clip.video), len(clip.video)]):
            number += 1
            if end - begin >= SHORTEST * fps:
                frames = torch.from_numpy(clip.video[begin:end]).float().mean(3)
                views = tuple(view.numpy() for view in grid_motion(frames, _CELLS))
                stretch = Stretch(views, audio[:1], before + begin / fps)
                yield Track("frame", number, first + begin / fps, first + end / fps, fps, (stretch,), audio)


def _stretches(path: Source, origin: float, duration: float, fps: float, reach: float) -> Iterator[tuple[Clip, float]]:
    """Clips of at most 20 s with audio around them, spread over the file, and seconds at which they begin."""
    length = duration if duration <= _STRETCH * _STRETCHES else _STRETCH
    starts = np.linspace(0, duration - length, 1 if length == duration else _STRETCHES)
    reader = ClipReader(fps=fps, size=_SIDE, sample_rate=_RATE, mono=True)
    for start in starts:
        before = min(reach, float(start))
        yield reader.read(path, [Window(origin + float(start), length, before, reach)])[0], float(start)


def _events(path: Source, clip: Clip) -> tuple[tuple[np.ndarray, ...], float]:
    """Onsets, levels and onsets in bands; and seconds of them before the first frame. Zeros at the ends are cut off."""
    audio = audio_normalizer(path)(clip.audio)[0]
    there = np.flatnonzero(audio)
    if not len(there):
        return (np.zeros((0, 1), np.float32),) * 3, clip.before
    first = there[0]
    _, *events = audio_events(torch.from_numpy(audio[first : there[-1] + 1]), clip.sample_rate)
    return tuple(event.numpy() for event in events), clip.before - float(first) / clip.sample_rate


def _mouths(path: Source, reach: float, device: torch.device | None) -> Iterator[Track]:
    """The mouths of a file's people; none where faces cannot be detected here."""
    from avlearn.apply.faces import mouth_tracks
    from avlearn.apply.faces.tracks import FPS

    info = probe_both(path)
    if info.video.duration > _LONG:
        return
    try:
        found = sorted(mouth_tracks(path, device), key=lambda track: (track.person, track.start))
    except MissingExtraError:
        return
    reader = ClipReader(sample_rate=_RATE, mono=True, video=False)
    for person, tracks in groupby(found, key=lambda track: track.person):
        held = [track for track in tracks if len(track.crops) > 1]
        if sum(track.duration for track in held) < SHORTEST:
            continue
        stretches = []
        for track in held:
            window = Window(info.start + track.start, track.duration, min(reach, track.start), reach)
            audio, before = _events(path, reader.read(path, [window])[0])
            brightness, motion, _ = grid_motion(torch.from_numpy(track.crops), _MOUTH_CELLS)
            stretches.append(Stretch((brightness.numpy(), motion.numpy()), audio[1:], before))
        end = held[-1].start + held[-1].duration
        yield Track("mouth", person, held[0].start, end, FPS, tuple(stretches))
