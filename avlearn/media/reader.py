"""A window of a file as arrays."""

from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np

from avlearn.errors import MediaError, NoVideoError, WindowError
from avlearn.media.decode import Frames, Resampled, Samples
from avlearn.media.probe import probe


@dataclass
class Clip:
    """A window of a file.

    Attributes:
        video: uint8 ``[T, H, W, 3]``, RGB as displayed; ``[0, 0, 0, 3]`` where it was not asked for.
        audio: float32 ``[C, S]`` in [-1, 1]; sample 0 is the instant of frame 0.
        fps, sample_rate: of the arrays.
        start: instant of frame 0 in seconds on the file's own clock.
    """

    video: np.ndarray
    audio: np.ndarray
    fps: float
    sample_rate: int
    start: float


NO_VIDEO = np.zeros((0, 0, 0, 3), np.uint8)
NO_AUDIO = np.zeros((0, 0), np.float32)


def read_clip(
    path: str | Path,
    start: float | None = None,
    duration: float | None = None,
    *,
    fps: float | None = None,
    size: int | None = None,
    sample_rate: int | None = None,
    mono: bool = False,
    video: bool = True,
    audio: bool = True,
    crop: bool = False,
) -> Clip:
    """Read a window exactly: frames by presentation time, sound by presentation time to the sample.

    Args:
        path: the file.
        start: seconds on the file's own clock; its first frame's instant by default.
        duration: seconds; to the end by default.
        fps: frames a second; the file's average by default.
        size: short side in pixels; the file's own by default.
        sample_rate: samples a second; the track's own by default.
        mono: average the channels.
        video, audio: which of the two to read.
        crop: cut the centre square.

    Returns:
        The clip. Past the last frame there are no further frames; where there is no sound, zeros.

    Raises:
        MediaError: the file cannot be read (NoVideoError, NoAudioError: it lacks what was asked for).
        WindowError: the window lies outside the file.
    """
    info = probe(path)
    start = info.start if start is None else start
    end = info.start + info.duration
    duration = end - start if duration is None else duration
    if start >= end or start + duration <= info.start:
        raise WindowError(
            f"{path} lasts from {info.start:.2f} to {end:.2f} s: no window at {start:.2f} s of {duration:.2f} s"
        )
    frames, samples, rate = NO_VIDEO, NO_AUDIO, sample_rate or 0
    if video:
        if info.video is None:
            raise NoVideoError(f"{path} has no picture")
        fps = fps or info.video.fps
        wanted = round(duration * fps)
        instants = (start + k / fps for k in islice(count(), wanted))
        taken = list(Frames(path, start).at(instants, size, crop))
        if not taken:
            raise MediaError(f"{path} gives no frame at {start:.2f} s")
        frames = np.stack(taken)
    if audio:
        origin = start
        track = Resampled(Samples(path, origin), sample_rate, mono)
        rate = track.rate
        samples = track.read(0, round(duration * rate))
    return Clip(frames, samples, fps or 0.0, rate, start)
