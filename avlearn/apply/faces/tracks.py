"""Tracks of faces: who is on screen from when to when, with a crop of every frame."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch

from avlearn.apply.faces.crops import View
from avlearn.apply.shots import ShotList
from avlearn.errors import NoVideoError
from avlearn.media import ClipReader, Window, probe, stream
from avlearn.media.source import Source, opened
from avlearn.models.released.mtcnn import FaceDetector, Faces, load_face_detector

FPS = 25.0  # of tracks and crops
_CHUNK = 25  # frames that are looked at together; the next ones are known when crops are cut out of them
_READ = 5  # chunks of a part of a file that are read at once
_EVERY = 5  # frames from one detection to the next, between which a face moves evenly
_SIDE = 360  # pixels of the frame's short side in which faces are looked for
_SMALLEST = 24.0  # pixels there of the smallest face: the lips of a smaller one are a few pixels
_OVERLAP = 0.3  # of two boxes of one face: intersection over union
_BRIDGED = 4 * _EVERY  # frames between two detections of one face: turned away for a moment
_FEWEST = 5  # detections of a face: what is found less often is mostly none
_LONGEST = 1500  # frames of a track, so that its crops fit
_SMOOTH = np.array([1.0, 2.0, 1.0]) / 4  # over detections: landmarks tremble by a pixel or two


@dataclass(frozen=True)
class FaceTrack:
    """A face through the frames of a shot, at most a minute of it.

    Attributes:
        person: 1, 2, ... in the order in which faces appear, from left to right where they do so together. A track
            that goes on in another keeps its number, and so does a face at the same place after a cut back to a camera
            (see `avlearn.apply.shots.Shot`); one that comes back elsewhere has a new one.
        shot: 1, 2, ... in the order of the film.
        start: seconds from the file's first frame to that of the track.
        boxes: float32 ``[T, 4]``: left, top, right, bottom, pixels of the frame as it is shown, `FPS` a second.
        landmarks: float32 ``[T, 5, 2]``: x and y as in `avlearn.models.released.mtcnn.Faces`, the same pixels.
        crops: uint8 ``[T, S, S]``, or ``[T, S, S, 3]``, as the view says.
    """

    person: int
    shot: int
    start: float
    boxes: np.ndarray
    landmarks: np.ndarray
    crops: np.ndarray

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.crops) / FPS


def face_tracks(
    path: Source,
    view: View,
    device: torch.device | None = None,
    spans: Sequence[tuple[float, float]] | None = None,
    longest: int | None = None,
) -> Iterator[FaceTrack]:
    """The faces of a file, in the order in which their tracks end.

    Faces are looked for five times a second and joined by their overlap, within a shot. Memory does not grow with the
    file's length.

    Args:
        path: a file with video.
        view: the crop: `MOUTH` or `FACE` of `avlearn.apply.faces`.
        device: of the detector; the CPU by default.
        spans: the parts that are looked at, in order: begin and end, seconds from the first frame. All by default.
        longest: frames of a track from which on it goes on in another; 1500 (a minute) by default.

    Raises:
        MissingExtraError: the detector is not installed; says how.
        MediaError: the file cannot be read, or has no video.
    """
    device = device or torch.device("cpu")
    detector = _detector(device)
    with opened(path) as file:
        info = probe(file).video
        if info is None:
            raise NoVideoError(f"{path} has no video")
        side = min(_SIDE, info.width, info.height)
        tracker = _Tracker(view, min(info.width, info.height) / side, longest or _LONGEST)
        for first, frames in _chunks(file, side, spans):
            if first != tracker.seen:
                yield from tracker.go_on(first)
            yield from tracker.add(frames, detector(torch.from_numpy(frames[::_EVERY]).to(device), _SMALLEST))
        yield from tracker.end()


def _chunks(file: Source, side: int, spans: Sequence[tuple[float, float]] | None) -> Iterator[tuple[int, np.ndarray]]:
    """The number of a first frame, and a chunk of frames."""
    if spans is None:
        seconds = _CHUNK / FPS
        for number, clip in enumerate(stream(file, seconds, seconds, fps=FPS, size=side, audio=False)):
            yield number * _CHUNK, clip.video
        return
    reader = ClipReader(fps=FPS, size=side, audio=False)
    origin = probe(file).start
    for begin, end in spans:
        last = round(end * FPS)
        for first in range(round(begin * FPS), last, _CHUNK * _READ):
            count = min(_CHUNK * _READ, last - first)
            frames = reader.read(file, [Window(origin + first / FPS, count / FPS)])[0].video
            for at in range(0, count, _CHUNK):
                yield first + at, frames[at : at + _CHUNK]


@cache
def _detector(device: torch.device) -> FaceDetector:
    return load_face_detector().to(device)


@dataclass(eq=False)
class _Track:
    """A track in the making: where the face was found, and the crops so far."""

    shot: int
    person: int = 0
    frames: list[int] = field(default_factory=list)  # of the detections
    places: list[np.ndarray] = field(default_factory=list)  # of the detections: [7, 2], corners of the box, landmarks
    start: int = 0  # frame of the first crop
    cut: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # place and crop of each frame

    def add(self, frame: int, place: np.ndarray) -> None:
        self.frames.append(frame)
        self.places.append(place)

    def part(self) -> FaceTrack:
        """What is cut out so far, which the track then forgets."""
        places = np.stack([place for place, _ in self.cut]).astype(np.float32)
        crops = np.stack([crop for _, crop in self.cut])
        self.cut = []
        return FaceTrack(self.person, self.shot, self.start / FPS, places[:, :2].reshape(-1, 4), places[:, 2:], crops)

    def at(self, frame: int) -> np.ndarray:
        """The place in a frame: between detections on a line, outside of them as in the nearest."""
        after = int(np.searchsorted(self.frames, frame))
        before, after = max(after - 1, 0), min(after, len(self.frames) - 1)
        near = [np.tensordot(_SMOOTH, [self.places[i] for i in self._around(k)], 1) for k in (before, after)]
        share = np.interp(frame, [self.frames[before], self.frames[after] + (before == after)], [0, 1])
        return (1 - share) * near[0] + share * near[1]

    def _around(self, k: int) -> Sequence[int]:
        """Three detections about the k-th; at either end it stands in for the missing one."""
        if k in (0, len(self.frames) - 1):
            return (k, k, k)
        return (k - 1, k, k + 1)


class _Tracker:
    """Joins detections to tracks, and cuts crops out of the chunk of frames before the latest."""

    def __init__(self, view: View, scale: float, longest: int) -> None:
        self._view, self._scale, self._longest = view, scale, longest
        self._shots = ShotList(FPS)
        self._part = 0  # first frame of the part of the film that the shots are of
        self._cuts, self._cameras = [0], [(0, 1)]  # of each shot: its first frame; its part and camera
        # Of each camera: the shot in which somebody was seen last, and where.
        self._known: dict[tuple[int, int], dict[int, tuple[int, np.ndarray]]] = {}
        self._tracks: list[_Track] = []
        self._held: tuple[int, np.ndarray] = 0, np.zeros((0, 0, 0, 3), np.uint8)  # a first frame, and its chunk
        self._people = 0

    @property
    def seen(self) -> int:
        """The frame after the latest."""
        return self._held[0] + len(self._held[1])

    def go_on(self, frame: int) -> Iterator[FaceTrack]:
        """Ends all tracks, and goes on at a later frame with another shot."""
        yield from self.end()
        before = len(self._cuts) if self.seen else 0
        self._shots, self._part = ShotList(FPS), frame
        self._cuts, self._cameras = [*self._cuts[:before], frame], [*self._cameras[:before], (frame, 1)]
        self._held = frame, np.zeros((0, 0, 0, 3), np.uint8)

    def add(self, frames: np.ndarray, found: Sequence[Faces]) -> Iterator[FaceTrack]:
        """Takes the next chunk, and gives the tracks that ended in the one before."""
        first = self.seen
        known = len(self._shots.begun)
        self._shots.add(frames)
        for start, camera in self._shots.begun[known:]:
            self._cuts.append(self._part + round(start * FPS))
            self._cameras.append((self._part, camera))
        for k, faces in enumerate(found):
            self._join(first + k * _EVERY, faces)
        yield from self._cut_out()
        self._held = first, frames

    def end(self) -> Iterator[FaceTrack]:
        """The tracks that last until the end."""
        yield from self._cut_out()
        yield from self._finish(self._tracks)

    def _shot(self, frame: int) -> int:
        return bisect_right(self._cuts, frame)

    def _join(self, frame: int, faces: Faces) -> None:
        """Each face to the track that it overlaps most, or to a new one."""
        shot = self._shot(frame)
        tracks = [t for t in self._tracks if t.shot == shot and frame - t.frames[-1] <= _BRIDGED]
        places = np.concatenate([faces.boxes.reshape(-1, 2, 2), faces.landmarks], 1)
        pairs = [(_overlap(t.places[-1], place), i, j) for i, t in enumerate(tracks) for j, place in enumerate(places)]
        for overlap, i, j in sorted(pairs, reverse=True):
            if overlap > _OVERLAP and tracks[i].frames[-1] != frame and not np.isnan(places[j]).any():
                tracks[i].add(frame, places[j].copy())
                places[j] = np.nan  # taken
        for place in places[~np.isnan(places).any((1, 2))]:
            self._tracks.append(_Track(shot, frames=[frame], places=[place]))
        new = [t for t in self._tracks if not t.person and len(t.frames) >= _FEWEST]
        for track in sorted(new, key=lambda t: (t.frames[0], t.places[0][0, 0])):
            track.person = self._again(track)
            self._remember(track)
        for track in tracks:
            self._remember(track)

    def _remember(self, track: _Track) -> None:
        if track.person:
            self._known.setdefault(self._cameras[track.shot - 1], {})[track.person] = track.shot, track.places[-1]

    def _again(self, track: _Track) -> int:
        """The number of who was at the place of a new track in the camera's shots before, or a new one."""
        known = self._known.get(self._cameras[track.shot - 1], {})
        near = {
            person: _overlap(place, track.places[0]) for person, (shot, place) in known.items() if shot < track.shot
        }
        person = max(near, key=lambda each: near[each], default=0)
        if near.get(person, 0.0) > _OVERLAP:
            return person
        self._people += 1
        return self._people

    def _cut_out(self) -> Iterator[FaceTrack]:
        """Crops of the held chunk; then the tracks that ended there, or have become long."""
        first, frames = self._held
        for track in self._tracks:
            begin, end = self._span(track)
            for frame in range(max(begin, first), min(end, first + len(frames))):
                place, image = track.at(frame), frames[frame - first]
                track.start = track.start if track.cut else frame
                track.cut.append((place * self._scale, self._view.crop(image, place[2:])))
        over = first + len(frames)
        yield from self._finish([t for t in self._tracks if self._span(t)[1] <= over])
        for track in sorted(self._tracks, key=_person):
            if len(track.cut) >= self._longest and track.person:
                yield track.part()

    def _span(self, track: _Track) -> tuple[int, int]:
        """The first frame of a track, and that after its last: up to cuts, and to the next detection that missed it."""
        before, after = track.frames[0] - _EVERY + 1, track.frames[-1] + _EVERY
        cut = self._cuts[track.shot] if track.shot < len(self._cuts) else after
        return max(self._cuts[track.shot - 1], before), min(cut, after)

    def _finish(self, tracks: Sequence[_Track]) -> Iterator[FaceTrack]:
        yield from (track.part() for track in sorted(tracks, key=_person) if track.person and track.cut)
        self._tracks = [track for track in self._tracks if track not in tracks]


def _person(track: _Track) -> int:
    return track.person


def _overlap(place: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of the boxes of two places."""
    low, high = np.maximum(place[0], other[0]), np.minimum(place[1], other[1])
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / max(float(np.prod(place[1] - place[0]) + np.prod(other[1] - other[0])) - shared, 1e-6)
