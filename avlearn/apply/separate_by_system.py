"""`separate` by a released system in place of our model: the same tracks, which add up to the input."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soxr
import torch

from avlearn.apply.separate import SeparateResult, Track, track_names, track_patterns, write_tracks
from avlearn.apply.separate_stretches import Stretch
from avlearn.apply.source_choice import MAX_SOURCES, Choice
from avlearn.apply.track_confidence import TrackSimilarity
from avlearn.apply.tracks import Format, WavFiles, staged_folder, write_videos
from avlearn.apply.verdict import CANNOT_TELL, SILENT
from avlearn.apply.windows import SILENCE, check_finite, probe_both
from avlearn.errors import AvlearnError
from avlearn.media import stream
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.released.systems import SeparateSystem

_HOP = 2.0  # seconds from one window to the next, which are faded into each other
_LOOKS = 2.0  # frames a second that are kept for looks
_STRETCH = 10.0  # seconds that are written at a time
_AROUND = 0.2  # of the frame's width and height, on each side of a point that is asked for

Box = tuple[float, float, float, float]
Progress = Callable[[str, float, float], None]


@unchanged
@opened_once
def separate_by_system(
    path: Source,
    system: SeparateSystem,
    out_dir: str | Path,
    *,
    sources: int = 2,
    choices: Sequence[Choice] = (),
    onscreen: bool = False,
    form: Format = "float",
    progress: Progress | None = None,
) -> SeparateResult:
    """Split a file's audio by what is seen in parts of the frame, as `avlearn.apply.separate.separate_file` writes it.

    The network does not look for sources: it is shown the places that are asked for, or as many equal parts of the
    frame, side by side. What it gives at its own rate is brought to the file's; the residual is what is left, such as
    all above half its rate. It tells no probability, so that its verdict is that it cannot tell which track is whose.

    Args:
        path: any file with video and audio.
        system: the separator.
        out_dir, form, onscreen, progress: as for `separate_file`.
        sources: into how many parts the frame is cut.
        choices: places instead: points and boxes.

    Raises:
        AvlearnError: a source is asked for by number, or too many are.
        MediaError: the file cannot be read, or has no video or no audio.
        OutputError: the results cannot be written.
    """
    boxes = _boxes(sources, choices)
    info, out_dir, stem = probe_both(path), Path(out_dir), Path(str(path)).stem
    rate, channels, end = info.audio.sample_rate, info.audio.channels, info.duration
    say = progress or (lambda *_: None)
    with staged_folder(out_dir, stem, track_patterns(stem)) as part:
        names = track_names(len(boxes), onscreen)
        wavs = [part / f"{stem}_{name}.wav" for name in names]
        files = WavFiles(wavs, rate, channels, form, end)
        stretches = _stretches(path, system, boxes, rate)
        sums = write_tracks(stretches, files, len(boxes), onscreen, lambda n: say("separating", n / rate, end))
        videos = write_videos(path, wavs if onscreen else wavs[:-1], partial(say, "writing the videos"))
    shares = sums.energy / max(sums.input_energy, 1e-12)
    silent = sums.input_energy < SILENCE**2 * channels * sums.samples
    tracks = [
        Track(
            name,
            str(out_dir / wavs[k].name),
            str(out_dir / videos[k].name) if k < len(videos) else None,
            round(float(shares[k]), 4),
            place=None if onscreen or k == len(boxes) else _centre(boxes[k]),
        )
        for k, name in enumerate(names)
    ]
    reason = SILENT if silent else f"{CANNOT_TELL} which track is whose: {system.title} tells no probability"
    notes = [f"by {system.title}, of what sounds below {system.sample_rate / 2000:g} kHz"]
    if not choices:
        parts = f"{len(boxes)} equal parts of the frame, side by side"
        notes.append(f"it was shown {parts}: --source X,Y says where sources are")
    return SeparateResult(
        path=str(path),
        duration=round(sums.samples / rate, 3),
        sample_rate=rate,
        channels=channels,
        format=form,
        calibrated=False,
        tracks=tracks,
        verdict="silent" if silent else CANNOT_TELL,
        reason=reason,
        in_distribution={"video": None, "audio": None},
        delay=0.0,
        notes=tuple(notes),
        notice=None,
        system=system.title,
    )


def _boxes(sources: int, choices: Sequence[Choice]) -> list[Box]:
    """Places of the sources, as fractions of the frame."""
    if len(choices) > MAX_SOURCES:
        raise AvlearnError(f"{len(choices)} sources are too many: ask for {MAX_SOURCES} at most")
    if not choices:
        return [(k / sources, 0.0, (k + 1) / sources, 1.0) for k in range(sources)]
    boxes: list[Box] = []
    for choice in choices:
        if isinstance(choice, int):
            raise AvlearnError(f"source {choice} is a number of our model: give left, right, x,y or x0,y0,x1,y1")
        if len(choice) == 2:
            x, y = choice
            boxes.append((max(x - _AROUND, 0), max(y - _AROUND, 0), min(x + _AROUND, 1), min(y + _AROUND, 1)))
        else:
            boxes.append(choice)
    return boxes


def _centre(box: Box) -> tuple[float, float]:
    return round((box[0] + box[2]) / 2, 3), round((box[1] + box[3]) / 2, 3)


def _stretches(path: Source, system: SeparateSystem, boxes: Sequence[Box], rate: int) -> Generator[Stretch, None, None]:
    """A file's whole audio at its own rate, stretch by stretch, with its tracks."""
    count = len(boxes)
    raised = _raised(_separated(path, system, boxes), system.sample_rate, rate)
    held = None  # [K, C, S] that is separated and not yet given
    for clip in stream(path, _STRETCH, _STRETCH, video=False):
        length = clip.audio.shape[1]
        held = np.zeros((count, len(clip.audio), 0), np.float32) if held is None else held
        while held.shape[2] < length and (more := next(raised, None)) is not None:
            held = np.concatenate([held, more], 2)
        tracks = held[:, :, :length]
        held = held[:, :, length:]
        tracks = np.pad(tracks, ((0, 0), (0, 0), (0, length - tracks.shape[2])))
        yield Stretch(clip.audio, tracks, TrackSimilarity.none(count))


