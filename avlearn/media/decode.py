"""Decoding in presentation order: frames for instants, samples on one grid."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, pairwise
from math import gcd

import av
import numpy as np
import soxr

from avlearn.errors import MediaError, NoAudioError, NoVideoError
from avlearn.media.aspect import believed, pixel_aspect
from avlearn.media.clock import demuxed, restarts
from avlearn.media.source import Selected, Source, audio_stream, frame_rate, open_media, video_stream

_BACK = (0.0, 2.0, 10.0)  # seconds to seek ahead of an instant, until a keyframe lies before it
_LOOK = 24  # frames of sound whose stamps say together where a run of them begins
_LEAP = 600.0  # seconds that no frame and no pause lasts: a stamp so far off is damaged (as `clock` has it)
# Formats of samples: type, level of silence, and how far from there the loudest is.
_STORED = {
    "u8": (np.uint8, 128, 128), "s16": (np.int16, 0, 2**15), "s32": (np.int32, 0, 2**31), "s64": (np.int64, 0, 2**63),
    "flt": (np.float32, 0, 1), "dbl": (np.float64, 0, 1),
}  # fmt: skip
# The loudest float32 is no sound: filters, means and squares of it overflow. Floats that hold integers reach 2**31.
LOUDEST = 2.0**40
NO_SOUND = "samples that are no numbers, or too loud to be sound"
_INVALID_DATA = 1094995529  # FFmpeg's number for it; PyAV exports none
_REACH = 0.02  # seconds of source sound on either side that the resampler's filter sees, generously


def tick_slack(base: float) -> float:
    """Seconds by which a frame's stamp may lie after its instant: stamps are rounded to their tick.

    Half a tick and at least 0.1 ms; ticks of more than a millisecond are exact (a frame each).
    """
    return max(base / 2 + 1e-5, 1e-4) if base <= 1.1e-3 else 1e-4


def is_untimed(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether packets are stamped in decoding order only: AVI with B-frames."""
    return container.format.name == "avi" and bool(stream.codec_context.has_b_frames)


class Frames:
    """The picture of a file, decoded in order: for growing instants, the frame that is shown then.

    Args:
        source: the file.
        start: the first instant that will be asked for, seconds on the file's clock.
        strict: refuse frames that lean on damaged ones, instead of passing over what cannot be decoded.

    Attributes:
        aspect: width over height of a pixel, once a frame was given.

    Raises:
        NoVideoError: there is no picture.
        MediaError: a wanted frame is damaged, or stamps go back (strict only).
    """

    def __init__(self, source: Source, start: float, strict: bool = False):
        self.source, self.start, self.strict = source, start, strict
        self.aspect = 1.0

    def at(self, instants: Iterable[float]) -> Iterator[tuple[float, av.VideoFrame]]:
        """Presentation time and frame for each instant, until the instants or the frames end.

        The frame of an instant is the last one presented at or before it; before the first, the first.
        """
        with self._opened() as (frames, slack):
            current = next(frames, None)
            if current is None:
                raise NoVideoError(f"{self.source}: the picture stream holds no frame")
            following = next(frames, None)
            for instant in instants:
                while following is not None and following[0] <= instant + slack:
                    current, following = following, next(frames, None)
                time, duration, frame, damaged = current
                if following is None and instant >= time + duration - slack:
                    return
                if damaged and self.strict:
                    raise MediaError(f"{self.source} is damaged: its picture at {float(time):.2f} s cannot be decoded")
                yield float(time), frame

    @contextmanager
    def _opened(self) -> Iterator[tuple[Iterator, float]]:
        """Frames from one at or before ``start``, or from the very first, and the slack of their stamps."""
        for back in (*_BACK, None):
            with open_media(self.source) as container:
                stream = video_stream(container)
                if stream is None:
                    raise NoVideoError(f"{self.source} has no picture")
                self.aspect = pixel_aspect(stream)
                slack = tick_slack(float(stream.time_base))
                begin = float((stream.start_time or 0) * stream.time_base)
                if back is None or self.start < begin + 1.0 or is_untimed(container, stream) or restarts(container):
                    yield presented(container, stream), slack
                    return
                try:
                    container.seek(int((self.start - back) / stream.time_base), stream=stream)
                except av.error.FFmpegError:
                    continue
                frames = presented(container, stream, True)
                first = next(frames, None)
                # Not every picture that a container calls a keyframe can be decoded alone.
                if first is not None and first[0] <= self.start + slack and not first[3]:
                    yield chain([first], frames), slack
                    return


