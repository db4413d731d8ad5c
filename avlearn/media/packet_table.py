"""The table of its packets that a prepared file carries in itself, so that a reader need not demux it.

It is the last box of the MP4 (a ``uuid``, ISO/IEC 14496-12, 11.1, which players pass over), so that it goes wherever
the file goes: copied, renamed, packed into a tar. It says of each packet where it lies, when it is presented, whether
it is a keyframe, whether another depends on it, and its checksum. A digest of the table and of all that lies ahead of
the media data, and the checksums of the packets that are decoded, bind it to the file: where one does not hold, the
file is read as any other.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from avlearn.media.open_file import OpenFile
from avlearn.media.source import FASTEST, audio_stream, open_media, video_stream
from avlearn.media.ticks import AnyPacket
from avlearn.media.track import Track, audio_track, video_track

_BOX = b"uuid" + bytes.fromhex("b9d6a1d5f2c34c0e9a5e61766c65726e")
_DIGEST = 32  # bytes of SHA-256
_LOOKED_AT = 1 << 14  # bytes at a file's begin that are read at once; headers of a minute or less
_MOST = 1 << 26  # bytes of a header, or of a table: more than a day of video
# Columns of a track, one after the other.
_COLUMNS = [
    (name, np.dtype(form))
    for name, form in (
        ("at", "<u4"), ("size", "<u4"), ("pts", "<i4"), ("duration", "<u4"), ("crc", "<u4"), ("key", "u1"),
        ("unused", "u1"),
    )
]  # fmt: skip
_CODECS = {"video": "h264", "audio": "aac"}
_HIGHEST = 768_000  # samples a second

AnyTrack = Track[av.VideoCodecContext] | Track[av.AudioCodecContext]


class Bytes(Protocol):
    """The bytes of a file, like an `OpenFile`: fewer than asked for are read only at the end."""

    size: int

    def read(self, at: int, count: int) -> bytes: ...


@dataclass(frozen=True)
class TableTrack:
    """The packets of a track in the order of decoding, and what is to be known to decode them.

    Attributes:
        codec, extradata, sample_rate: of the decoder; ``sample_rate`` is 0 of video.
        tick, start, end, rate: as those of a `Track`.
        at, size: ``[n]``, where a packet lies in the file, bytes.
        pts, duration: ``[n]``, ticks.
        crc: ``[n]``, CRC-32 of a packet's bytes.
        key, unused: ``[n]``, not 0 of keyframes, and of those on which no other depends.
    """

    codec: str
    extradata: bytes
    sample_rate: int
    tick: float
    start: float
    end: float
    rate: float
    at: np.ndarray
    size: np.ndarray
    pts: np.ndarray
    duration: np.ndarray
    crc: np.ndarray
    key: np.ndarray
    unused: np.ndarray


@dataclass(frozen=True)
class PacketTable:
    """The tracks of a file; ``audio`` is None where it has none."""

    video: TableTrack
    audio: TableTrack | None


# ---- reading


def find_table(file: Bytes) -> PacketTable | None:
    """The table of a file's packets; None where it has none, or one that is not of this file as it is.

    Raises:
        MediaError: the file cannot be read.
    """
    head = file.read(0, min(_LOOKED_AT, file.size))
    media = _media(file, head)
    if media is None:
        return None
    begin, end = media
    if not _DIGEST + len(_BOX) + 8 < file.size - end <= _MOST or begin > _MOST:
        return None
    box = file.read(end, file.size - end)
    if box[:4] != len(box).to_bytes(4) or box[4 : 4 + len(_BOX)] != _BOX:
        return None
    head = head[:begin] if begin <= len(head) else file.read(0, begin)
    content = 4 + len(_BOX) + _DIGEST
    if _digest(head, box[content:]) != box[content - _DIGEST : content]:
        return None
    try:
        return _parsed(memoryview(box)[content:])
    # A table of a stranger may have its digest right and hold anything.
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None


def _media(file: Bytes, head: bytes) -> tuple[int, int] | None:
    """Where the media data of an MP4 begins and ends, if its header lies ahead of it."""
    at, seen = 0, set[bytes]()
    for _ in range(4):  # ftyp, moov, free, mdat
        start = head[at : at + 8] if at + 8 <= len(head) else file.read(at, 8)
        size, kind = int.from_bytes(start[:4]), start[4:]
        if kind == b"mdat":
            told = {b"ftyp", b"moov"} <= seen and size > 8 and at + size <= file.size
            return (at + 8, at + size) if told else None
        if size < 8 or kind not in (b"ftyp", b"moov", b"free"):
            return None
        seen.add(kind)
        at += size
    return None


def _digest(head: bytes, content: bytes) -> bytes:
    digest = hashlib.sha256(head)
    digest.update(content)
    return digest.digest()


def _parsed(content: memoryview) -> PacketTable:
    """Raises ValueError and the like where the content cannot be true."""
    length = int.from_bytes(content[:4])
    facts = json.loads(bytes(content[4 : 4 + length]))
    columns = content[4 + length :]
    video, rest = _track("video", facts["video"], columns)
    if not video.key[0]:
        raise ValueError("the video does not begin with a keyframe")
    audio, rest = _track("audio", facts["audio"], rest) if "audio" in facts else (None, rest)
    if len(rest):
        raise ValueError("there is more than the columns")
    return PacketTable(video, audio)


def _track(kind: str, facts: dict[str, Any], columns: memoryview) -> tuple[TableTrack, memoryview]:
    """A track, and what lies behind its columns."""
    tick, start, stop, rate = (float(facts[name]) for name in ("tick", "start", "end", "rate"))
    sample_rate, count = int(facts["sample_rate"]), int(facts["packets"])
    timed = 1e-9 < tick < 1 and math.isfinite(start + stop) and 0 <= rate <= FASTEST
    if facts["codec"] != _CODECS[kind] or not timed or not 0 <= sample_rate <= _HIGHEST or count < 1:
        raise ValueError("the facts of a track cannot be true")
    found, at = {}, 0
    for name, form in _COLUMNS:
        found[name] = np.frombuffer(columns, form, count, at)
        at += count * form.itemsize
    extradata = bytes.fromhex(facts["extradata"])
    return TableTrack(facts["codec"], extradata, sample_rate, tick, start, stop, rate, **found), columns[at:]


# ---- writing


def append_table(path: Path) -> bool:
    """Append the table of its packets to an MP4 that was written, and checked, by `avlearn.data.transcode`.

    Returns:
        Whether it was: a file that is laid out otherwise stays as it is, and is read as any other.

    Raises:
        MediaError: it cannot be read.
    """
    file = OpenFile(path)
    try:
        media = _media(file, file.read(0, _LOOKED_AT))
        content = _content(path, file, *media) if media is not None and media[1] == file.size else None
        if media is None or content is None:
            return False
        box = _BOX + _digest(file.read(0, media[0]), content) + content
    finally:
        file.close()
    with path.open("ab") as out:
        out.write((len(box) + 4).to_bytes(4) + box)
    return True


def _content(path: Path, file: OpenFile, begin: int, end: int) -> bytes | None:
    """The table of a file whose media data lies there; None where it could not say all that a reader must know."""
    with open_media(path) as container:
        streams = video_stream(container), audio_stream(container)
        tracks: dict[str, AnyTrack] = {}
        if streams[0] is not None:
            tracks["video"] = video_track(streams[0])
        if streams[1] is not None:
            tracks["audio"] = audio_track(container, streams[1])
        packets = sorted((p for p in container.demux() if p.size), key=lambda p: p.pos or 0)
        whole = len(container.streams) == len(tracks) and _is_in_groups(packets)
        if not whole or not all(_is_plain_track(track) for track in tracks.values()):
            return None
        rows: dict[str, list[tuple[int, ...]]] = {kind: [] for kind in tracks}
        at = begin
        for packet in packets:
            track = tracks[packet.stream.type]
            data = file.read(at, packet.size)
            if packet.pos != at or bytes(packet) != data or not _is_plain(packet, track):
                return None
            unused = track.unused is not None and track.unused(packet)
            stamps = packet.pts or 0, packet.duration or 0
            rows[track.kind].append((at, len(data), *stamps, zlib.crc32(data), packet.is_keyframe, unused))
            at += packet.size
        facts = {kind: _facts(track, len(rows[kind])) for kind, track in tracks.items()}
    if at != end or not all(rows.values()):
        return None
    columns = [column for kind in tracks for column in zip(_COLUMNS, zip(*rows[kind], strict=True), strict=True)]
    try:
        stored = [np.array(values, form).tobytes() for (_, form), values in columns]
    except OverflowError:  # ticks of many hours, or more than 4 GB
        return None
    said = json.dumps(facts).encode()
    return b"".join([len(said).to_bytes(4), said, *stored])


def _facts(track: AnyTrack, packets: int) -> dict[str, Any]:
    decoder = track.decoder
    return {
        "codec": decoder.name, "extradata": (decoder.extradata or b"").hex(), "tick": track.tick, "start": track.start,
        "end": track.end, "rate": track.rate or 0.0, "packets": packets,
        "sample_rate": decoder.sample_rate if isinstance(decoder, av.AudioCodecContext) else 0,
    }  # fmt: skip


def _is_plain_track(track: AnyTrack) -> bool:
    """Whether its facts are all that a reader must know of a track."""
    told = _CODECS[track.kind] == track.decoder.name and track.end is not None
    return told and (track.kind == "audio" or (track.aspect == 1.0 and track.unused is not None))


def _is_plain(packet: AnyPacket, track: AnyTrack) -> bool:
    """Whether its row is all that a reader must know of a packet.

    What an encoder puts ahead of the audio is marked, but its stamp hides it, too.
    """
    if packet.pts is None or not packet.duration:
        return False
    ahead = (packet.pts + packet.duration) * track.tick <= track.hidden
    return ahead or not (packet.is_discard or packet.is_corrupt or any(packet.iter_sidedata()))


def _is_in_groups(packets: Sequence[AnyPacket]) -> bool:
    """Whether packets are in the order of decoding, and no frame is shown before the keyframe that it comes after."""
    decoded: dict[int, int] = {}
    key = None
    for packet in packets:
        if packet.pts is None or packet.dts is None or packet.dts <= decoded.get(packet.stream_index, packet.dts - 1):
            return False
        decoded[packet.stream_index] = packet.dts
        if packet.stream.type == "video":
            key = packet.pts if packet.is_keyframe else key
            if key is None or packet.pts < key:
                return False
    return key is not None
