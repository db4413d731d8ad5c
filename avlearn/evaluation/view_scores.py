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
from avlearn.data.prepared_flow import window_flow
from avlearn.data.transcode import FlowSettings
from avlearn.data.views import Views, clip_frames, clip_starts, square_crops
from avlearn.errors import AvlearnError, ModelError, NoAudioError, NoVideoError, WindowError
from avlearn.files import reason_of
from avlearn.media import ClipReader, Window, probe
from avlearn.media.rgb import Crop
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
        flow: that is read, between the frames; None: none is.
    """

    row: Row
    fps: float
    frames: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    last: bool
    flow: FlowSettings | None


@dataclass(frozen=True)
class _Read:
    """What was read of a part, each None where it was not: of K clips.

    Attributes:
        video: frames uint8 ``[U, H, W, 3]``.
        places: of these in clips ``[K, T]``.
        audio: ``[K, S]``.
        flow: ``[K, 2, T - 1, H, W]``, pixels.
    """

    video: np.ndarray | None = None
    places: np.ndarray | None = None
    audio: np.ndarray | None = None
    flow: np.ndarray | None = None


def score_views(
    model: Recognizer,
    rows: Sequence[Row],
    views: Views,
    average: Average = "probabilities",
    flow: FlowSettings | None = None,
) -> Iterator[dict[str, np.ndarray] | str]:
    """Scores of each row, in their order, or the reason why it has none.

    Args:
        model: in evaluation mode.
        rows: of clips.
        views: of each.
        average: what is averaged over views.
        flow: read of each row in place of computed, the views' frames being those between which it is; not of views
            that `not_of_flow` names.

    Yields:
        ``[classes]`` by what they are of: the network's inputs, and where these are both that it adds up, also
        ``video`` and ``audio``, the share of each alone (`Recognizer.contributions`). Probabilities, or logits.
    """
    total: dict[str, np.ndarray] = {}
    failed, weight = "", 0
    for part, read in _read_ahead(rows, model, views, flow):
        if isinstance(read, str):
            failed = failed or read
        elif not failed:
            weight += int(part.counts.sum())
            for kind, values in _sum(model, read, part.counts, views.crops, average).items():
                total[kind] = total.get(kind, 0) + values
        if part.last:
            yield failed or {kind: np.asarray(values / weight, np.float32) for kind, values in total.items()}
            total, failed, weight = {}, "", 0


def not_of_flow(views: Views) -> str:
    """Views whose frames are not the middle square of frames one after the other, in words; "" of others."""
    return "" if views.rule in ("even", "dense") and views.crops == 1 else f"--views {views}"


def _read_ahead(
    rows: Iterable[Row], model: Recognizer, views: Views, flow: FlowSettings | None
) -> Iterator[tuple[_Part, _Read | str]]:
    """Parts of rows in order, and what was read of each or why nothing could be; threads read ahead."""
    threads = min(os.cpu_count() or 1, _READERS)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[_Part, Future[_Read | str]]] = deque()
    try:
        for row in rows:
            for part, failed in _parts(row, model.config, views, flow):
                waiting.append((part, pool.submit(_read, part, model, failed)))
                if len(waiting) > threads:
                    first, found = waiting.popleft()
                    yield first, found.result()
        for part, found in waiting:
            yield part, found.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _parts(row: Row, config: RecognizerConfig, views: Views, flow: FlowSettings | None) -> Iterator[tuple[_Part, str]]:
    """Parts of a row; one that is empty, and the reason, of a row that cannot be read."""
    try:
        fps, frames, starts = _clips(row, config, views, flow)
    except AvlearnError as error:
        nothing = np.zeros(0)
        yield _Part(row, 0.0, nothing, nothing, nothing, True, None), reason_of(error, row.source)
        return
    found = Counter((*clip, start) for clip, start in zip(frames.tolist(), starts.tolist(), strict=True))
    clips, counts = list(found), list(found.values())
    for first in range(0, len(clips), _TOGETHER):
        some = clips[first : first + _TOGETHER]
        frames = np.array([clip[:-1] for clip in some], int)
        starts = np.array([clip[-1] for clip in some])
        last = first + _TOGETHER >= len(clips)
        yield _Part(row, fps, frames, starts, np.array(counts[first : first + _TOGETHER]), last, flow), ""


def _clips(
    row: Row, config: RecognizerConfig, views: Views, flow: FlowSettings | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Frames a second of a row's video, frames of its clips, and where the audio of each begins."""
    row.require_unchanged()
    if not config.sees:  # audio is counted in frames of the network
        count = round(config.seconds * config.fps)
        starts = clip_starts(views, row.duration * config.fps, count, 1.0) / config.fps
        return config.fps, np.zeros((len(starts), 0), int), starts
    fps, duration = (flow.fps, row.duration) if flow else _video_of(row, config.hears)
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