def presented(
    container: av.container.InputContainer, stream: av.VideoStream, sought: bool = False
) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame, bool]]:
    """Frames in order of presentation, each later than the one before.

    Args:
        container, stream: at their beginning, or at a keyframe.
        sought: whether packets before the next keyframe are to be passed over.

    Yields:
        Instant and duration in seconds, frame, and whether it leans on what could not be decoded.
    """
    base = stream.time_base
    usual = 1 / Fraction(frame_rate(stream) or 25).limit_denominator(100_000)
    begin, last, lasts = (stream.start_time or 0) * base, None, usual
    stamps: list[int] | None = [] if is_untimed(container, stream) else None
    damaged = False
    for packet in container.demux(stream) if sought else demuxed(container, [stream]):
        if sought and not packet.is_keyframe:
            continue
        sought = False
        if stamps is not None and packet.dts is not None and packet.size:
            heapq.heappush(stamps, packet.dts)
        try:
            frames = believed(packet).decode()
        except (av.error.InvalidDataError, av.error.EOFError):
            damaged = True
            continue
        for frame in frames:
            damaged = frame.is_corrupt or (damaged and not frame.key_frame)
            # Frames come in presentation order: the next one has the smallest stamp that is left.
            pts = heapq.heappop(stamps) if stamps else frame.pts
            instant = pts * base if pts is not None else begin if last is None else last + usual
            if last is not None and instant > last + lasts + _LEAP:
                instant = last + usual
            if last is not None and instant <= last:
                damaged = damaged or instant < last
                continue
            stated = (frame.duration or 0) * base
            last, lasts = instant, stated if 0 < stated < _LEAP else usual
            yield instant, lasts, frame, damaged


class Samples:
    """The sound of a file on one grid: sample ``n`` is the instant ``origin + n / rate``.

    Where the track has no sound, before its start and in its gaps, samples are zero.

    Args:
        source: the file.
        origin: seconds on the file's clock; what lies before is not asked for.
        strict: refuse a file whose sound cannot be decoded somewhere on the way, instead of passing over it.

    Attributes:
        rate, channels: of the track.

    Raises:
        NoAudioError: there is no sound track.
    """

    def __init__(self, source: Source, origin: float, strict: bool = False):
        with open_media(source, look=True) as container:
            stream = audio_stream(container, source)
            if stream is None or not stream.codec_context.sample_rate:
                raise NoAudioError(f"{source} has no sound track")
            self.rate: int = stream.codec_context.sample_rate
            self.channels: int = stream.codec_context.channels
        if isinstance(source, Selected):
            self.channels = len(source.channel_of(np.zeros((self.channels, 0))))
        # No method: a cycle through self would keep the file open until the garbage collector comes.
        self.blocks = _blocks(source, origin, self.rate, strict)
        self.kept: deque[tuple[int, np.ndarray]] = deque()
        self.last = 0  # the sample after the last one decoded
        self.ended = False

    def read(self, first: int, count: int) -> np.ndarray:
        """Samples ``first .. first + count`` as float32 ``[C, count]``; calls must not go back in time
        beyond what `forget` left."""
        while self.last < first + count and not self.ended:
            block = next(self.blocks, None)
            if block is None:
                self.ended = True
            else:
                self.kept.append(block)
                self.last = max(self.last, block[0] + block[1].shape[1])
        out = np.zeros((self.channels, count), np.float32)
        # Where blocks overlap, the earlier one stands.
        for position, samples in reversed(self.kept):
            lower, upper = max(first, position), min(first + count, position + samples.shape[1])
            if upper > lower:
                out[:, lower - first : upper - first] = samples[:, lower - position : upper - position]
        return out

    def forget(self, before: int) -> None:
        """Drop what lies before a sample."""
        while self.kept and self.kept[0][0] + self.kept[0][1].shape[1] <= before:
            self.kept.popleft()

    def end(self) -> int | None:
        """The sample after the last, once it is known."""
        return self.last if self.ended else None


