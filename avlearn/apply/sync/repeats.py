"""Frames of a file that were seen and heard before, and when: they are no further evidence."""

import numpy as np

_SIDE = 8  # cells a side that frames are averaged to
_BANDS = 16  # of the audio
_DIMENSIONS = 8  # that both are projected to: enough to tell one moment from another
_RUN = 12  # frames that have to match one after another
_STRIDE = 3  # between the frames of a run that are compared
_HOP = 6  # frames from one run to the next
# Of the mean square difference of two moments of the file: below it they are one. Audio changes more within a frame.
_ALIKE_SEEN, _ALIKE_HEARD = 0.05, 0.35
_ROWS, _BANK = 256, 4096  # runs that are compared at a time, and with how many: memory does not grow with the file
_ONCE = 1.5  # periods that a file brings anew at most, where it is one stretch again and again: its seams differ


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Coarse thumbnails of frames, projected to few dimensions: uint8 ``[T, H, W, 3]`` to float32 ``[T, 8]``."""
    rows, columns = (np.linspace(0, side, _SIDE, endpoint=False).astype(int) for side in frames.shape[1:3])
    grey = frames.mean(3, dtype=np.float32)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, 1), columns, 2)
    return _projected(sums.reshape(len(frames), -1) / (grey[0].size / _SIDE**2))


def loudness(audio: np.ndarray, samples: int) -> np.ndarray:
    """Log power in bands, of audio ``[S]`` in frames of so many samples, each seen with the next: ``[T, 16]``."""
    count = len(audio) // samples
    if not count:
        return np.zeros((0, _BANDS), np.float32)
    frames = audio[: count * samples].reshape(count, samples)
    power = np.abs(np.fft.rfft(frames * np.hanning(samples), axis=1))[:, 1:] ** 2
    edges = np.unique(np.geomspace(1, power.shape[1], _BANDS + 1).astype(int) - 1)[:-1]
    bands = np.zeros((count, _BANDS), np.float32)
    bands[:, : len(edges)] = np.add.reduceat(power, edges, 1)
    bands[:-1] += bands[1:]
    return np.log(bands + 1e-4)


def last_seen(seen: np.ndarray, heard: np.ndarray, apart: int) -> np.ndarray:
    """How many frames ago each frame was shown and heard as it is now, 0 where it is new: int ``[T]``.

    A frame is a repetition when a run of frames around it matches an earlier one in video and audio, at the same
    distance for both. Between frames the earlier run is interpolated: a loop need not last a whole number of them.

    Args:
        seen: ``[T, 8]`` of `thumbnails`.
        heard: ``[T, 16]`` of `loudness`.
        apart: frames that a repetition is later at least.
    """
    count = len(seen)
    ago = np.zeros(count, int)
    if count <= apart + _RUN:
        return ago
    parts = [(_scaled(seen), _ALIKE_SEEN), (_scaled(_projected(heard)), _ALIKE_HEARD)]
    # As they are, and half a step later: a repetition need not lie on the frames' grid.
    moved = [[(values[shift:] + values[: len(values) - shift]) / 2 for values, _ in parts] for shift in (0, 1)]
    starts = np.arange(count - _RUN)
    asked = starts[apart::_HOP]
    for chunk in np.array_split(asked, max(len(asked) // _ROWS, 1)):
        bank = starts[: chunk[-1] - apart + 1]
        # A repetition repeats what is new; within the chunk that is not known yet.
        bank = bank[(ago[bank] == 0) | (bank >= chunk[0] - apart)]
        own = [_runs(values, chunk) for values, _ in parts]
        for later in moved:
            latest = np.full(len(chunk), -1)
            for some in np.array_split(bank, -(-len(bank) // _BANK)):
                alike = some[None] <= chunk[:, None] - apart
                for (_, most), runs, values in zip(parts, own, later, strict=True):
                    if alike.any():
                        alike &= _difference(runs, _runs(values, some)) < most
                latest = np.where(alike.any(1), some[alike.shape[1] - 1 - alike[:, ::-1].argmax(1)], latest)
            for row in np.flatnonzero(latest >= 0):
                ago[chunk[row] : chunk[row] + _RUN] = chunk[row] - latest[row]
    return ago


def period(ago: np.ndarray) -> int | None:
    """Length in frames of the stretch that a file repeats from end to end; None where it does not.

    Args:
        ago: ``[T]`` of `last_seen`.
    """
    again = np.flatnonzero(ago)
    if not len(again):
        return None
    frames = int(np.median(ago[again[again < 2 * again[0]]]))
    return frames if (ago == 0).sum() <= _ONCE * frames <= len(ago) else None


def _projected(values: np.ndarray) -> np.ndarray:
    """``[T, D]`` in random directions, which keep distances by and large: float32 ``[T, 8]``."""
    directions = np.random.default_rng(0).standard_normal((values.shape[1], _DIMENSIONS))
    found = np.zeros((len(values), _DIMENSIONS), np.float32)
    for begin in range(0, len(values), _BANK):
        found[begin : begin + _BANK] = values[begin : begin + _BANK] @ directions
    return found


def _scaled(values: np.ndarray) -> np.ndarray:
    """Around zero, and so that two moments differ by one, squared and on average: float32."""
    values = values - values.mean(0, dtype=float)
    values /= np.sqrt(max(2 * values.var(0).sum(), 1e-12))
    return values.astype(np.float32)


def _runs(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Runs ``[N, _RUN / _STRIDE * D]`` of ``[T, D]`` that begin at frames ``[N]``."""
    return values[starts[:, None] + np.arange(0, _RUN, _STRIDE)].reshape(len(starts), -1)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean square over the steps of runs ``[N, K]`` and ``[M, K]``: ``[N, M]``."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return squares / (_RUN // _STRIDE)
