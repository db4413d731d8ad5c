"""Grad-CAM along a file: where a network of labels looks, and what it hears, by its windows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.encoder_alone import EncoderAlone, encoder_clips
from avlearn.apply.explain.grad_cam import class_maps
from avlearn.apply.explain.network import ExplainedNetwork
from avlearn.apply.localize.maps import map_at
from avlearn.apply.recognize import recognizer_clips
from avlearn.apply.windows import check_finite
from avlearn.errors import ModelError, NoAudioError, NoVideoError
from avlearn.media import probe
from avlearn.media.frames import every_frame, write_redrawn
from avlearn.media.source import Source
from avlearn.models.inputs import audio_input, video_input
from avlearn.models.recognizer import Recognizer
from avlearn.models.weights.preprocessing import Preprocessing
from avlearn.report.plots import overlay

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class FileMaps:
    """Grad-CAM of classes along a file, each class on one scale over the whole of it.

    0 is where nothing speaks for a class, 1 is what the median moment has at its peak.

    Attributes:
        numbers: of the classes, K.
        probabilities: of these, the mean over the windows.
        times: ``[N]``, seconds from the start of the file, of the video's maps; empty where none is seen.
        video: ``[K, N, Y, X]``.
        spectrogram: ``[F, M]`` of the whole file, low bands first; empty where none is heard.
        audio: ``[K, F', M']``, over the same bands and seconds.
        seconds: that the spectrogram lasts.
    """

    numbers: list[int]
    probabilities: list[float]
    times: np.ndarray
    video: np.ndarray
    spectrogram: np.ndarray
    audio: np.ndarray
    seconds: float


@dataclass(frozen=True)
class _Window:
    """What a network takes of some seconds of a file, by its encoders' kinds."""

    start: float
    seconds: float
    given: dict[str, Tensor]


def check_kinds(path: Source, network: ExplainedNetwork) -> None:
    """Check that a network has labels and that a file holds what it takes.

    Raises:
        ModelError: it has none.
        NoVideoError, NoAudioError: it lacks that.
    """
    if not network.labels or network.model is None:
        raise ModelError(f"{network.name} names nothing in a file: give the model alone, to see its filters")
    info = probe(path)
    if "video" in network.encoders and info.video is None:
        raise NoVideoError(f"{path} has no video, which {network.name} looks at")
    if "audio" in network.encoders and info.audio is None:
        raise NoAudioError(f"{path} has no audio track, which {network.name} listens to")


def best_classes(path: Source, network: ExplainedNetwork, count: int) -> list[int]:
    """Numbers of the likeliest classes of a file, the likeliest first."""
    mean = torch.stack([_probabilities(network, window) for window in _windows(path, network)]).mean(0)
    return mean.topk(min(count, len(mean))).indices.tolist()


def file_class_maps(
    path: Source, network: ExplainedNetwork, numbers: Sequence[int], progress: Callable[[float], None] | None = None
) -> FileMaps:
    """Maps of classes, by windows one after the other.

    Raises:
        MediaError: the file cannot be read, or lacks what the network takes.
        ModelError: scores are not finite.
    """
    times, video, audio, heard, chances = [], [], [], [], []
    seconds = 0.0
    for window in _windows(path, network):
        chances.append(_probabilities(network, window))
        for kind, given in window.given.items():
            maps = class_maps(network, kind, given, numbers).cpu().numpy()
            if kind == "video":
                video.append(maps)
                times.append(window.start + (np.arange(maps.shape[1]) + 0.5) / maps.shape[1] * window.seconds)
            elif given.ndim == 4:
                audio.append(maps)
                heard.append(given[0, 0].cpu().numpy())
                seconds += window.seconds
        if progress:
            progress(window.start + window.seconds)
    mean = torch.stack(chances).mean(0)
    nothing = np.zeros((len(numbers), 0, 0), np.float32)
    return FileMaps(
        numbers=list(numbers),
        probabilities=[round(float(mean[number]), 4) for number in numbers],
        times=np.concatenate(times) if times else np.zeros(0),
        video=_on_one_scale(np.concatenate(video, 1), 1) if video else nothing[..., None],
        spectrogram=np.concatenate(heard, 1) if heard else nothing[0],
        audio=_on_one_scale(np.concatenate(audio, 2), 2) if audio else nothing,
        seconds=seconds,
    )


