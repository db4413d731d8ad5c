"""Scores of a recognizer for clips of any length, averaged over views: files are read ahead, scores alone are kept."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.windows import check_finite
from avlearn.config import RecognizerConfig
from avlearn.data.manifest import Row
from avlearn.data.views import Views, clip_frames, clip_starts, square_crops
from avlearn.errors import AvlearnError, ModelError, NoAudioError, NoVideoError, WindowError
from avlearn.files import reason_of
from avlearn.media import ClipReader, Window, probe
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input

Average = Literal["probabilities", "logits"]
_TOGETHER = 10  # clips of a file that are held at once
_BATCH = 10  # views
_READERS = 8  # threads at most
_BEYOND = 3  # frames by which a header may say more than there are


@dataclass(frozen=True)
class _Part:
    """Clips of a file that are read together.

    Attributes:
        row: the file.
        fps: frames of the video a second.
        frames: ``[K, T]`` of the video; ``[K, 0]`` where none is looked at.
        starts: ``[K]`` of audio, seconds.
        counts: how often each of them is a clip of the file.
        last: whether it is the file's last part.
    """

    row: Row
    fps: float
    frames: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    last: bool


@dataclass(frozen=True)
class _Read:
    """What was read of a part: frames uint8 ``[U, H, W, 3]``, their places ``[K, T]``, audio ``[K, S]``."""

    video: np.ndarray
    places: np.ndarray
    audio: np.ndarray


def score_views(
    model: Recognizer, rows: Sequence[Row], views: Views, average: Average = "probabilities"
) -> Iterator[dict[str, np.ndarray] | str]:
    """Scores of each row, in their order, or the reason why it has none.

    Args:
        model: in evaluation mode.
        rows: of clips.
        views: of each.
        average: what is averaged over views.

    Yields:
        ``[classes]`` by what they are of: the network's inputs, and where these are both that it adds up, also
        ``video`` and ``audio``, the share of each alone (`Recognizer.contributions`). Probabilities, or logits.
    """
    total: dict[str, np.ndarray] = {}
    failed, weight = "", 0
    for part, read in _read_ahead(rows, model.config, views):
        if isinstance(read, str):
            failed = failed or read
        elif not failed:
            weight += int(part.counts.sum())
            for kind, values in _sum(model, read, part.counts, views.crops, average).items():
                total[kind] = total.get(kind, 0) + values
        if part.last:
            yield failed or {kind: np.asarray(values / weight, np.float32) for kind, values in total.items()}
            total, failed, weight = {}, "", 0


def _read_ahead(rows: Iterable[Row], config: RecognizerConfig, views: Views) -> Iterator[tuple[_Part, _Read | str]]:
    """Parts of rows in order, and what was read of each or why nothing could be; threads read ahead."""
    threads = min(os.cpu_count() or 1, _READERS)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[_Part, Future[_Read | str]]] = deque()
    try:
        for row in rows:
            for part, failed in _parts(row, config, views):
                waiting.append((part, pool.submit(_read, part, config, failed)))
                if len(waiting) > threads:
                    first, found = waiting.popleft()
                    yield first, found.result()
        for part, found in waiting:
            yield part, found.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _parts(row: Row, config: RecognizerConfig, views: Views) -> Iterator[tuple[_Part, str]]:
    """Parts of a row; one that is empty, and the reason, of a row that cannot be read."""
    try:
        fps, frames, starts = _clips(row, config, views)
    except AvlearnError as error:
        nothing = np.zeros(0)
        yield _Part(row, 0.0, nothing, nothing, nothing, True), reason_of(error, row.source)
        return
    found = Counter((*clip, start) for clip, start in zip(frames.tolist(), starts.tolist(), strict=True))
    clips, counts = list(found), list(found.values())
    for first in range(0, len(clips), _TOGETHER):
        some = clips[first : first + _TOGETHER]
        frames = np.array([clip[:-1] for clip in some], int)
        starts = np.array([clip[-1] for clip in some])
        last = first + _TOGETHER >= len(clips)
        yield _Part(row, fps, frames, starts, np.array(counts[first : first + _TOGETHER]), last), ""


def _clips(row: Row, config: RecognizerConfig, views: Views) -> tuple[float, np.ndarray, np.ndarray]:
    """Frames a second of a row's video, frames of its clips, and where the audio of each begins."""
    row.require_unchanged()
    if not config.sees:  # audio is counted in frames of the network
        count = round(config.seconds * config.fps)
        starts = clip_starts(views, row.duration * config.fps, count, 1.0) / config.fps
        return config.fps, np.zeros((len(starts), 0), int), starts
    fps, duration = _video_of(row, config.hears)
    length, stride = max(round(duration * fps), 1), fps / config.fps
    frames = clip_frames(views, length, config.frames, stride, bool(config.segments))
    if not config.hears:
        return fps, frames, np.zeros(len(frames))
    starts = clip_starts(views, length, round(config.seconds * config.fps), stride) / fps
    # A clip ends with its last frame, a stride before its audio does.
    return fps, frames, np.minimum(starts, max(row.duration - config.seconds, 0.0))


