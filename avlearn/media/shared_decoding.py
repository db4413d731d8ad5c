"""One decoding of a file for several streams of windows that go on side by side."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from copy import copy
from itertools import tee
from typing import Any, TypeVar

from avlearn.media.decode_audio import Samples
from avlearn.media.decode_video import Frames, Presented
from avlearn.media.source import Selected, Source, file_of

T = TypeVar("T")


class SharedDecoding:
    """Frames and samples that streams of one file share: each is decoded once.

    What the stream that is furthest ahead has taken is held until the one that is furthest behind has: take windows
    from that one. Streams that begin after `begun` decode for themselves.

    Example:
        with SharedDecoding() as decoded:
            streams = [stream(file, 2.0, 2.0, fps=fps, decoded=decoded) for fps in (7.5, 15)]
            first = [next(one) for one in streams]
            decoded.begun()
    """

    def __init__(self) -> None:
        self._sources: list[Generator[Any, None, None]] = []
        self._shared: dict[Any, Iterator[Any]] | None = {}

    def __enter__(self) -> "SharedDecoding":
        return self

    def __exit__(self, *_: object) -> None:
        for source in self._sources:
            source.close()

    def frames(self, source: Source, start: float) -> Frames:
        """As `Frames`."""
        return _SharedFrames(source, start, self._share(("video", file_of(source), start), _frames(source, start)))

    def samples(self, source: Source, origin: float) -> Samples:
        """As `Samples`."""
        samples = Samples(source, origin)
        selected = (source.track, source.channel) if isinstance(source, Selected) else (None, None)
        samples.blocks = self._share(("audio", file_of(source), *selected, origin), samples.blocks)
        return samples

    def begun(self) -> None:
        """All streams have begun: nothing is held for others."""
        self._shared = None

    def _share(self, key: tuple[object, ...], items: Iterator[T]) -> Iterator[T]:
        if self._shared is None:
            return items
        if key not in self._shared:
            self._sources.append(source := _with_error(items))
            (self._shared[key],) = tee(source, 1)
        return _raising(copy(self._shared[key]))


class _SharedFrames(Frames):
    """`Frames` of what `_frames` gives."""

    def __init__(self, source: Source, start: float, items: Iterator[Any]):
        super().__init__(source, start)
        self._items = items

    @contextmanager
    def opened(self) -> Iterator[tuple[Iterator[Presented], float]]:
        """As `Frames.opened`."""
        self.aspect, slack = next(self._items)
        yield self._items, slack


def _frames(source: Source, start: float) -> Iterator[Any]:
    """The aspect of a file's pixels and the slack of its stamps, then its frames."""
    frames = Frames(source, start)
    with frames.opened() as (presented, slack):
        yield frames.aspect, slack
        yield from presented


def _with_error(items: Iterator[T]) -> Generator[T | Exception, None, None]:
    """Items, and what ends them, if not their end: all who share them are to be told."""
    try:
        yield from items
    except Exception as error:
        yield error


def _raising(items: Iterator[T | Exception]) -> Iterator[T]:
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item
