"""The packets of a file copied to another container, interleaved with audio that is encoded."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.container

from avlearn.errors import MediaError, OutputError
from avlearn.media.annex_b import is_length_prefixed, start_code_filter
from avlearn.media.clock import demuxed
from avlearn.media.containers import Container
from avlearn.media.encoded_audio import EncodedAudio
from avlearn.media.layout import Layout
from avlearn.media.original import Move, Original
from avlearn.media.stamps import InOrder, rescale, with_both_stamps
from avlearn.media.ticks import AnyPacket, stamps, tick
from avlearn.media.written import CodedAudio


class PacketCopy:
    """Packets of a file on their way to the streams of a target.

    Attributes:
        shown: when the copied frames are shown, seconds on the file's clock; grows as they are copied.
        coded: audio that was copied, by index of the file's stream.
    """

    def __init__(
        self, original: Original, kind: Container, move: Move, target: av.container.OutputContainer, layout: Layout
    ):
        self.original, self.kind, self.move, self.target, self.layout = original, kind, move, target, layout
        self.shown: list[float] = []
        self.coded = {s.index: CodedAudio() for s in original.container.streams.audio if s.index in layout.copies}
        streams = original.container.streams
        self.filters = {s.index: start_code_filter(s) for s in streams if kind.annex_b and is_length_prefixed(s)}
        presented = original.presented or {}
        self.late = max((dts - pts for dts, pts in presented.items()), default=0)  # that nothing is shown undecoded
        self.order = InOrder()
        self.begun: dict[int, int] = {}  # stamp of a stream's first packet, where streams begin together

    def run(self, encoded: EncodedAudio) -> None:
        """Copy all packets; encoded audio is written along with the video.

        Raises:
            MediaError: the file cannot be read to its end.
            OutputError: the target cannot hold a packet.
        """
        for packet in self._packets():
            if packet.stream.index == self.original.video.index:
                encoded.write_until(self._show(packet))
            rescale(packet, tick(self.layout.copies[packet.stream.index]))
            if packet.stream.index == self.move.index and self.move.delay and not self._moved(packet):
                continue
            if not self.kind.starts:
                presented, decoded = stamps(packet)
                begun = self.begun.setdefault(packet.stream.index, decoded)
                packet.pts, packet.dts = presented - begun, decoded - begun
            self._mux(packet)
        encoded.finish(max(self.shown, default=0.0) + 1 / float(self.original.video.average_rate or 25))

    def _packets(self) -> Iterator[AnyPacket]:
        """Packets of the streams that are copied, all stamped."""
        container = self.original.container
        try:
            yield from with_both_stamps(
                demuxed(container, [s for s in container.streams if s.index in self.layout.copies])
            )
        except av.error.FFmpegError as error:
            raise MediaError(f"{self.original.path} cannot be read to its end: {error.strerror}") from error

    def _show(self, packet: AnyPacket) -> float:
        """Note when a packet of the video is shown; seconds on the file's clock."""
        presented, decoded = stamps(packet)
        if self.original.presented:
            presented = self.original.presented[decoded]
            packet.pts, packet.dts = presented, decoded - self.late
        stamp = decoded if self.original.untimed and not self.original.presented else presented
        now = float(stamp * packet.stream.time_base)
        if not packet.is_discard:
            self.shown.append(now)
        return now

    def _moved(self, packet: AnyPacket) -> bool:
        """Delay a packet of the track that is moved; False where it is not to be heard any more."""
        base, (presented, decoded), lasts = packet.time_base, stamps(packet), packet.duration or 0
        # What an edit list hides stays hidden, but for a packet that primes the decoder.
        if (presented + 2 * lasts) * base <= self.move.hidden:
            return False
        shift = round(Fraction(self.move.delay) / base)
        packet.pts, packet.dts = presented + shift, decoded + shift
        return self.move.delay > 0 or (presented + shift + lasts) * base > self.original.begin

    def _mux(self, packet: AnyPacket) -> None:
        index = packet.stream.index
        if index in self.coded:
            self.coded[index].add(packet)
        for piece in self.filters[index].filter(packet) if index in self.filters else [packet]:
            piece.stream = self.layout.copies[index]
            self.order.mend(piece)
            try:
                self.target.mux(piece)
            except (av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError) as error:
                said = "its container cannot hold the packets of the file; write a .mkv or .mp4"
                raise OutputError(said) from error
