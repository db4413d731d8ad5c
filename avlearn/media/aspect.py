"""The shape of pixels: which can be true, and square where none can, before a decoder trips over it.

FFmpeg's H.264 decoder ignores an aspect that cannot be true, and then takes every picture for the first of another
stream, whose references are gone: of a whole file it gives one frame. So such an aspect is made square in the
sequence parameter sets (ITU-T H.264, 2021, 7.3.2.1.1 and E.1.1) ahead of it. All sizes stay the same.
"""

import re
from collections.abc import Iterator

import av
import av.stream

from avlearn.media.bits import Bits
from avlearn.media.ticks import AnyPacket

_WIDEST = 16  # times that a pixel may be as wide as high, or the other way round
_HEAD = 4096  # bytes of a packet in which its parameter sets lie
_SET, _PICTURES = 7, range(1, 6)  # kinds of NAL units: sequence parameters; slices of pictures
_START = b"\x00\x00\x01"
# Profiles whose sets state formats and scaling matrices.
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_MOST_OFFSETS = 255  # pictures in a cycle of their order
_EXTENDED = 255  # an aspect in two numbers
_SQUARE = 0x01010101  # 257 to 257, which needs no escape bytes wherever it lies


def pixel_aspect(stream: av.VideoStream) -> float:
    """Width over height of a pixel; 1 where the header says nothing, or nothing that could be true."""
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect and _is_credible(aspect.numerator, aspect.denominator) else 1.0


def _is_credible(across: int, down: int) -> bool:
    return 0 < across <= down * _WIDEST and down <= across * _WIDEST


def repair_header(context: av.VideoCodecContext) -> None:
    """Make an absurd aspect in the header of H.264 square; before the decoder is opened."""
    extra = context.extradata or b""
    if context.name == "h264" and (mended := _mended(extra, _in_header(extra))):
        context.extradata = mended


def repaired(packet: AnyPacket) -> AnyPacket:
    """A packet for the decoder: an absurd aspect in its parameter sets is made square, in place."""
    context = packet.stream.codec_context
    if packet.size and context is not None and context.name == "h264":
        data, extra = memoryview(packet), context.extradata or b""
        width = (extra[4] & 3) + 1 if extra[:1] == b"\x01" and len(extra) > 4 else 0
        if width and packet.size > width and data[width] & 31 in _PICTURES:  # most begin with a picture
            return packet
        head = bytes(data[:_HEAD])
        if mended := _mended(head, _in_packet(head, extra)):
            data[: len(mended)] = mended
    return packet


def _mended(data: bytes, sets: Iterator[tuple[int, int]]) -> bytes | None:
    """Data in which parameter sets, told by where they begin and end, state square pixels; None: as it is."""
    changed = None
    for begin, end in sets:
        square = _squared(data[begin:end])
        if square is not None:
            changed = bytearray(data) if changed is None else changed
            changed[begin:end] = square
    return None if changed is None else bytes(changed)


def _in_header(extra: bytes) -> Iterator[tuple[int, int]]:
    if extra[:1] != b"\x01":
        yield from _in_packet(extra, b"")
        return
    at = 6
    for _ in range(extra[5] & 31 if len(extra) > 5 else 0):
        size = int.from_bytes(extra[at : at + 2])
        yield at + 2, min(at + 2 + size, len(extra))
        at += 2 + size


def _in_packet(head: bytes, extra: bytes) -> Iterator[tuple[int, int]]:
    """Parameter sets ahead of the first picture; the header tells whether lengths or start codes part them."""
    if extra[:1] != b"\x01":
        begin = head.find(_START) + len(_START)
        while len(_START) <= begin < len(head) and head[begin] & 31 not in _PICTURES:
            following = head.find(_START, begin)
            end = following if following >= 0 else len(head)
            if head[begin] & 31 == _SET:
                yield begin, begin + len(head[begin:end].rstrip(b"\x00"))
            begin = end + len(_START)
        return
    at, width = 0, (extra[4] & 3) + 1 if len(extra) > 4 else 4
    while at + width < len(head) and head[at + width] & 31 not in _PICTURES:
        begin, size = at + width, int.from_bytes(head[at : at + width])
        at = begin + size
        if head[begin] & 31 == _SET and at <= len(head):
            yield begin, at


def _squared(unit: bytes) -> bytes | None:
    """A parameter set of the same size with square pixels; None where its aspect can be true, or is not stated."""
    content = unit.replace(b"\x00\x00\x03", b"\x00\x00")
    bits = Bits(content)
    if not _to_aspect(bits) or bits.read(8) != _EXTENDED:
        return None
    across, down = bits.read(16), bits.read(16)
    if bits.left < 0 or not across or _is_credible(across, down):
        return None
    mask = ((1 << 32) - 1) << bits.left
    content = (bits.value & ~mask | _SQUARE << bits.left).to_bytes(len(content))
    escaped = re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", content).ljust(len(unit), b"\x00")
    return escaped if len(escaped) == len(unit) else None


def _to_aspect(bits: Bits) -> bool:
    """Read a parameter set up to its aspect; whether it states one."""
    read, golomb = bits.read, bits.golomb
    read(8)
    profile = read(8)
    read(16)  # constraints, level
    golomb()
    if profile in _HIGH:
        _skip_formats(bits)
    golomb()
    order = golomb()
    if order == 0:
        golomb()
    elif order == 1:
        read(1)
        golomb()
        golomb()
        offsets = golomb()
        if offsets > _MOST_OFFSETS:
            return False
        for _ in range(offsets):
            golomb()
    golomb()
    read(1)
    golomb()
    golomb()
    if not read(1):  # fields
        read(1)
    read(1)
    if read(1):  # a crop
        for _ in range(4):
            golomb()
    return bool(read(1) and read(1))


def _skip_formats(bits: Bits) -> None:
    read, golomb = bits.read, bits.golomb
    chroma = golomb()
    if chroma == 3:
        read(1)
    golomb()
    golomb()
    read(1)
    if not read(1):
        return
    for k in range(12 if chroma == 3 else 8):
        last = following = 8
        for _ in range((16 if k < 6 else 64) if read(1) else 0):
            if following:
                number = golomb()
                following = (last + (-(-number // 2) if number % 2 else -number // 2)) % 256
            last = following or last
