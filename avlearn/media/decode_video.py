"""The frames of a file in the order of presentation, and the one that is shown at each of some instants."""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain

import av
import av.container

from avlearn.errors import MediaError, NoVideoError
from avlearn.media.aspect import pixel_aspect, repaired
from avlearn.media.clock import demuxed, restarts
from avlearn.media.source import Source, frame_rate, open_media, video_stream
from avlearn.media.ticks import stated_start, tick

_BACK = (0.0, 2.0, 10.0)  # seconds to seek ahead of an instant, until a keyframe lies before it
_LEAP = 600.0  # seconds that no frame lasts: a stamp so far off is damaged (as `clock` has it)

# Instant and duration in seconds, frame, and whether it depends on what could not be decoded.
Presented = tuple[Fraction, Fraction, av.VideoFrame, bool]


def tick_slack(base: float) -> float:
    """Seconds by which a frame's stamp may lie after its instant: stamps are rounded to their tick.

    Half a tick and at least 0.1 ms; ticks of more than a millisecond are exact (a frame each).
    """
    return max(base / 2 + 1e-5, 1e-4) if base <= 1.1e-3 else 1e-4


def is_untimed(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether packets are stamped in decoding order only: AVI with B-frames."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


class Frames:
    """The video of a file, decoded in order: for growing instants, the frame that is shown then.

    Args:
        source: the file.
        start: the first instant that will be asked for, seconds on the file's clock.
        strict: refuse frames that depend on damaged ones, instead of passing over what cannot be decoded.

    Attributes:
        aspect: width over height of a pixel, once a frame was given.

    Raises:
        NoVideoError: there is no video.
        MediaError: a wanted frame is damaged, or stamps go back (strict only).
    """

    def __init__(self, source: Source, start: float, strict: bool = False):
        self.source, self.start, self.strict = source, start, strict
        self.aspect = 1.0

    def at(self, instants: Iterable[float]) -> Iterator[tuple[float, av.VideoFrame]]:
        """Presentation time and frame for each instant, until the instants or the frames end.

        The frame of an instant is the last one presented at or before it; before the first, the first.
        """
        with self.opened() as (frames, slack):
            current = next(frames, None)
            if current is None:
                raise NoVideoError(f"{self.source}: the video stream holds no frame")
            following = next(frames, None)
            for instant in instants:
                while following is not None and following[0] <= instant + slack:
                    current, following = following, next(frames, None)
                time, duration, frame, damaged = current
                if following is None and instant >= time + duration - slack:
                    return
                if damaged and self.strict:
                    raise MediaError(f"{self.source} is damaged: its video at {float(time):.2f} s cannot be decoded")
                yield float(time), frame

    @contextmanager
    def opened(self) -> Iterator[tuple[Iterator[Presented], float]]:
        """Frames from one at or before ``start``, or from the very first, and the slack of their stamps."""
        for back in (*_BACK, None):
            with open_media(self.source) as container:
                stream = video_stream(container)
                if stream is None:
                    raise NoVideoError(f"{self.source} has no video")
                self.aspect = pixel_aspect(stream)
                slack = tick_slack(float(tick(stream)))
                begin = float(stated_start(stream))
                if back is None or self.start < begin + 1.0 or is_untimed(container, stream) or restarts(container):
                    yield presented(container, stream), slack
                    return
                try:
                    container.seek(int((self.start - back) / tick(stream)), stream=stream)
                except av.error.FFmpegError:
                    continue
                frames = presented(container, stream, True)
                first = next(frames, None)
                # Not every frame that a container calls a keyframe can be decoded alone.
                if first is not None and first[0] <= self.start + slack and not first[3]:
                    yield chain([first], frames), slack
                    return


def presented(
    container: av.container.InputContainer, stream: av.VideoStream, sought: bool = False
) -> Iterator[Presented]:
    """Frames in order of presentation, each later than the one before.

    Args:
        container, stream: at their beginning, or at a keyframe.
        sought: whether packets before the next keyframe are to be passed over.

    Yields:
        Instant and duration in seconds, frame, and whether it depends on what could not be decoded.
    """
    base, begin = tick(stream), stated_start(stream)
    usual = 1 / Fraction(frame_rate(stream) or 25).limit_denominator(100_000)
    last: Fraction | None = None
    lasts = usual
    stamps: list[int] | None = [] if is_untimed(container, stream) else None
    damaged = False
    for packet in container.demux(stream) if sought else demuxed(container, [stream]):
        if sought and not packet.is_keyframe:
            continue
        sought = False
        if stamps is not None and packet.dts is not None and packet.size:
            heapq.heappush(stamps, packet.dts)
        try:
            frames = stream.decode(repaired(packet))
        except (av.error.InvalidDataError, av.error.EOFError):
            damaged = True
            continue
        for frame in frames:
            damaged = frame.is_corrupt or (damaged and not frame.key_frame)
            # Frames come in presentation order: the next one has the smallest stamp that is left.
            pts = heapq.heappop(stamps) if stamps else frame.pts
            instant = pts * base if pts is not None else begin if last is None else last + usual
            if last is not None and instant > last + lasts + _LEAP:
                instant = last + usual
            if last is not None and instant <= last:
                damaged = damaged or instant < last
                continue
            stated = (frame.duration or 0) * base
            last, lasts = instant, stated if 0 < stated < _LEAP else usual
            yield instant, lasts, frame, damaged
