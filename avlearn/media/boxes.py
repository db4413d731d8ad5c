"""Checks of a header before FFmpeg sees it: an index out of proportion to an MP4 or MOV, or other files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from avlearn.errors import MediaError
from avlearn.files import printable
from avlearn.media.playlists import LOOKED_AT, refuse_list

_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"uuid")
# FFmpeg takes a table for one wherever it lies within these, in its place or not.
_NESTED = (
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"udta", b"dinf", b"mvex", b"tref", b"wave",
    b"sinf", b"schi", b"ilst",
)  # fmt: skip
_MOST_BOXES = 20_000
_SAMPLES_A_BYTE = 64  # QuickTime counts the samples that packets of audio hold, of which the smallest take bytes
_REPEATS = 4  # times that edits may show each sample of a track
_FEW = 10_000  # samples that edits may show in any case

Box = tuple[bytes, int, int]


class Reader(Protocol):
    """The source that a header is read from: a binary file object, or something like one."""

    def read(self, count: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> object: ...


def check_boxes(path: Path, begin: int = 0, size: int | None = None) -> int:
    """Refuse a header from which a demuxer would build an index out of proportion to the file, or open others.

    Args:
        path: the file.
        begin, size: where the media lies within it, bytes; ``size`` is the rest by default.

    Returns:
        The size in bytes.

    Raises:
        MediaError: the file is missing, is a list of others, or its tables of samples, fragments or edit lists promise
            more than it can hold.
    """
    try:
        # Nothing is buffered ahead: a header is looked into here and there.
        with open(path, "rb", buffering=512) as file:
            size = os.fstat(file.fileno()).st_size - begin if size is None else size
            check_header(file, path, begin, size)
            return size
    except FileNotFoundError:
        raise MediaError(f"{printable(path)} does not exist") from None
    except OSError as error:
        raise MediaError(f"{printable(path)} cannot be opened: {error.strerror}") from error


def check_header(file: Reader, name: object, begin: int, size: int) -> bool:
    """As `check_boxes`, of ``size`` bytes from ``begin`` on of an open file of that name; whether it begins as MP4."""
    file.seek(begin)
    head = file.read(min(LOOKED_AT, size))
    refuse_list(head, name)
    if head[4:8] not in _FIRST:
        return False
    boxes = list(_boxes(file, begin, begin + size, [_MOST_BOXES]))
    for track in _tracks(file, boxes):
        _check(name, track, size)
    _check_fragments(file, name, boxes, size)
    return True


def _boxes(file: Reader, begin: int, end: int, left: list[int]) -> Iterator[Box]:
    """Kind, begin and end of the content of each box; of those that nest, of their boxes as well."""
    while begin + 8 <= end and left[0] > 0:
        left[0] -= 1
        file.seek(begin)
        head = file.read(16)
        size, kind, start = int.from_bytes(head[:4]), head[4:8], 8
        if size == 1:
            size, start = int.from_bytes(head[8:16]), 16
        elif size == 0:
            size = end - begin
        if size < start:
            return
        stop = min(begin + size, end)
        yield kind, begin + start, stop
        if kind in _NESTED:
            yield from _boxes(file, begin + start, stop, left)
        begin += size


def _tracks(file: Reader, boxes: list[Box]) -> Iterator[dict[str, float]]:
    """Of each track: numbers of edits and samples, seconds of its media, and seconds that edits show of it."""
    movie_scale, scale, found = 1, 1, None
    for kind, start, stop in boxes:
        if kind == b"trak":
            if found:
                yield found
            found, scale = {"edits": 0, "samples": 0, "media": 0.0, "shown": 0.0}, 1
        file.seek(start)
        if kind == b"mvhd":
            movie_scale = _ticks_a_second(file.read(24))
        elif found and kind == b"mdhd":
            scale = _ticks_a_second(file.read(24))
        elif found and kind == b"elst":
            found["edits"], shown = _edits(file, stop - start)
            found["shown"] = shown / movie_scale
        elif found and kind == b"stts":
            found["media"] = _lasts(file, stop - start) / scale
        elif found and kind in (b"stsz", b"stz2"):
            found["samples"] = int.from_bytes(file.read(12)[8:])
    if found:
        yield found


def _ticks_a_second(head: bytes) -> int:
    """The clock of mvhd and mdhd, 1 at least (ISO/IEC 14496-12, 8.2.2 and 8.4.2)."""
    at = 20 if head[:1] == b"\1" else 12
    return int.from_bytes(head[at : at + 4]) or 1


def _lasts(file: Reader, size: int) -> int:
    """Ticks that the samples of a track last together (ISO/IEC 14496-12, 8.6.1.2)."""
    count = min(int.from_bytes(file.read(8)[4:]), max(size - 8, 0) // 8, _FEW)
    table = file.read(8 * count)
    return sum(
        int.from_bytes(table[at : at + 4]) * int.from_bytes(table[at + 4 : at + 8]) for at in range(0, len(table), 8)
    )


def _edits(file: Reader, size: int) -> tuple[int, int]:
    """Number of edits, and ticks that those which show something last (ISO/IEC 14496-12, 8.6.6)."""
    head = file.read(8)
    wide = head[:1] == b"\1"
    entry, half = (20, 8) if wide else (12, 4)
    count = min(int.from_bytes(head[4:]), max(size - 8, 0) // entry)
    table = file.read(min(count, _FEW) * entry)
    nothing = b"\xff" * half  # the media time of a pause
    shown = sum(
        int.from_bytes(table[at : at + half])
        for at in range(0, len(table), entry)
        if table[at + half : at + 2 * half] != nothing
    )
    return count, shown


def _check_fragments(file: Reader, name: object, boxes: list[Box], size: int) -> None:
    """Refuse fragments that hold more samples than bytes: a run can count them without a byte for each in its table
    (ISO/IEC 14496-12, 8.8.8), and the demuxer lists every one."""
    samples = 0
    for kind, start, _ in boxes:
        if kind == b"trun":
            file.seek(start)
            samples += int.from_bytes(file.read(8)[4:])
    if samples > size + _FEW:
        raise MediaError(f"{printable(name)} promises {samples} samples in fragments of {size} bytes")


def _check(path: object, track: dict[str, float], size: int) -> None:
    if track["samples"] > _SAMPLES_A_BYTE * size:
        raise MediaError(f"{printable(path)} promises {track['samples']} samples of a track in {size} bytes")
    # The demuxer lists every sample once for every edit that shows it.
    often = min(track["edits"], track["shown"] / track["media"] if track["media"] else track["edits"])
    listed = track["samples"] * often + track["edits"]
    if listed > _REPEATS * track["samples"] + _FEW:
        raise MediaError(
            f"{printable(path)}: its {track['edits']} edits would show the {track['samples']} samples of a track "
            f"{listed / max(track['samples'], 1):.0f} times: such an edit list is not read"
        )