def _raised(pieces: Iterator[np.ndarray], source: int, target: int) -> Iterator[np.ndarray]:
    """Pieces ``[K, C, S]`` at another rate, as if they were in one."""
    resampler = None
    shape: tuple[int, ...] = ()
    for piece in pieces:
        shape = piece.shape[:2]
        if source == target:
            yield piece
            continue
        resampler = resampler or soxr.ResampleStream(source, target, shape[0] * shape[1], dtype="float32")
        yield _unrolled(resampler.resample_chunk(piece.reshape(-1, piece.shape[2]).T.copy()), shape)
    if resampler is not None:
        yield _unrolled(resampler.resample_chunk(np.zeros((0, shape[0] * shape[1]), np.float32), last=True), shape)


def _unrolled(samples: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return samples.T.reshape(*shape, -1)


def _separated(path: Source, system: SeparateSystem, boxes: Sequence[Box]) -> Iterator[np.ndarray]:
    """Tracks ``[K, C, S]`` at the system's rate, piece by piece: windows weighed by a triangle, and averaged."""
    rate, size = system.sample_rate, system.samples
    hop = round(_HOP * rate)
    weight = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    looks = _Looks(path, boxes, max(system.looks) + _HOP)
    held = total = None  # audio from `begin` on, and the tracks there, weighed
    weights = np.zeros(0, np.float32)
    begin = 0

    def separate(first: int, audio: np.ndarray) -> np.ndarray:
        """A window of audio; one that is too short is repeated."""
        filled = np.tile(audio, -(-size // audio.shape[1]))[:, :size]
        seen = looks.at([(first + audio.shape[1] / 2) / rate + look for look in system.looks])
        parts = system.separate_window(torch.from_numpy(np.ascontiguousarray(filled)), seen)
        return check_finite(parts, "the tracks").numpy()[:, :, : audio.shape[1]]

    def add(first: int, parts: np.ndarray) -> None:
        nonlocal total, weights
        own = weight[: parts.shape[2]]
        room = first - begin + parts.shape[2] - len(weights)
        if total is None:
            total = np.zeros((*parts.shape[:2], 0), np.float32)
        total = np.pad(total, ((0, 0), (0, 0), (0, max(room, 0))))
        weights = np.pad(weights, (0, max(room, 0)))
        place = slice(first - begin, first - begin + parts.shape[2])
        total[:, :, place] += parts * own
        weights[place] += own

    for clip in stream(path, _HOP, _HOP, video=False, sample_rate=rate):
        held = clip.audio if held is None else np.concatenate([held, clip.audio], 1)
        while held.shape[1] >= size + hop:  # more comes behind it: the last window ends with the audio
            add(begin, separate(begin, held[:, :size]))
            assert total is not None
            yield total[:, :, :hop] / weights[:hop]
            held, total, weights, begin = held[:, hop:], total[:, :, hop:], weights[hop:], begin + hop
    if held is None or not held.shape[1]:
        return
    if held.shape[1] > size:
        add(begin, separate(begin, held[:, :size]))
    last = max(held.shape[1] - size, 0)
    add(begin + last, separate(begin + last, held[:, last:]))
    assert total is not None
    yield total / weights


class _Looks:
    """What is seen of each source at instants that rise; the nearest frames of a few a second."""

    def __init__(self, path: Source, boxes: Sequence[Box], reach: float):
        self._frames = self._cut(path, boxes)
        self._kept: deque[tuple[float, list[np.ndarray]]] = deque()
        self._reach = 2 * reach + 8.0  # seconds that are looked back, at most

    @staticmethod
    def _cut(path: Source, boxes: Sequence[Box]) -> Iterator[tuple[float, list[np.ndarray]]]:
        begin = None
        for clip in stream(path, 1.0, 1.0, fps=_LOOKS, audio=False):
            begin = clip.start if begin is None else begin
            for number, frame in enumerate(clip.video):
                yield clip.start - begin + number / _LOOKS, [_cropped(frame, box) for box in boxes]

    def at(self, instants: Sequence[float]) -> list[list[np.ndarray]]:
        """Of each source, crops at the instants; before the first frame and after the last these go on."""
        while not self._kept or self._kept[-1][0] < max(instants):
            if (more := next(self._frames, None)) is None:
                break
            self._kept.append(more)
        while len(self._kept) > 1 and self._kept[0][0] < max(instants) - self._reach:
            self._kept.popleft()
        nearest = [min(self._kept, key=lambda kept, at=at: abs(kept[0] - at))[1] for at in instants]  # type: ignore[misc]
        return [[crops[k] for crops in nearest] for k in range(len(nearest[0]))]


def _cropped(frame: np.ndarray, box: Box) -> np.ndarray:
    height, width = frame.shape[:2]
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    right, bottom = max(round(box[2] * width), left + 1), max(round(box[3] * height), top + 1)
    return frame[top:bottom, left:right].copy()
