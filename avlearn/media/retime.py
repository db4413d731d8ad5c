"""A audio track played faster or slower, by resampling."""

import numpy as np
import soxr

from avlearn.media.decode_audio import Samples
from avlearn.media.source import Source

_CHUNK = 1 << 16  # samples of the source that are resampled at a time


class Retimed:
    """The audio of a file along another clock: sample n is what the track holds at ``origin + n * speed / rate``.

    Read in order, as `Samples` are.

    Args:
        path: the file.
        origin: seconds on the file's clock.
        speed: seconds of the track a second of the result, near 1; above 1 it ends earlier, and is higher.

    Attributes:
        rate, channels: of the track.

    Raises:
        NoAudioError: there is no audio track.
    """

    def __init__(self, path: Source, origin: float, speed: float):
        self.samples = Samples(path, origin)
        self.rate, self.channels = self.samples.rate, self.samples.channels
        self.resampler = soxr.ResampleStream(self.rate * speed, self.rate, self.channels, "float32", "HQ")
        self.taken = 0
        self.kept = np.zeros((0, self.channels), np.float32)
        self.first = 0  # number of the first sample that is kept
        self.ended = False

    def read(self, first: int, count: int) -> np.ndarray:
        """Samples ``first .. first + count`` as float32 ``[C, count]``, zeros after the end."""
        while self.first + len(self.kept) < first + count and not self.ended:
            piece = self.samples.read(self.taken, _CHUNK)
            end = self.samples.end()
            if end is not None and self.taken + _CHUNK >= end:
                self.ended, piece = True, piece[:, : max(end - self.taken, 0)]
            self.taken += _CHUNK
            self.samples.forget(self.taken)
            done = self.resampler.resample_chunk(np.ascontiguousarray(piece.T), last=self.ended)
            self.kept = np.concatenate([self.kept, done])
        out = np.zeros((self.channels, count), np.float32)
        held = self.kept[first - self.first :][:count]
        out[:, : len(held)] = held.T
        return out

    def forget(self, before: int) -> None:
        """Drop what lies before a sample."""
        drop = min(max(before - self.first, 0), len(self.kept))
        self.kept = self.kept[drop:]
        self.first += drop

    def end(self) -> int | None:
        """The sample after the last, once it is known."""
        return self.first + len(self.kept) if self.ended else None
