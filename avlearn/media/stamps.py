"""Stamps of packets that are copied: in order, and of presentation where only the order of decoding is known."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

from av.stream import Disposition

from avlearn.errors import OutputError
from avlearn.media.aspect import repaired
from avlearn.media.clock import demuxed
from avlearn.media.decode_video import is_untimed
from avlearn.media.source import Source, open_media, video_stream
from avlearn.media.ticks import AnyPacket, stamps, tick


def frame_times(path: Source, hidden: bool = False) -> list[float]:
    """Seconds at which frames of a file are first shown, in order; ``hidden``: also those that an edit list hides."""
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None:
            return []
        untimed = is_untimed(container, stream)
        stamps = [
            packet.dts if untimed or packet.pts is None else packet.pts
            for packet in demuxed(container, [stream])
            if packet.size and (hidden or not packet.is_discard)
        ]
        return [float(stamp * tick(stream)) for stamp in sorted(s for s in stamps if s is not None)]


def presentation_stamps(path: Source) -> dict[int, int] | None:
    """When the packets of an AVI with B-frames are shown, which only decoding tells: stamp of presentation by dts.

    None where a file's packets are stamped.

    Raises:
        OutputError: not every packet gives a frame, so that it cannot be told.
    """
    with open_media(path) as container:
        stream = video_stream(container)
        if stream is None or not is_untimed(container, stream):
            return None
        # FFmpeg makes stamps up: not when frames are shown, but which packet is whose.
        decoded_at: dict[int, int] = {}
        order: list[int | None] = []
        for packet in container.demux(stream):
            if packet.size:
                presented, decoded = stamps(packet)
                decoded_at[presented] = decoded
            order += [frame.pts for frame in stream.decode(repaired(packet))]
        shown = [pts for pts in order if pts is not None]
        if len(shown) < len(order) or sorted(shown) != sorted(decoded_at):
            raise OutputError(f"{path} does not say when its frames are shown, and not all can be decoded")
        return dict(zip((decoded_at[pts] for pts in shown), sorted(decoded_at.values()), strict=True))


def with_both_stamps(packets: Iterable[AnyPacket]) -> Iterator[AnyPacket]:
    """Packets with a stamp of decoding each: Matroska does not state it of the first frames of a video.

    Stamps that are missing are counted back from the next one. Packets without any stamp are left out.
    """
    held: dict[int, list[AnyPacket]] = {}
    for packet in packets:
        if packet.pts is None and packet.dts is None and packet.stream.disposition & Disposition.attached_pic:
            packet.pts = packet.dts = 0
        if not packet.size or (packet.pts is None and packet.dts is None):
            continue
        waiting = held.setdefault(packet.stream_index, [])
        if packet.pts is None:
            packet.pts = packet.dts
        if packet.dts is None and packet.stream.type == "video":
            waiting.append(packet)
            continue
        if packet.dts is None:
            packet.dts = packet.pts
        _, decoded = stamps(packet)
        for number, earlier in enumerate(waiting):
            earlier.dts = decoded - (len(waiting) - number) * max(packet.duration or 1, 1)
            yield earlier
        waiting.clear()
        yield packet
    for waiting in held.values():
        for packet in waiting:  # a video that states none at all is in order
            packet.dts = packet.pts
            yield packet


def rescale(packet: AnyPacket, base: Fraction) -> None:
    """Give a packet's times in other ticks, rounded."""
    factor = packet.time_base / base
    presented, decoded = stamps(packet)
    packet.pts, packet.dts = round(presented * factor), round(decoded * factor)
    packet.duration = round((packet.duration or 0) * factor)
    packet.time_base = base


class InOrder:
    """Mends stamps of packets that muxers refuse: decoding that goes back, presentation before decoding."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {}

    def mend(self, packet: AnyPacket) -> None:
        """Change a packet, in the ticks of the stream that it goes to."""
        presented, decoded = stamps(packet)
        decoded = max(decoded, self.last.get(packet.stream_index, decoded - 1) + 1)
        packet.pts, packet.dts = max(presented, decoded), decoded
        self.last[packet.stream_index] = decoded
