"""Every frame of a file, with its own time, and the file again with other frames."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np

from avlearn.errors import NoVideoError
from avlearn.media.aspect import pixel_aspect
from avlearn.media.decode_video import presented, tick_slack
from avlearn.media.probe import probe
from avlearn.media.rgb import Yuv, displayed, to_rgb, to_yuv
from avlearn.media.source import Source, open_media, video_stream
from avlearn.media.stream import stream
from avlearn.media.ticks import tick
from avlearn.media.writer import write_video


def every_frame(path: Source) -> Iterator[tuple[float, np.ndarray]]:
    """Frames as displayed, in the order of presentation, none left out and none repeated.

    Yields:
        Seconds since the file's first frame, growing, and uint8 ``[H, W, 3]``, all of one size.

    Raises:
        NoVideoError: there is no video.
        MediaError: the file cannot be read.
    """
    shape: tuple[int, int] | None = None
    for instant, frame, aspect in _every_decoded(path):
        image = to_rgb(frame, aspect, shape)
        shape = (image.shape[0], image.shape[1])
        yield instant, image


def every_yuv(path: Source) -> Iterator[tuple[float, Yuv]]:
    """As `every_frame`, without a conversion of colours: planes may be a decoder's, and are not to be written to."""
    shape: tuple[int, int] | None = None
    for instant, frame, aspect in _every_decoded(path):
        width, height = displayed(frame, aspect)
        shape = shape or (height, width)
        yield instant, to_yuv(frame, aspect, shape)


def _every_decoded(path: Source) -> Iterator[tuple[float, av.VideoFrame, float]]:
    """Seconds since the first frame, frames, and the width over height of their pixels."""
    start = probe(path).start
    with open_media(path) as container:
        video = video_stream(container)
        if video is None:
            raise NoVideoError(f"{path} has no video")
        slack = tick_slack(float(tick(video)))
        for instant, _, frame, _ in presented(container, video):
            if instant < start - slack:
                continue
            yield max(float(instant) - start, 0.0), frame, pixel_aspect(video)


def write_redrawn(path: Source, out: Path, frames: Iterable[tuple[float, np.ndarray | Yuv]]) -> None:
    """Write frames that were made of a file's own, each at its time, with the file's audio where it has any.

    Args:
        path: of the file.
        out: the video to write: one of `avlearn.media.writer.VIDEO_SUFFIXES`.
        frames: of `every_frame` or `every_yuv`, redrawn.

    Raises:
        NoVideoError, MediaError: the file has no video, or cannot be read.
        OutputError: the video cannot be written.
    """
    info = probe(path)
    if info.video is None:
        raise NoVideoError(f"{path} has no video")
    audio = (clip.audio for clip in stream(path, 1.0, 1.0, video=False)) if info.audio else None
    rate = info.audio.sample_rate if info.audio else None
    write_video(out, frames, info.video.fps, timed=True, audio=audio, sample_rate=rate)
