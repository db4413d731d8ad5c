"""Every frame of a file, with its own time, and the file again with other frames."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from avlearn.errors import NoVideoError
from avlearn.media.aspect import pixel_aspect
from avlearn.media.decode_video import presented, tick_slack
from avlearn.media.probe import probe
from avlearn.media.rgb import to_rgb
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
    start = probe(path).start
    with open_media(path) as container:
        video = video_stream(container)
        if video is None:
            raise NoVideoError(f"{path} has no video")
        shape, slack = None, tick_slack(float(tick(video)))
        for instant, _, frame, _ in presented(container, video):
            if instant < start - slack:
                continue
            image = to_rgb(frame, pixel_aspect(video), shape)
            shape = image.shape[:2]
            yield max(float(instant) - start, 0.0), image


def write_redrawn(path: Source, out: Path, frames: Iterable[tuple[float, np.ndarray]]) -> None:
    """Write frames that were made of a file's own, each at its time, with the file's audio where it has any.

    Args:
        path: of the file.
        out: the video to write: one of `avlearn.media.writer.VIDEO_SUFFIXES`.
        frames: of `every_frame`, redrawn.

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
