"""Windows of a prepared file by the table of its packets: one read of the bytes that they need, decoders that are kept.

It gives what the container would give, to the bit. What cannot be read so is left to the ordinary reader.
"""

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat, starmap
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from avlearn.errors import MediaError
from avlearn.media.clip import Clip, Window
from avlearn.media.kept_decoders import KeptDecoders
from avlearn.media.open_file import OpenFile, Slice
from avlearn.media.packet_table import Bytes, PacketTable, TableTrack, find_table
from avlearn.media.reading import Reading, Wanted
from avlearn.media.source import Selected, Source, boundary, file_of, most_pixels
from avlearn.media.ticks import AnyPacket
from avlearn.media.track import Kept, Track
from avlearn.media.window_frames import NoPlanError

_BETWEEN = 1 << 20  # bytes between needed ones that are read along at most


def read_by_table(
    source: Source, windows: Sequence[Window], wanted: Wanted, video: bool, audio: bool
) -> list[Clip] | None:
    """Clips of windows, as `ClipReader.read` gives them.

    Returns:
        None where the file has no table of its packets, it is not of the file as it is, or a window cannot be read:
        the ordinary reader tells why, if it cannot either.
    """
    if isinstance(source, Selected) and (source.track, source.channel) != (None, None):
        return None
    try:
        with boundary(source, " cannot be decoded"), _opened(file_of(source)) as (file, known):
            if "packets" not in known:
                known["packets"] = find_table(file)
            table: PacketTable | None = known["packets"]
            if table is None or (audio and table.audio is None):
                return None
            if video and not (wanted.fps or wanted.frames or table.video.rate):
                return None
            return _ByTable(file, source, table, windows, wanted, video, audio).read()
    except (MediaError, NoPlanError):
        return None


class _Local:
    """The bytes of a file on this machine, or of a part of one, for as long as one reading takes.

    Raises:
        OSError: it is not there, or no file to read.
    """

    def __init__(self, path: str | Path, begin: int = 0, size: int | None = None):
        self.begin = begin
        self.file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        status = os.fstat(self.file)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError(f"{path} is no file")
        self.size = max(min(status.st_size - begin, size if size is not None else status.st_size), 0)

    def read(self, at: int, count: int) -> bytes:
        """As `OpenFile.read`."""
        os.lseek(self.file, self.begin + at, os.SEEK_SET)
        return os.read(self.file, max(min(count, self.size - at), 0))

    def close(self) -> None:
        os.close(self.file)


@contextmanager
def _opened(source: str | Path | Slice | OpenFile) -> Iterator[tuple[Bytes, dict[Any, Any]]]:
    """The bytes of a file, and what is known about it."""
    if isinstance(source, OpenFile):
        yield source, source.known
        return
    file = _Local(source.path, source.offset, source.bytes) if isinstance(source, Slice) else _Local(source)
    try:
        yield file, {}
    finally:
        file.close()


class _Placed(NamedTuple):
    """A packet by the table: where it lies in ``data``, and its row."""

    data: bytes
    at: int
    size: int
    pts: int
    duration: int
    crc: int
    is_keyframe: bool
    unused: bool
    is_discard: bool = False
    dts: int | None = None

    def load(self) -> AnyPacket:
        """The packet.

        Raises:
            NoPlanError: its bytes are not those that the table is of.
        """
        data = self.data[self.at : self.at + self.size]
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise NoPlanError
        packet = av.Packet(self.size)  # with the zeros behind it up to which decoders may read
        packet.update(data)
        packet.pts = self.pts
        return packet


class _ByTable(Reading):
    """One pass over a file by the table of its packets."""

    def __init__(
        self,
        file: Bytes,
        source: Source,
        table: PacketTable,
        windows: Sequence[Window],
        wanted: Wanted,
        video: bool,
        audio: bool,
    ):
        self.file, self.decoders = file, KeptDecoders(most_pixels(file.size))
        self.shown, self.heard = table.video if video else None, table.audio if audio else None
        self.next = {track.codec: 0 for track in (table.video, table.audio) if track}  # after the last that is kept
        super().__init__(
            source, windows, wanted,
            self._video(self.shown) if self.shown else None,
            self._audio(self.heard) if self.heard else None,
            table.video.rate if video else 0.0,
        )  # fmt: skip

    def read(self) -> list[Clip]:
        """The clips.

        Raises:
            NoPlanError, MediaError: the file has to be read as any other.
        """
        for group in self.groups():
            self._keep(group)
        clips = self.decode()
        self.decoders.keep()
        return clips

    def _video(self, packets: TableTrack) -> Track[av.VideoCodecContext]:
        decoder = self.decoders.video(packets.codec, packets.extradata)
        return Track(
            "video", decoder, packets.tick, packets.start, packets.end,
            load=_Placed.load, unused=attrgetter("unused"), rate=packets.rate or None,
        )  # fmt: skip

    def _audio(self, packets: TableTrack) -> Track[av.AudioCodecContext]:
        decoder = self.decoders.audio(packets.codec, packets.extradata, packets.sample_rate)
        return Track(
            "audio", decoder, packets.tick, packets.start, packets.end, load=_Placed.load, hidden=packets.start
        )

    def _keep(self, group: list[int]) -> None:
        """Keep the packets that windows near one another need, and read their bytes at once."""
        runs: list[tuple[TableTrack, slice, list[tuple[int, Kept]]]] = []
        if self.frames and self.shown:
            runs.append((self.shown, self._run_of_frames(self.shown, group), self.frames.packets))
        if self.samples and self.heard:
            runs.append((self.heard, self._run_of_samples(self.heard, group), self.samples.packets))
        # What windows before these needed too is kept already.
        runs = [(track, slice(max(run.start, self.next[track.codec]), run.stop), kept) for track, run, kept in runs]
        runs = [(track, run, kept) for track, run, kept in runs if run.stop > run.start]
        if not runs:
            return
        begin = min(int(track.at[run.start]) for track, run, _ in runs)
        end = max(int(track.at[run.stop - 1]) + int(track.size[run.stop - 1]) for track, run, _ in runs)
        if end - begin > sum(int(track.size[run].sum()) for track, run, _ in runs) + _BETWEEN:
            raise NoPlanError
        data = self.file.read(begin, end - begin)
        for track, run, kept in runs:
            numbers = (track.at[run] - begin, *(c[run] for c in (track.size, track.pts, track.duration, track.crc)))
            columns = [column.tolist() for column in (*numbers, track.key[run] != 0, track.unused[run] != 0)]
            kept += zip(columns[2], starmap(_Placed, zip(repeat(data), *columns, strict=False)), strict=True)
            self.next[track.codec] = run.stop

    def _run_of_frames(self, track: TableTrack, group: list[int]) -> slice:
        """From the keyframe of the first frame that is shown to the last one."""
        first, last = self.span_of_frames(group)
        keys = np.flatnonzero(track.key)
        begin = int(keys[max(int(np.searchsorted(track.pts[keys], first, "right")) - 1, 0)])
        end = int(np.flatnonzero(track.pts <= last)[-1]) + 1 if last >= track.pts[0] else begin + 1
        self.ended = self.ended or last >= track.pts.max()
        return slice(begin, end)

    def _run_of_samples(self, track: TableTrack, group: list[int]) -> slice:
        early, late = self.span_of_samples(group)
        begins = track.pts * track.tick
        begin = int(np.searchsorted(begins + track.duration * track.tick, early, "right"))
        return slice(begin, int(np.searchsorted(begins, late, "right")))
