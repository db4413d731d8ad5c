"""Times of streams and packets, in the ticks of their clocks: what PyAV leaves open, settled once."""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import av.stream

if TYPE_CHECKING:
    AnyPacket = av.Packet[Any]  # of any stream; the class itself takes no argument
else:
    AnyPacket = av.Packet


def tick(stream: av.stream.Stream) -> Fraction:
    """Seconds that a tick of a stream's clock lasts.

    Raises:
        ValueError: it has no clock, which FFmpeg gives to every stream that it reads or writes.
    """
    if stream.time_base is None:
        raise ValueError(f"{stream.type} stream {stream.index} has no clock")
    return stream.time_base


def stated_start(stream: av.stream.Stream) -> Fraction:
    """Seconds at which a stream begins by its header, on the file's clock; 0 where that does not say."""
    return (stream.start_time or 0) * tick(stream)


def stamps(packet: AnyPacket) -> tuple[int, int]:
    """Ticks at which a packet is presented and decoded.

    Raises:
        ValueError: it lacks one of them.
    """
    if packet.pts is None or packet.dts is None:
        raise ValueError(f"a packet of {packet.stream.type} stream {packet.stream_index} is not stamped")
    return packet.pts, packet.dts
