"""Every frame of a file, with its own time."""

from collections.abc import Iterator

import numpy as np

from avlearn.errors import NoVideoError
from avlearn.media.aspect import pixel_aspect
from avlearn.media.decode_video import presented, tick_slack
from avlearn.media.probe import probe
from avlearn.media.rgb import to_rgb
from avlearn.media.source import Source, open_media, video_stream
from avlearn.media.ticks import tick


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
