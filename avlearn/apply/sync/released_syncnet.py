"""SyncNet v2 on files: the offset, LSE-D and LSE-C of every face that is seen, of a crop, or of the whole frame."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from avlearn.apply.sync.released_answer import FPS, RATE, SIDE, Compute, OffsetsCompared, ReleasedSyncResult, too_short
from avlearn.apply.windows import AudioVideoInfo, probe_both
from avlearn.errors import MissingExtraError
from avlearn.media import ClipReader, Window, stream
from avlearn.media.source import Source
from avlearn.models.released.syncnet import LipSync, SyncNet, lip_sync_of_clips, lip_sync_of_parts
from avlearn.models.two_tower import frames_to_input
from avlearn.signal.mfcc import mfcc

NAME = "SyncNet v2"
_STEPS = 25  # of embeddings that are computed together
# A step more on both sides: the first sees the cut as the audio's beginning, the last lacks what comes after.
_FRAMES = _STEPS + 4 + 2
_FEWEST = 30  # windows: at the largest offset that is searched, half of them have audio
_LONG = 150  # windows of a speaker who may stand for the file: what is seen for less fits by chance
_LONGEST = 500  # frames of a track that are held: 75 MB
_SQUARE = 1.1  # sides of a face crop differ by less, as a ratio

Crop = tuple[int, int, int, int]


@dataclass(frozen=True)
class Seen:
    """One person in one shot.

    Attributes:
        person, shot: as of `avlearn.apply.faces.FaceTrack`.
        side: of the frame, ``left``, ``middle`` or ``right``.
        clips: seconds at which each stretch that is judged by itself begins, and what was found there.
    """

    person: int
    shot: int
    side: str
    clips: tuple[tuple[float, LipSync], ...]

    @property
    def found(self) -> LipSync:
        """Of all stretches."""
        return lip_sync_of_clips([found for _, found in self.clips])

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        last, of_last = self.clips[-1]
        return {
            "speaker": self.person,
            "shot": self.shot,
            "side": self.side,
            "start": round(self.clips[0][0], 3),
            "end": round(last + (of_last.windows + 5) / FPS, 3),
            "offset": self.found.offset,
            **_errors(self.found),
        }


def ask_syncnet(
    path: Source, heard: float, network: SyncNet, crop: Crop | None, compute: Compute
) -> ReleasedSyncResult:
    """What SyncNet says of a file: of the crop; else of the faces that are found; else of a frame that is about square.

    The file's figures are those of the speaker who is seen for 6 s or more and fits best; where nobody is, of all
    speakers together.

    Args:
        path: with video and audio.
        heard: seconds from the first frame to the end of the audio.
        network, compute: what computes, and where.
        crop: left, top, width and height of the face, pixels.
    """
    info = probe_both(path)
    if crop:
        return _ask_of_box(path, heard, network, crop, compute)
    try:
        seen, why = list(_speakers(path, heard, network, compute)), "no face is seen for 1.4 s"
    except MissingExtraError as error:
        seen, why = [], str(error)
    if seen:
        return _of_speakers(seen)
    width, height = info.video.width, info.video.height
    if max(width, height) > _SQUARE * min(width, height):
        reason = f"{why}; a frame of {width}x{height} is none itself: say where one is with --crop X,Y,W,H"
        return ReleasedSyncResult(NAME, reason=reason)
    answer = _ask_of_box(path, heard, network, (0, 0, width, height), compute)
    return answer if answer.reason else replace(answer, note=f"the whole frame is taken for a face: {why}")


def _speakers(path: Source, heard: float, network: SyncNet, compute: Compute) -> Iterator[Seen]:
    """Each person in each shot who is seen for long enough, in the order in which they appear."""
    from avlearn.apply.faces import FACE, FaceTrack, face_tracks, side_of, spread

    info = probe_both(path)
    reader = ClipReader(sample_rate=RATE, mono=True, video=False)

    def judged(track: FaceTrack) -> LipSync:
        count = min(len(track.crops), int((heard - track.start) * FPS + 1e-3))
        audio = reader.read(path, [Window(info.start + track.start, max(count, 1) / FPS)])[0].audio
        pieces = (
            (track.crops[at : min(at + _FRAMES, count)], audio[:, at * RATE // FPS : (at + _FRAMES) * RATE // FPS])
            for at in range(0, count, _STEPS)
        )
        return lip_sync_of_parts(_embedded(pieces, network, compute))

    tracks = face_tracks(path, FACE, compute.device, spread(info.video.duration), _LONGEST)
    found = [
        (track.person, track.shot, side_of(track, info.video.width), track.start, lips)
        for track in tracks
        if (lips := judged(track)).windows >= _FEWEST
    ]
    found.sort(key=lambda one: one[0:2])
    for (person, shot), clips in groupby(found, key=lambda one: one[0:2]):
        held = sorted(clips, key=lambda one: one[3])
        yield Seen(person, shot, held[0][2], tuple((start, lips) for *_, start, lips in held))


def _of_speakers(seen: list[Seen]) -> ReleasedSyncResult:
    long = [one for one in seen if one.found.windows >= _LONG]
    chosen = [max(long, key=lambda one: one.found.lse_c)] if long else seen
    clips = [clip for one in chosen for clip in one.clips]
    found = lip_sync_of_clips([lips for _, lips in clips])
    starts = [start + begin for start, lips in clips for begin in _starts(lips)]
    told = tuple(one.to_dict() for one in seen)
    return ReleasedSyncResult(NAME, found.offset, _errors(found), speakers=told, curve=_compared(found, starts))


def _ask_of_box(path: Source, heard: float, network: SyncNet, box: Crop, compute: Compute) -> ReleasedSyncResult:
    """As syncnet_python: windows from where both begin to where one ends, less the last."""
    info = probe_both(path)
    left, top, width, height = box
    if reason := _why_none(info, box):
        return ReleasedSyncResult(NAME, reason=reason)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        left_over = int(heard * FPS + 1e-3)
        for clip in stream(path, _FRAMES / FPS, _STEPS / FPS, fps=FPS, sample_rate=RATE, mono=True):
            count = max(min(len(clip.video), left_over), 0)
            faces = [_face(frame[top : top + height, left : left + width]) for frame in clip.video[:count]]
            yield np.array(faces), clip.audio[:, : count * RATE // FPS]
            left_over -= _STEPS

    found = lip_sync_of_parts(_embedded(pieces(), network, compute))
    if found.windows < _FEWEST:
        return ReleasedSyncResult(NAME, reason=too_short((_FEWEST + 5) / FPS))
    return ReleasedSyncResult(NAME, found.offset, _errors(found), curve=_compared(found, _starts(found)))


def _why_none(info: AudioVideoInfo, box: Crop) -> str:
    """Why a box is no face; "" where it may be one."""
    left, top, width, height = box
    if left + width > info.video.width or top + height > info.video.height:
        return f"the crop reaches beyond the frame, {info.video.width}x{info.video.height}"
    if max(width, height) > _SQUARE * min(width, height):
        return f"it takes a square face, not {width}x{height}: say where with --crop X,Y,W,H"
    return ""


def _embedded(
    pieces: Iterable[tuple[np.ndarray, np.ndarray]], network: SyncNet, compute: Compute
) -> Iterator[tuple[Tensor, Tensor]]:
    """Embeddings of lips and voice, of pieces that overlap by six frames; of the next ones without the first step.

    Args:
        pieces: uint8 ``[T, 224, 224, 3]``, `FPS` a second, and the audio ``[1, S]`` of the same time.
    """

    def both(video: Tensor, coefficients: Tensor) -> Tensor:
        return torch.stack(network(video, coefficients))

    for number, (faces, audio) in enumerate(pieces):
        if len(faces) < 6:
            return
        heard = compute.tensor(audio[:, : len(faces) * RATE // FPS])
        lips, voice = compute(both, frames_to_input(compute.tensor(faces)[None]), mfcc(heard)).cpu()
        first = int(number > 0)
        yield lips[0, first:], voice[0, first:]


def _errors(found: LipSync) -> dict[str, float]:
    return {"lse_d": round(found.lse_d, 4), "lse_c": round(found.lse_c, 4)}


def _starts(found: LipSync) -> list[float]:
    """Seconds at which the parts of a stretch begin, from its first frame on."""
    starts: list[float] = (np.cumsum([0, *found.part_windows[:-1]]) / FPS).tolist()
    return starts


def _compared(found: LipSync, starts: list[float]) -> OffsetsCompared:
    """What was found, and its parts of about a second, which are judged by themselves."""
    reach = len(found.distances) // 2
    offsets = np.arange(-reach, reach + 1) / FPS
    best = offsets[found.parts.argmin(1).numpy()]
    agree = np.abs(best - found.offset) < 1.5 / FPS
    windows = zip(starts, best.tolist(), agree.astype(float).tolist(), strict=True)
    share = float(np.average(agree, weights=found.part_windows))
    return OffsetsCompared(offsets, -found.distances.numpy(), share, tuple(windows))


def _face(frame: np.ndarray) -> np.ndarray:
    """To SyncNet's size, by the interpolation that its authors' face crops went through."""
    return cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
