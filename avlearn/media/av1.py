"""Temporal units of an AV1 stream that no other depends on, told by their headers (AV1 specification, 2019, 5.5, 5.9).

All that later frames can see of a frame lies in the slots that it refreshes: a shown frame that refreshes none can
be left out, and every other frame stays the same.
"""

from collections.abc import Callable, Iterator

from avlearn.media.bits import Bits

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # kinds of OBUs
_KEY, _SWITCH = 0, 3  # kinds of frames


def av1_rule(extra: bytes) -> Callable[[bytes], bool] | None:
    """The test for temporal units that no other depends on.

    Args:
        extra: the av1C box, whose sequence header says how frame headers are to be read.

    Returns:
        None where the stream has no such header, or says more of its timing than is needed here.
    """
    headers = [body for kind, body in _units(extra[4:]) if kind == _SEQUENCE]
    layout = _sequence(Bits(headers[0])) if headers and extra[:1] == b"\x81" else None
    return None if layout is None else lambda data: _unused(data, *layout)


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each OBU."""
    at = 0
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        size, shift = len(data) - at, 0
        if sized:
            size = 0
            while at < len(data):
                byte = data[at]
                at, size, shift = at + 1, size | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
        yield kind, data[at : at + min(size, 64)]
        at += size


def _sequence(bits: Bits) -> tuple[int, int, int, int] | None:
    """What frame headers depend on: choices of screen content tools and whole-pel vectors (2: each frame says), and
    lengths in bits of frame numbers and order hints."""
    read = bits.read
    read(3)
    _, reduced = read(1), read(1)
    if reduced or read(1):  # a still picture; timing information
        return None
    delayed = read(1)
    for _ in range(read(5) + 1):
        read(12)
        if read(5) > 7:
            read(1)
        if delayed and read(1):
            read(4)
    width, height = read(4) + 1, read(4) + 1
    read(width)
    read(height)
    number = 0
    if read(1):
        number = read(4) + 2
        number += read(3) + 1
    read(7)  # superblocks, intra tools, compounds, warps, filters
    hinted = read(1)
    read(2 * hinted)
    screen = 2 if read(1) else read(1)
    whole = 2 if not screen or read(1) else read(1)
    return screen, whole, number, read(3) + 1 if hinted else 0


def _unused(data: bytes, screen: int, whole: int, number: int, hint: int) -> bool:
    frames = [body for kind, body in _units(data) if kind in (_FRAME_HEADER, _FRAME)]
    if len(frames) != 1:
        return False
    read = Bits(frames[0]).read
    existing, kind, shown = read(1), read(2), read(1)
    if existing or kind in (_KEY, _SWITCH) or not shown:
        return False
    resilient = read(1)
    read(1)  # probabilities stay as they are
    if (read(1) if screen == 2 else screen) and whole == 2:
        read(1)
    read(number)
    read(1)  # another size
    read(hint)
    if kind == 1 and not resilient:  # an inter frame: where it takes probabilities from
        read(3)
    return read(8) == 0