def _video_of(row: Row, hears: bool) -> tuple[float, float]:
    """Frames a second, and seconds, of a row's video.

    A manifest says for how long there is video and audio. Of a row that is a whole file, a network that does not hear
    looks at all of the video.
    """
    info = probe(row.source)
    video, audio = info.video, info.audio
    if video is None:
        raise NoVideoError(f"{row.source} has no video")
    both = min(stream.start + stream.duration for stream in (video, audio) if stream is not None) - info.start
    whole = max(abs(row.start - info.start), abs(row.duration - both)) < 1 / video.fps
    return video.fps, video.start + video.duration - info.start if whole and not hears else row.duration


def _read(part: _Part, config: RecognizerConfig, failed: str) -> _Read | str:
    """Decode a part."""
    if failed:
        return failed
    row = part.row
    try:
        video, places = _frames(part, config.size) if config.sees else (np.zeros((0, 0, 0, 3), np.uint8), part.frames)
        audio = _audio(part, config) if config.hears else np.zeros((len(part.starts), 0), np.float32)
    except AvlearnError as error:
        return reason_of(error, row.source)
    return _Read(video, places, audio)


def _frames(part: _Part, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each frame that a clip has, once and whole, its short side ``size``; and where those of clips are."""
    used, places = np.unique(part.frames, return_inverse=True)
    reader = ClipReader(fps=part.fps, size=size, audio=False)
    for beyond in range(_BEYOND + 1):
        # In the middle of a frame's time: stamps are rounded.
        instants = part.row.start + (np.minimum(used, used[-1] - beyond) + 0.5) / part.fps
        try:
            clips = reader.read(part.row.source, [Window(float(at), 1 / part.fps) for at in instants])
        except WindowError:
            if beyond == min(_BEYOND, used[-1]):
                raise
        else:
            break
    return np.concatenate([clip.video for clip in clips]), places.reshape(part.frames.shape)


def _audio(part: _Part, config: RecognizerConfig) -> np.ndarray:
    """Windows of audio, silent where it has ended."""
    row, samples = part.row, round(config.seconds * config.sample_rate)
    reader = ClipReader(sample_rate=config.sample_rate, mono=True, video=False)
    windows = [
        Window(row.start + start, max(min(config.seconds, row.duration - start), 1 / config.fps))
        for start in part.starts.tolist()
    ]
    clips = reader.read(row.source, windows)
    if not all(len(clip.audio) for clip in clips):
        raise NoAudioError(f"{row.source} has no audio track")
    return np.stack([np.pad(clip.audio[0], (0, max(samples - clip.audio.shape[1], 0)))[:samples] for clip in clips])


@torch.inference_mode()
def _sum(model: Recognizer, read: _Read, counts: np.ndarray, crops: int, average: Average) -> dict[str, np.ndarray]:
    """Sums over views of clips that occur ``counts [K]`` times, divided by the crops of each."""
    config, total = model.config, dict[str, np.ndarray]()
    squares = square_crops(read.video, crops) if config.sees else [read.video]
    chosen = [(clip, square) for clip in range(len(counts)) for square in squares]
    for first in range(0, len(chosen), _BATCH):
        some = chosen[first : first + _BATCH]
        video = audio = None
        if config.sees:
            frames = np.stack([square[read.places[clip]] for clip, square in some])
            video = frames_to_input(torch.from_numpy(frames).to(model.device))
        if config.hears:
            audio = torch.from_numpy(read.audio[[clip for clip, _ in some]]).to(model.device)
        weights = torch.tensor([counts[clip] / len(squares) for clip, _ in some], dtype=torch.float64)
        for kind, scores in _logits(model, video, audio).items():
            values = model.probabilities(scores) if average == "probabilities" else scores
            total[kind] = total.get(kind, 0) + (weights @ values.cpu().double()).numpy()
    return total


def _logits(model: Recognizer, video: Tensor | None, audio: Tensor | None) -> dict[str, Tensor]:
    """``[B, classes]`` of the network, and of video and audio alone where it adds up their shares."""
    features = model.features(video, audio)
    found: dict[str, Tensor] = {model.config.inputs: check_finite(model.classify(features).float(), "the clips")}
    if len(features) > 1:
        with suppress(ModelError):  # of a network that does not add them up
            found |= {kind: scores.float() for kind, scores in model.contributions(features).items()}
    return found