def _on_one_scale(maps: np.ndarray, time: int) -> np.ndarray:
    """Maps ``[K, ...]`` over the median of what is highest at each time (an axis), where anything speaks for a class.

    A single strong moment would leave the rest of a file dark.
    """
    highest = maps.max(tuple(axis for axis in range(1, maps.ndim) if axis != time))
    middle = [np.median(peaks[peaks > 0]) if (peaks > 0).any() else 1.0 for peaks in highest]
    scaled: np.ndarray = maps / np.array(middle, maps.dtype).reshape(-1, *[1] * (maps.ndim - 1))
    return scaled


def _probabilities(network: ExplainedNetwork, window: _Window) -> Tensor:
    """``[classes]``, on the processor."""
    with torch.no_grad():
        shares = [network.score(kind, given) for kind, given in window.given.items()]
        return network.log_odds(check_finite(torch.stack(shares).sum(0), "the file"))[0].sigmoid().cpu()


def _windows(path: Source, network: ExplainedNetwork) -> Iterator[_Window]:
    if isinstance(network.model, Recognizer):
        return _of_recognizer(path, network.model)
    assert isinstance(network.model, EncoderAlone)  # `check_kinds` saw to that
    return _of_encoder(path, network.model)


def _of_recognizer(path: Source, model: Recognizer) -> Iterator[_Window]:
    for clip in recognizer_clips(path, model):
        given = {}
        if model.video is not None and clip.video is not None:
            given["video"] = video_input(model.video, clip.video)
        if model.audio is not None and model.spectrogram is not None and clip.audio is not None:
            given["audio"] = audio_input(model.audio, model.spectrogram, clip.audio)
        yield _Window(clip.start, model.config.seconds, given)


def _of_encoder(path: Source, model: EncoderAlone) -> Iterator[_Window]:
    kind = "video" if model.sees else "audio"
    for start, clip in encoder_clips(path, model.preprocessing):
        yield _Window(start, model.seconds, {kind: model.given(clip)})


def seen_part(network: ExplainedNetwork, height: int, width: int) -> Box:
    """What of a file's frames a network sees: left, top, right and bottom, as shares of the frame."""
    clip = getattr(network.model, "preprocessing", None)
    if isinstance(clip, Preprocessing):
        resize, short = clip.resize, min(height, width)
        sides = (height * resize / short, width * resize / short) if isinstance(resize, int) else resize
        tall, wide = (min(cut / side, 1.0) for cut, side in zip(clip.crop, sides, strict=True))
    else:
        tall, wide = min(width / height, 1.0), min(height / width, 1.0)
    return (1 - wide) / 2, (1 - tall) / 2, (1 + wide) / 2, (1 + tall) / 2


def write_overlay(
    path: Source, network: ExplainedNetwork, maps: FileMaps, place: int, out: Path, progress: Callable[[float], None]
) -> np.ndarray:
    """Write a file's frames with the map of a class over them, and its audio.

    Args:
        path: of the file.
        network, maps: what the maps are of, and the maps.
        place: of the class among those of the maps.
        out: the video to write.
        progress: is told how many seconds are done.

    Returns:
        Six of the frames, evenly over the file, uint8 ``[6, H, W, 3]``.
    """
    info = probe(path)
    assert info.video is not None  # there are maps of it
    kept: list[np.ndarray] = []
    ends = [info.video.duration * (number + 0.5) / 6 for number in range(6)]

    def drawn() -> Iterator[tuple[float, np.ndarray]]:
        for instant, frame in every_frame(path):
            shown = _laid_over(frame, map_at(maps.times, maps.video[place], instant), network)
            if len(kept) < len(ends) and instant >= ends[len(kept)]:
                kept.append(shown)
            yield instant, shown
            progress(instant)
        if not kept:
            kept.append(shown)

    write_redrawn(path, out, drawn())
    return np.stack(kept)


def _laid_over(frame: np.ndarray, heat: np.ndarray, network: ExplainedNetwork) -> np.ndarray:
    """A frame with a map ``[Y, X]`` over that part of it which the network sees."""
    height, width = frame.shape[:2]
    left, top, right, bottom = seen_part(network, height, width)
    rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
    columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
    shown = frame.copy()
    shown[rows, columns] = overlay(frame[rows, columns], heat)
    return shown