def _blocks(source: Source, origin: float, rate: int, strict: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Position on the grid and samples ``[C, n]``, in order, from sample 0 or a little before."""
    with open_media(source) as container:
        stream = audio_stream(container, source)
        wanted = origin - preroll(stream)
        frames = None
        if wanted > float((stream.start_time or 0) * stream.time_base) + 1.0 and not restarts(container):
            try:
                container.seek(int(wanted / stream.time_base), stream=stream)
                frames = _sound(source, container, stream, strict)
                first = next(frames, None)
                late = first is None or first.pts is None or first.pts * stream.time_base > wanted + 0.1
                frames = None if late else chain([first], frames)
            except av.error.FFmpegError:
                frames = None
            if frames is None:
                container.seek(0)
        frames = frames or _sound(source, container, stream, strict)
        base, layout = float(stream.time_base), stream.codec_context.layout
        blocks = placed(frames, base, origin, rate, layout, hidden_until(container, stream))
        if isinstance(source, Selected):
            blocks = ((at, source.channel_of(samples)) for at, samples in blocks)
        yield from blocks


def _sound(source: Source, container, stream: av.AudioStream, strict: bool) -> Iterator[av.AudioFrame]:
    begun = False  # after a seek the first packet may be a piece of one
    for packet in demuxed(container, [stream]):
        try:
            for frame in packet.decode():
                begun = True
                yield frame
        except (av.error.InvalidDataError, av.error.EOFError):
            if strict and begun:
                raise MediaError(f"{source} is damaged: its sound cannot be decoded") from None


class Resampled:
    """A `Samples` at another rate, without state between windows: a window equals its cut of the whole."""

    def __init__(self, samples: Samples, rate: int | None, mono: bool):
        self.samples, self.mono = samples, mono
        self.rate = rate or samples.rate
        common = gcd(self.rate, samples.rate)
        self.up, self.down = self.rate // common, samples.rate // common
        self.margin = resample_margin(samples.rate, self.rate)

    def read(self, first: int, count: int) -> np.ndarray:
        """Samples at this rate, float32 ``[C, count]`` (``[1, count]`` for mono)."""
        if self.up == self.down == 1:
            return mix(self.samples.read(first, count), self.mono)
        # From a sample whose instant both rates share, so that the filter's phase is always the same.
        lower = (first * self.down // self.up) // self.down * self.down - self.margin
        upper = -(-(first + count) * self.down // self.up) + self.margin
        source = mix(self.samples.read(lower, upper - lower), self.mono)
        out = resample(source, self.samples.rate, self.rate)
        skip = first - lower // self.down * self.up
        return np.ascontiguousarray(out[:, skip : skip + count])

    def forget(self, before: int) -> None:
        """Drop what no window from this sample on needs."""
        self.samples.forget(before * self.down // self.up - 2 * self.margin - self.down)

    def end(self) -> int | None:
        """The sample after the last, once it is known."""
        end = self.samples.end()
        return None if end is None else -(-end * self.up // self.down)


def resample_margin(source: int, target: int) -> int:
    """Source samples on either side that the filter needs: whole steps of the two rates' common grid."""
    if source == target:
        return 0
    step = source // gcd(source, target)
    reach = _REACH * source * max(1.0, source / target, 8000 / min(source, target))
    return -(-int(reach) // step) * step


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Change the rate of float32 ``[C, S]`` with a linear-phase filter; sample 0 keeps its instant."""
    if source == target:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, source, target, "HQ").T)


def mix(audio: np.ndarray, mono: bool) -> np.ndarray:
    """Float32 ``[C, S]``, or its mean ``[1, S]``."""
    return audio.mean(0, keepdims=True) if mono and len(audio) > 1 else audio


def preroll(stream: av.AudioStream) -> float:
    """Seconds to decode ahead of wanted sound, for codecs that lean on what came before.

    AAC overlaps its frames; MP3 borrows bits from earlier ones; Opus asks for 80 ms at least (RFC 7845, 4.6), and
    predicts from further back.
    """
    codec = stream.codec_context.name
    if codec.startswith(("pcm", "flac")):
        return 0.0
    if codec == "aac":
        return 3 * 1024 / (stream.codec_context.sample_rate or 16000)
    return 0.4 if codec.endswith("opus") else 0.25


def hidden_until(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Seconds before which an edit list hides the sound that is there."""
    cut = "mov" in container.format.name and stream.start_time is not None
    return float(stream.start_time * stream.time_base) if cut else -np.inf


def placed(
    frames: Iterable[av.AudioFrame], base: float, origin: float, rate: int, layout: av.AudioLayout, hidden: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of sound on the grid ``origin + n / rate``: position and float32 ``[C, n]``.

    Frames that follow one another are joined without a seam whatever their rounded stamps say; where a run begins
    follows from all of its first stamps together, to a fraction of their tick. Only a stamp that is further off
    than 3 ms (or two ticks) begins another run, and only where the next one agrees: single stamps are off around
    pages of Ogg. What lies before ``hidden`` seconds is left out.
    """
    shown = round((hidden - origin) * rate) if np.isfinite(hidden) else None
    half, slack = base * rate / 2, max(2 * base, 0.003) * rate
    channels = layout.nb_channels
    pending: list[Sequence[np.ndarray]] = []  # of each frame the samples of each channel
    count, held, begin, low, high = 0, 0, None, -np.inf, np.inf
    resamplers: dict[tuple, av.AudioResampler] = {}

    def on_grid(frame: av.AudioFrame | None) -> float | None:
        return None if frame is None or frame.pts is None else (frame.pts * base - origin) * rate

    def flush() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal begin, held
        if not pending:
            return
        begin = round((low + high) / 2) if begin is None and np.isfinite(low) else begin or 0
        at, block = begin + count - held, np.empty((channels, held), np.float32)
        for channel, samples in enumerate(block):
            np.concatenate([piece[channel] for piece in pending], out=samples)
        if not max(block.max(initial=0), -block.min(initial=0)) <= LOUDEST:  # nor where one is no number
            raise _not_sound(NO_SOUND)
        skip = 0 if shown is None else min(max(shown - at, 0), held)
        pending.clear()
        held = 0
        yield at + skip, block[:, skip:]

    for frame, following in pairwise(chain(frames, [None])):
        # PyAV cannot reach planes past the eighth: sound of so many channels is interleaved first.
        wide = channels >= 8 and not frame.format.is_packed
        pieces = [frame]
        if wide or frame.sample_rate != rate or frame.layout.nb_channels != channels:
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            pieces = resamplers.setdefault(kind, av.AudioResampler("flt", layout, rate)).resample(frame)
        stamp = on_grid(frame)
        for piece in pieces:
            length = piece.samples
            if stamp is not None:
                known = begin if begin is not None else (low + high) / 2
                implied = stamp - count
                if count and np.isfinite(low) and abs(implied - known) > slack:
                    then = on_grid(following)
                    if then is not None and abs(then - count - length - known) <= slack:
                        implied = known
                    elif abs(implied - known) > _LEAP * rate:
                        raise _not_sound("stamps that leap")
                    else:
                        yield from flush()
                        count, begin, low, high = 0, None, -np.inf, np.inf
                        implied = stamp
                if max(low, implied - half) <= min(high, implied + half):
                    low, high = max(low, implied - half), min(high, implied + half)
                stamp += length
            pending.append(to_float(piece, channels))
            count, held = count + length, held + length
            if len(pending) >= _LOOK:
                yield from flush()
    yield from flush()


def _not_sound(what: str) -> av.error.InvalidDataError:
    return av.error.InvalidDataError(_INVALID_DATA, f"its sound has {what}")


def to_float(frame: av.AudioFrame, channels: int) -> Sequence[np.ndarray]:
    """Samples of any format as floats in [-1, 1]: ``[n]`` of each channel."""
    name, count = frame.format.name, frame.samples
    dtype, silence, most = _STORED[name.removesuffix("p")]
    if name.endswith("p"):
        raw = [np.frombuffer(plane, dtype, count) for plane in frame.planes]
    else:
        raw = np.frombuffer(frame.planes[0], dtype, count * channels).reshape(-1, channels).T
    return raw if most == 1 else (np.asarray(raw).astype(np.float32) - silence) / most
