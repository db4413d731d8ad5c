"""A whole file in overlapping windows, with memory that does not grow with its length."""

from collections import deque
from collections.abc import Generator, Iterator
from itertools import count

import av
import numpy as np

from avlearn.errors import NoAudioError, NoVideoError
from avlearn.media.clip import NO_AUDIO, NO_VIDEO, Clip, Window
from avlearn.media.decode_audio import Samples
from avlearn.media.decode_video import Frames
from avlearn.media.probe import probe
from avlearn.media.resample import Resampled
from avlearn.media.rgb import to_rgb
from avlearn.media.shared_decoding import SharedDecoding
from avlearn.media.source import Source, boundary, opened


def stream(
    path: Source,
    window: float,
    hop: float,
    *,
    fps: float | None = None,
    size: int | None = None,
    sample_rate: int | None = None,
    mono: bool = False,
    video: bool = True,
    audio: bool = True,
    audio_delay: float = 0.0,
    decoded: SharedDecoding | None = None,
) -> Generator[Clip, None, None]:
    """Windows of a file on one grid: window k begins ``k * hop`` seconds after the file's first frame.

    Args:
        path: the file.
        window, hop: seconds.
        fps, size, sample_rate, mono, video, audio: as in `read_clip`.
        audio_delay: seconds by which the audio is moved later against the grid and the video, as by `remux`.
        decoded: shared with other streams of the file.

    Yields:
        Clips, the last of which may be shorter (nothing is padded). With video they last as long as the
        video does; of the audio alone (``video=False``), as long as the audio.

    Raises:
        MediaError: the file cannot be read, or lacks what was asked for.
    """
    with opened(path) as file:
        info = probe(file)
        if video and info.video is None:
            raise NoVideoError(f"{path} has no video")
        if audio and info.audio is None:
            raise NoAudioError(f"{path} has no audio track")
        origin = info.start
        frames, samples = (decoded.frames, decoded.samples) if decoded else (Frames, Samples)
        track = Resampled(samples(file, origin - audio_delay), sample_rate, mono) if audio else None
        if video and info.video is not None:
            rate = track.rate if track else sample_rate or 0
            per_second = fps or info.video.fps
            images = _images(frames(file, origin), (origin + k / per_second for k in count()), size)
            yield from _video(file, images, track, Window(origin, window), hop, per_second, rate)
        elif track is not None:
            yield from _audio(file, track, origin, window, hop)


def _video(
    path: Source,
    frames: Iterator[tuple[float, np.ndarray]],
    track: Resampled | None,
    grid: Window,
    hop: float,
    fps: float,
    rate: int,
) -> Iterator[Clip]:
    """Windows of frames, and of a track's samples beside them; ``grid`` is the first."""
    held: deque[tuple[float, np.ndarray]] = deque()
    held_first = 0
    for k in count():
        first, last = round(k * hop * fps), round((k * hop + grid.duration) * fps)
        while held and held_first < first:
            held.popleft()
            held_first += 1
        while held_first + len(held) < last:
            frame = next(frames, None)
            if frame is None:
                break
            if held_first + len(held) < first:
                held_first += 1
            else:
                held.append(frame)
        if not held:
            return
        with boundary(path, " cannot be read"):
            times, taken = np.array([time for time, _ in held]), np.stack([image for _, image in held])
        samples = NO_AUDIO
        if track:
            begin = round(k * hop * rate)
            whole = len(taken) == last - first
            end = round((k * hop + grid.duration) * rate) if whole else begin + round(len(taken) / fps * rate)
            with boundary(path, ": its audio cannot be read"):
                samples = track.read(begin, end - begin)
            track.forget(begin)
        yield Clip(taken, samples, fps, rate, grid.start + k * hop, times)
        if len(taken) < last - first:
            return


def _images(frames: Frames, instants: Iterator[float], size: int | None) -> Iterator[tuple[float, np.ndarray]]:
    """Presentation time and image for each instant."""
    shown: av.VideoFrame | None = None
    image: np.ndarray | None = None
    for time, frame in frames.at(instants):
        if frame is not shown:
            # All of one size, even where the stream's changes.
            with boundary(frames.source, ": its video cannot be scaled"):
                image = to_rgb(frame, frames.aspect, size if image is None else image.shape[:2])
            shown = frame
        assert image is not None  # there is a first frame
        yield time, image


def _audio(path: Source, track: Resampled, origin: float, window: float, hop: float) -> Iterator[Clip]:
    rate = track.rate
    for k in count():
        begin, wanted = (
            round(k * hop * rate),
            round((k * hop + window) * rate) - round(k * hop * rate),
        )
        with boundary(path, ": its audio cannot be read"):
            samples = track.read(begin, wanted)
        end = track.end()
        left = wanted if end is None else min(wanted, end - begin)
        if left <= 0:
            return
        yield Clip(NO_VIDEO, samples[:, :left], 0.0, rate, origin + k * hop)
        if left < wanted:
            return
        track.forget(begin)