def _read(part: _Part, model: Recognizer, failed: str) -> _Read | str:
    """Decode a part."""
    if failed:
        return failed
    config, video, places, flow = model.config, None, None, None
    try:
        if part.flow is not None:
            flow = _flow(part, part.flow)
        if config.sees and (flow is None or (model.video is not None and model.video.takes == "video+flow")):
            video, places = _frames(part, config.size)
        audio = _audio(part, config) if config.hears else None
    except AvlearnError as error:
        return reason_of(error, part.row.source)
    return _Read(video, places, audio, flow)


def _frames(part: _Part, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each frame that a clip has, once and whole, its short side ``size``; and where those of clips are.

    Beside flow: those between which it is, their middle square.
    """
    used, places = np.unique(part.frames, return_inverse=True)
    reader = ClipReader(fps=part.fps, size=(size, size) if part.flow else size, audio=False)
    crop: Crop = "square" if part.flow else None
    for beyond in range(_BEYOND + 1):
        # In the middle of a frame's time: stamps are rounded. Of flow it is not the file's frame that lasts so long.
        within = 0.0 if part.flow else 0.5
        instants = part.row.start + (np.minimum(used, used[-1] - beyond) + within) / part.fps
        try:
            clips = reader.read(part.row.source, [Window(float(at), 1 / part.fps, crop=crop) for at in instants])
        except WindowError:
            if beyond == min(_BEYOND, used[-1]):
                raise
        else:
            break
    return np.concatenate([clip.video for clip in clips]), places.reshape(part.frames.shape)


def _flow(part: _Part, settings: FlowSettings) -> np.ndarray:
    """``[K, 2, T - 1, H, W]`` of clips whose frames follow each other, and may end with the last one again."""
    clips = [(int(clip[0]), len(np.unique(clip)), len(clip)) for clip in part.frames]
    return np.stack([window_flow(part.row, settings, *clip) for clip in clips])


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
    total: dict[str, np.ndarray] = {}
    squares = [None] if read.video is None else square_crops(read.video, crops)
    chosen = [(clip, square) for clip in range(len(counts)) for square in squares]
    for first in range(0, len(chosen), _BATCH):
        some = chosen[first : first + _BATCH]
        clips = [clip for clip, _ in some]
        video = audio = flow = None
        if read.places is not None:
            frames = np.stack([square[read.places[clip]] for clip, square in some if square is not None])
            video = frames_to_input(torch.from_numpy(frames).to(model.device))
        if read.audio is not None:
            audio = torch.from_numpy(read.audio[clips]).to(model.device)
        if read.flow is not None:
            flow = torch.from_numpy(read.flow[clips]).to(model.device)
        weights = torch.tensor([counts[clip] / len(squares) for clip, _ in some], dtype=torch.float64)
        for kind, scores in _logits(model, video, audio, flow).items():
            values = model.probabilities(scores) if average == "probabilities" else scores
            total[kind] = total.get(kind, 0) + (weights @ values.cpu().double()).numpy()
    return total


def _logits(model: Recognizer, video: Tensor | None, audio: Tensor | None, flow: Tensor | None) -> dict[str, Tensor]:
    """``[B, classes]`` of the network, and of video and audio alone where it adds up their shares."""
    features = model.features(video, audio, flow=flow)
    found: dict[str, Tensor] = {model.config.inputs: check_finite(model.classify(features).float(), "the clips")}
    if len(features) > 1:
        with suppress(ModelError):  # of a network that does not add them up
            found |= {kind: scores.float() for kind, scores in model.contributions(features).items()}
    return found
