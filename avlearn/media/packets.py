"""Packets of a video stream that no other depends on (non-reference frames), which need not be decoded.

Told from the bytes of a packet, exactly: a frame that is no reference of any other can be left out and
every other stays the same. VP8 and VP9 carry state (probabilities, motion vectors) from frame to
frame, so that there is no such packet that a few bytes could tell; intra codecs need no rule.
"""

from collections.abc import Callable, Iterator

import av

from avlearn.media.av1 import av1_rule
from avlearn.media.ticks import AnyPacket

Rule = Callable[[AnyPacket], bool]


def droppable_rule(context: av.VideoCodecContext) -> Rule | None:
    """The test for packets of a stream that no other depends on; None where the codec has none."""
    name, extra = context.name, context.extradata or b""
    if name == "h264":
        heads = _heads(_length_size(extra, 4))
        return lambda packet: _h264_unused(heads(bytes(packet)))
    if name == "hevc" and _one_layer(extra):
        heads = _heads(_length_size(extra, 21))
        return lambda packet: _hevc_unused(heads(bytes(packet)))
    if name in ("av1", "libdav1d", "libaom-av1"):
        unused = av1_rule(extra)
        return None if unused is None else lambda packet: unused(bytes(packet))
    if name in ("mpeg1video", "mpeg2video"):
        return lambda packet: _mpeg2_unused(bytes(packet))
    if name == "mpeg4":
        return lambda packet: _mpeg4_unused(bytes(packet))
    return None


def _length_size(extra: bytes, at: int) -> int:
    """Bytes of a NAL unit's length field by avcC or hvcC (ISO/IEC 14496-15); 0 for start codes (Annex B)."""
    return (extra[at] & 3) + 1 if len(extra) > at and extra[0] == 1 else 0


def _heads(length_size: int) -> Callable[[bytes], Iterator[int]]:
    """What goes through the first byte of every NAL unit of a packet."""

    def by_length(data: bytes) -> Iterator[int]:
        at, end = length_size, len(data)
        while at < end:
            yield data[at]
            at += int.from_bytes(data[at - length_size : at]) + length_size

    def by_start_code(data: bytes) -> Iterator[int]:
        return (piece[0] for piece in data.split(b"\0\0\1")[1:] if piece)

    return by_length if length_size else by_start_code


def _h264_unused(heads: Iterator[int]) -> bool:
    """Slices all with nal_ref_idc 0 (ITU-T H.264, 7.4.1)."""
    found = False
    for head in heads:
        if 1 <= head & 31 <= 5:
            if head >> 5 & 3:
                return False
            found = True
    return found


def _hevc_unused(heads: Iterator[int]) -> bool:
    """Slices all of sub-layer non-reference pictures above which there is no layer (ITU-T H.265, 7.4.2.2).

    Types 0, 2, ... 14 are non-reference for their own temporal sub-layer; pictures of a higher one may depend
    on them, so only streams of one sub-layer qualify.
    """
    slices = [head >> 1 & 63 for head in heads if head >> 1 & 63 < 32]
    return bool(slices) and all(kind < 15 and kind % 2 == 0 for kind in slices)


def _one_layer(extra: bytes) -> bool:
    """Whether hvcC (numTemporalLayers) or the SPS (sps_max_sub_layers_minus1) says: one temporal sub-layer."""
    if len(extra) > 21 and extra[0] == 1:
        return extra[21] >> 3 & 7 == 1
    at = extra.find(b"\0\0\1\x42")
    return 0 <= at < len(extra) - 5 and extra[at + 5] >> 1 & 7 == 0


def _mpeg2_unused(data: bytes) -> bool:
    """Pictures all B (picture_coding_type 3; ISO/IEC 13818-2, 6.3.9)."""
    kinds, at = [], data.find(b"\0\0\1\0")
    while 0 <= at < len(data) - 5:
        kinds.append(data[at + 5] >> 3 & 7)
        at = data.find(b"\0\0\1\0", at + 4)
    return bool(kinds) and all(kind == 3 for kind in kinds)


def _mpeg4_unused(data: bytes) -> bool:
    """One VOP, and that B (vop_coding_type 2; ISO/IEC 14496-2, 6.3.5). DivX packs two into a packet."""
    at = data.find(b"\0\0\1\xb6")
    return 0 <= at < len(data) - 4 and data[at + 4] >> 6 == 2 and data.find(b"\0\0\1\xb6", at + 4) < 0
