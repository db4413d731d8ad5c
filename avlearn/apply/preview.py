"""A long file through a preview: all windows by one frame and their audio, the recognizer on those that are picked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.recognize import RecognizedWindow, as_taken, centre_squares, recognized
from avlearn.apply.windows import check_finite
from avlearn.errors import ModelError, NoVideoError
from avlearn.media import ClipReader, Window, probe
from avlearn.media.source import Source
from avlearn.models.cost import multiply_adds
from avlearn.models.preview import Preview
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input

_TOGETHER = 64  # windows that are read at once


@dataclass(frozen=True)
class Glances:
    """Windows of a file, by what a preview takes of them.

    Attributes:
        starts: ``[N]``, seconds from the start of the file.
        frames: uint8 ``[N, size, size, 3]``, those in the middle.
        audio: float32 ``[N, S]``.
    """

    starts: np.ndarray
    frames: np.ndarray
    audio: np.ndarray


@dataclass(frozen=True)
class PreviewedFile:
    """What a preview makes of all windows of a file.

    Attributes:
        starts: ``[N]``, seconds from the start of the file.
        sides: ``[N, both]``, of `Preview.sides`.
        energy: ``[N]``, mean square of the audio.
    """

    starts: np.ndarray
    sides: Tensor
    energy: np.ndarray


def read_glances(path: Source, model: Recognizer) -> Iterator[Glances]:
    """A file's windows, as of `avlearn.apply.recognize.recognizer_clips`, some at a time.

    Raises:
        ModelError: the recognizer sees nothing.
        NoVideoError, NoAudioError, MediaError: the file lacks one of the two, or cannot be read.
    """
    config = model.config
    if not config.sees:
        raise ModelError("a preview spares looking, and this model only listens")
    origin, length = _span(path)
    starts = np.arange(max(int(length / config.seconds + 0.5), 1)) * config.seconds
    look = ClipReader(fps=config.fps, size=config.size, audio=False)
    listen = ClipReader(sample_rate=config.sample_rate, mono=True, video=False)
    samples = round(config.seconds * config.sample_rate)
    for some in np.split(starts, range(_TOGETHER, len(starts), _TOGETHER)):
        lengths = np.minimum(config.seconds, length - some)
        frames = look.read(path, [Window(origin + at, 1 / config.fps) for at in (some + lengths / 2).tolist()])
        spans = [Window(origin + at, lasts) for at, lasts in zip(some.tolist(), lengths.tolist(), strict=True)]
        heard = [clip.audio[0][:samples] for clip in listen.read(path, spans)]
        yield Glances(
            some,
            centre_squares(np.concatenate([clip.video for clip in frames])),
            np.stack([np.pad(audio, (0, samples - len(audio))) for audio in heard]),
        )


def _span(path: Source) -> tuple[float, float]:
    """Where a file starts on its clock, and how long its video lasts from there: seconds."""
    info = probe(path)
    if info.video is None:
        raise NoVideoError(f"{path} has no video")
    return info.start, info.video.start + info.video.duration - info.start


@torch.inference_mode()
def preview_file(path: Source, model: Recognizer, preview: Preview) -> PreviewedFile:
    """All windows of a file through a preview.

    Raises:
        ModelError, NoVideoError, NoAudioError, MediaError: as of `read_glances`.
    """
    starts, sides, energy = [], [], []
    for glances in read_glances(path, model):
        starts.append(glances.starts)
        sides.append(check_finite(preview.sides(*as_previewed(glances, preview.device)), "the file"))
        energy.append(np.square(glances.audio).mean(1))
    return PreviewedFile(np.concatenate(starts), torch.cat(sides), np.concatenate(energy))


def as_previewed(glances: Glances, device: torch.device) -> tuple[Tensor, Tensor]:
    """Frames ``[B, 3, 1, H, W]`` and audio ``[B, S]`` as `Preview.sides` takes them."""
    frames = frames_to_input(torch.from_numpy(glances.frames)[:, None].to(device))
    return frames, torch.from_numpy(glances.audio).to(device)


def recognize_at(path: Source, model: Recognizer, starts: np.ndarray) -> Iterator[RecognizedWindow]:
    """Windows of a file that begin so many seconds after its start, recognized, one after the other.

    Raises:
        NoVideoError, NoAudioError, MediaError: the file lacks what the network takes, or cannot be read.
    """
    config = model.config
    origin, length = _span(path)
    reader = ClipReader(
        fps=config.fps, size=config.size, sample_rate=config.sample_rate, mono=True, video=config.sees,
        audio=config.hears,
    )  # fmt: skip
    for start in np.sort(starts).tolist():
        [clip] = reader.read(path, [Window(origin + start, min(config.seconds, length - start))])
        yield recognized(as_taken(clip, start, model), model)


@dataclass(frozen=True)
class Cost:
    """What it costs to know a file.

    Attributes:
        windows, of: that are looked at, and that there are.
        frames, of_frames: that networks see, the preview's among them; and those of all windows.
        gmacs, of_gmacs: 10^9 multiply-adds of networks, the preview's among them; and of the recognizer on all windows.
    """

    windows: int
    of: int
    frames: int
    of_frames: int
    gmacs: float
    of_gmacs: float

    def text(self) -> str:
        """In a line."""
        return (
            f"looked at {self.windows} of {self.of} windows: {self.frames} of {self.of_frames} frames, "
            f"{self.gmacs:.2f} of {self.of_gmacs:.2f} GMACs, the preview's among them"
        )


@dataclass(frozen=True)
class WindowCost:
    """10^9 multiply-adds: of a window by a recognizer and by a preview, and of a pick out of one window more.

    Attributes:
        recognizer, preview: of a window.
        pick, key: of a window that is picked, and of one that there is to choose.
        frames: of a window.
    """

    recognizer: float
    preview: float
    pick: float
    key: float
    frames: int

    def of(self, windows: int, budget: int) -> Cost:
        """Of a file of so many windows."""
        looked = min(budget, windows)
        spent = looked * (self.recognizer + self.pick) + windows * (self.preview + self.key)
        seen = looked * self.frames + windows
        return Cost(looked, windows, seen, windows * self.frames, spent, windows * self.recognizer)


def window_cost(model: Recognizer, preview: Preview) -> WindowCost:
    """What windows cost, counted on empty ones."""
    config, device = model.config, model.device
    video = torch.zeros(1, 3, config.frames, config.size, config.size, device=device)
    audio = torch.zeros(1, round(config.seconds * config.sample_rate), device=device)
    sides = torch.zeros(3, sum(preview.sizes), device=device)
    two = multiply_adds(lambda: preview.pick(sides[:2], 1))
    more = multiply_adds(lambda: preview.pick(sides, 1))
    steps = multiply_adds(lambda: preview.pick(sides, 2))
    return WindowCost(
        multiply_adds(lambda: model(video, audio if config.hears else None)),
        multiply_adds(lambda: preview.sides(video[:, :, :1], audio)),
        steps - more,
        more - two,
        config.frames,
    )
