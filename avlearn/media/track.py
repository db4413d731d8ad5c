"""A stream of a file as what decodes its packets sees it, wherever they come from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import av
import av.container
import numpy as np

from avlearn.media.aspect import pixel_aspect, repaired
from avlearn.media.decode_audio import hidden_until
from avlearn.media.packets import droppable_rule
from avlearn.media.source import frame_rate
from avlearn.media.ticks import AnyPacket, stated_start, tick


class Kept(Protocol):
    """A packet that is kept for decoding, or the place of one in a file: what a plan asks of it."""

    @property
    def dts(self) -> int | None: ...
    @property
    def duration(self) -> int | None: ...
    @property
    def is_keyframe(self) -> bool: ...
    @property
    def is_discard(self) -> bool: ...


D = TypeVar("D", av.VideoCodecContext, av.AudioCodecContext)


@dataclass(frozen=True)
class Track(Generic[D]):
    """What is to be known of a stream.

    Attributes:
        kind: ``video`` or ``audio``.
        decoder: of its packets.
        tick: seconds of a tick of its clock.
        start, end: seconds on the file's clock by its header; None where that states no end.
        load: the packet to decode of one that was kept.
        unused: whether no other packet depends on one that was kept; None where that cannot be told.
        rate: frames a second by the header; None where it says nothing that could be true.
        aspect: width over height of a pixel.
        hidden: seconds before which audio is not heard.
    """

    kind: str
    decoder: D
    tick: float
    start: float
    end: float | None
    load: Callable[[Any], AnyPacket]
    unused: Callable[[Any], bool] | None = None
    rate: float | None = None
    aspect: float = 1.0
    hidden: float = -np.inf


def video_track(stream: av.VideoStream) -> Track[av.VideoCodecContext]:
    """A video stream of an open container."""
    return Track(
        "video", stream.codec_context, float(tick(stream)), float(stated_start(stream)), _end(stream),
        load=repaired, unused=droppable_rule(stream.codec_context), rate=frame_rate(stream),
        aspect=pixel_aspect(stream),
    )  # fmt: skip


def audio_track(container: av.container.InputContainer, stream: av.AudioStream) -> Track[av.AudioCodecContext]:
    """An audio stream of an open container."""
    return Track(
        "audio", stream.codec_context, float(tick(stream)), float(stated_start(stream)), _end(stream),
        load=_as_it_is, hidden=hidden_until(container, stream),
    )  # fmt: skip


def _as_it_is(packet: AnyPacket) -> AnyPacket:
    return packet


def _end(stream: av.VideoStream | av.AudioStream) -> float | None:
    return None if stream.duration is None else float(stated_start(stream) + stream.duration * tick(stream))
