"""Decoders that are used again for the next file of the same kind: to make one costs more than some windows do."""

import threading
from dataclasses import dataclass
from typing import TypeVar

import av

D = TypeVar("D", av.VideoCodecContext, av.AudioCodecContext)

_MOST = 8  # decoders that a thread keeps, each with the frames that it refers to


@dataclass(frozen=True)
class _Kind:
    """What makes decoders the same; ``pixels``: of a frame at most."""

    codec: str
    extradata: bytes
    sample_rate: int
    pixels: int


class _Idle(threading.local):
    """Decoders of a thread that nobody uses, the one that was used last at the end."""

    def __init__(self) -> None:
        self.decoders: dict[_Kind, av.CodecContext] = {}


_idle = _Idle()


class KeptDecoders:
    """The decoders of one reading: taken from those that this thread keeps, or made.

    Args:
        pixels: of a frame at most.
    """

    def __init__(self, pixels: int):
        self._pixels = pixels
        self._taken: list[tuple[_Kind, av.CodecContext]] = []

    def video(self, codec: str, extradata: bytes) -> av.VideoCodecContext:
        """A decoder that is as good as new."""
        return self._take(_Kind(codec, extradata, 0, self._pixels), av.VideoCodecContext)

    def audio(self, codec: str, extradata: bytes, sample_rate: int) -> av.AudioCodecContext:
        """A decoder that is as good as new."""
        return self._take(_Kind(codec, extradata, sample_rate, self._pixels), av.AudioCodecContext)

    def keep(self) -> None:
        """Keep them for the next reading, once they were flushed. Those that fail are dropped instead."""
        _idle.decoders |= dict(self._taken)
        self._taken.clear()
        while len(_idle.decoders) > _MOST:
            del _idle.decoders[next(iter(_idle.decoders))]

    def _take(self, kind: _Kind, of: type[D]) -> D:
        decoder = _idle.decoders.pop(kind, None) or _made(kind)
        if not isinstance(decoder, of):
            raise TypeError(f"{kind.codec} is no decoder of that kind")
        self._taken.append((kind, decoder))
        return decoder


def _made(kind: _Kind) -> av.CodecContext:
    decoder = av.CodecContext.create(kind.codec, "r")
    decoder.thread_count, decoder.extradata = 1, kind.extradata
    decoder.options = {"max_pixels": str(kind.pixels)}
    if isinstance(decoder, av.AudioCodecContext):
        decoder.sample_rate = kind.sample_rate
    decoder.open()
    return decoder
