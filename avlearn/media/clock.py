"""Begin and end of the packets of a file's streams, and one clock for files whose own starts again on the way.

Transport and programme streams and FLV are made to be cut and joined: a recording that was interrupted, or two that
were put one behind the other, go back (or leap) in time. Such a file is read in order, and every part is moved to
where the one before it ends.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import av
import av.container
import av.stream

from avlearn.errors import MediaError
from avlearn.files import printable
from avlearn.media.source import frame_rate, held_open, open_again, open_bounded
from avlearn.media.ticks import AnyPacket

_JOINED = ("mpegts", "mpeg", "flv")  # as FFmpeg names them
_BACKWARD = 0.25  # seconds that the clock of one stream never goes back by itself
_FORWARD = 600.0  # seconds that no pause lasts
_NEAR = 10.0  # seconds between the beginnings of two streams' parts that belong together
_MOST_PARTS = 200
_LONGEST = 1.0  # seconds of a packet at the end of a part
_LATEST = 1 << 60  # a stamp after any
_BACK = (0.0, 10.0, 100.0, 1000.0, float("inf"))  # seconds to go back from the end, until each stream shows a packet

Span = tuple[float, float]


@dataclass
class _Run:
    """Packets of one stream whose stamps follow one another: the first one's number, and seconds as stamped."""

    first: int
    begin: float
    end: float
    last: float
    count: int = 1


@dataclass(frozen=True)
class Clock:
    """Shifts that bring a file's packets onto one clock.

    Attributes:
        shifts: of each stream (by index) seconds to add, from which packet on; none where the clock never jumps.
        spans: of each stream, instants of its first and its last moment, seconds on that clock.
    """

    shifts: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    spans: dict[int, Span] = field(default_factory=dict)


def restarts(container: av.container.InputContainer) -> bool:
    """Whether a file's clock jumps, so that it can only be read in order."""
    return bool(clock_of(container).shifts)


def demuxed(container: av.container.InputContainer, streams: Sequence[av.stream.Stream]) -> Iterator[AnyPacket]:
    """Packets of streams, on one clock; the container is at its beginning, or its clock does not jump."""
    shifts = {index: dict(steps) for index, steps in clock_of(container).shifts.items()}
    if not shifts:
        yield from container.demux(streams)
        return
    counts, ticks = dict.fromkeys(shifts, 0), dict.fromkeys(shifts, 0)
    for packet in container.demux(streams):
        index = packet.stream_index
        if packet.size and index in shifts:
            if counts[index] in shifts[index]:
                ticks[index] = round(shifts[index][counts[index]] / packet.time_base)
            counts[index] += 1
            packet.pts = None if packet.pts is None else packet.pts + ticks[index]
            packet.dts = None if packet.dts is None else packet.dts + ticks[index]
        yield packet


def file_name(container: av.container.InputContainer) -> str:
    """The file that a container was opened from."""
    return container.name.rpartition(",,:")[2].removeprefix("file:")


def clock_of(container: av.container.InputContainer) -> Clock:
    """The clock of an open file; of kinds that hold but one, without a look at the packets."""
    if container.format.name not in _JOINED:
        return Clock()
    file = held_open(container)
    if file is None:
        state = os.stat(file_name(container))
        return _looked_up(container.name, state.st_size, state.st_mtime_ns)
    if "clock" not in file.known:
        with open_again(container) as whole:
            file.known["clock"] = _whole(whole)
    clock: Clock = file.known["clock"]
    return clock


@lru_cache(64)
def _looked_up(name: str, size: int, changed: int) -> Clock:
    with open_bounded(name, size, {}) as container:
        return _whole(container)


def _whole(container: av.container.InputContainer) -> Clock:
    """Demux a file once, all of it."""
    runs: dict[int, list[_Run]] = {}
    counts: dict[int, int] = {}
    try:
        for packet in container.demux(list(container.streams.video) + list(container.streams.audio)):
            if packet.size:
                number = counts.get(packet.stream_index, 0)
                counts[packet.stream_index] = number + 1
                _take(runs.setdefault(packet.stream_index, []), number, packet)
    except (av.error.InvalidDataError, IndexError):
        pass  # what comes after cannot be demuxed by any reader
    kept = {index: _agreed(found, file_name(container)) for index, found in runs.items() if found}
    if all(len(found) == 1 for found in kept.values()):
        return Clock(spans={index: (found[0].begin, found[0].end) for index, found in kept.items()})
    if max(len(found) for found in kept.values()) > _MOST_PARTS:
        name = printable(file_name(container))
        raise MediaError(f"{name} is damaged: its clock jumps more than {_MOST_PARTS} times")
    return _joined(kept)


def _take(runs: list[_Run], number: int, packet: AnyPacket, longest: float = _LONGEST) -> None:
    stamp = packet.pts if packet.dts is None else packet.dts
    if stamp is None:
        return
    base = float(packet.time_base)
    at = stamp * base
    begin = at if packet.pts is None else packet.pts * base
    begin = begin if abs(begin - at) < _NEAR else at  # demuxers mix up the stamps of both sides of a leap
    end = begin + min(_lasts(packet), longest)  # before a leap demuxers make the last packet as long as it is
    if runs and -_BACKWARD <= at - runs[-1].last <= _FORWARD:
        run = runs[-1]
        run.begin, run.end, run.last, run.count = min(run.begin, begin), max(run.end, end), at, run.count + 1
    else:
        runs.append(_Run(number, begin, end, at))


def _lasts(packet: AnyPacket) -> float:
    """Seconds; of video by its rate, where the packet says nothing that could be true."""
    lasts = float((packet.duration or 0) * packet.time_base)
    if packet.stream.type == "video" and not 0 < lasts < _FORWARD:
        return 1 / (frame_rate(packet.stream) or 25.0)
    return lasts if lasts < _FORWARD else 0.0


def _without_strays(runs: list[_Run]) -> list[_Run]:
    """Runs of more than one packet, or the only one; what a stray stamp parts is joined again."""
    kept: list[_Run] = []
    for run in [run for run in runs if run.count > 1 or len(runs) == 1]:
        if kept and -_BACKWARD <= run.begin - kept[-1].end <= _FORWARD and run.first:
            kept[-1].end, kept[-1].last = max(kept[-1].end, run.end), run.last
        else:
            kept.append(run)
    return kept


def _agreed(runs: list[_Run], name: str) -> list[_Run]:
    """The runs without strays.

    Raises:
        MediaError: there are but strays.
    """
    kept = _without_strays(runs)
    if not kept:
        raise MediaError(f"{printable(name)} is damaged: its clock jumps at every packet")
    return kept


def _joined(runs: dict[int, list[_Run]]) -> Clock:
    """Parts of the file, one behind the other, by the runs of all streams."""
    most = max(runs, key=lambda index: len(runs[index]))
    parts = [[run.begin, run.end] for run in runs[most]]
    member = {most: list(range(len(parts)))}
    for index, found in runs.items():
        if index == most:
            continue
        member[index], part = [], 0
        for k, run in enumerate(found):
            near = [p for p in range(part, len(parts)) if abs(parts[p][0] - run.begin) < _NEAR]
            part = near[0] if near else min(max(part, k), len(parts) - 1)
            member[index].append(part)
            parts[part] = [min(parts[part][0], run.begin), max(parts[part][1], run.end)]
            part += 1
    offsets = [0.0]
    for before, after in pairwise(parts):
        offsets.append(offsets[-1] + before[1] - after[0])
    clock = Clock()
    for index, found in runs.items():
        places = member[index]
        clock.shifts[index] = [(run.first, offsets[part]) for run, part in zip(found, places, strict=True)]
        begin = min(run.begin + offsets[part] for run, part in zip(found, places, strict=True))
        end = max(run.end + offsets[part] for run, part in zip(found, places, strict=True))
        clock.spans[index] = (begin, end)
    return clock


def stream_ends(container: av.container.InputContainer, streams: Sequence[av.stream.Stream]) -> dict[int, float]:
    """Instants at which the last packets of streams end, in seconds, by stream index.

    Read from the end of the file, further and further back until those of each stream bear each other out: a stamp
    that no other is near is damaged. Streams without a packet are left out. The container is left somewhere on the way.

    Raises:
        MediaError: no two packets of a stream bear each other out.
    """
    ends: dict[int, float] = {}
    for back in _BACK:
        whole = (back > 0 and not ends) or back > _BACK[-2]
        place = 0 if whole else int((max(ends.values()) - back) * av.time_base) if back else _LATEST
        runs: dict[int, list[_Run]] = {}
        try:
            container.seek(place)
            for number, packet in enumerate(container.demux(streams)):
                if packet.size and not packet.is_discard:
                    _take(runs.setdefault(packet.stream_index, []), number, packet, _FORWARD)
        except (av.error.FFmpegError, IndexError):
            pass  # where the file ends early, or cannot be sought
        kept = [(index, _without_strays(found)) for index, found in runs.items()]
        ends |= {index: _end(found) for index, found in kept if found}
        if whole or sum(len(found) == 1 and found[0].count > 1 for _, found in kept) == len(streams):
            break
    for found in filter(None, runs.values()):
        _agreed(found, file_name(container))
    return ends


def _end(runs: list[_Run]) -> float:
    """The last moment of the run of most packets, and of those that come after without a leap."""
    end = max(runs, key=lambda run: run.count).end
    for run in sorted(runs, key=lambda run: run.begin):
        if run.begin <= end + _FORWARD:
            end = max(end, run.end)
    return end
