"""The samples of a file on one grid."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import av
import av.container
import numpy as np

from avlearn.errors import MediaError, NoAudioError
from avlearn.media.clock import demuxed, restarts
from avlearn.media.source import Selected, Source, audio_stream, open_media
from avlearn.media.ticks import stated_start, tick

_LOOK = 24  # frames of audio whose stamps say together where a run of them begins
_LEAP = 600.0  # seconds that no pause lasts: a stamp so far off is damaged (as `clock` has it)
# Formats of samples: type, level of silence, and how far from there the loudest is.
_STORED: dict[str, tuple[type[np.generic], int, int]] = {
    "u8": (np.uint8, 128, 128), "s16": (np.int16, 0, 2**15), "s32": (np.int32, 0, 2**31), "s64": (np.int64, 0, 2**63),
    "flt": (np.float32, 0, 1), "dbl": (np.float64, 0, 1),
}  # fmt: skip
_STORED |= {f"{name}p": stored for name, stored in _STORED.items()}  # channel by channel
# The loudest float32 is no audio: filters, means and squares of it overflow. Floats that hold integers reach 2**31.
LOUDEST = 2.0**40
BAD_SAMPLES = "samples that are no numbers, or too loud to be audio"
_INVALID_DATA = 1094995529  # FFmpeg's number for it; PyAV exports none

# Samples ``[n]`` of each channel.
Channels = Sequence[np.ndarray] | np.ndarray


class Samples:
    """The audio of a file on one grid: sample ``n`` is the instant ``origin + n / rate``.

    Where the track has no audio, before its start and in its gaps, samples are zero.

    Args:
        source: the file.
        origin: seconds on the file's clock; what lies before is not asked for.
        strict: refuse a file whose audio cannot be decoded somewhere on the way, instead of passing over it.

    Attributes:
        rate, channels: of the track.

    Raises:
        NoAudioError: there is no audio track.
    """

    def __init__(self, source: Source, origin: float, strict: bool = False):
        with open_media(source, look=True) as container:
            stream = audio_stream(container, source)
            if stream is None or not stream.codec_context.sample_rate:
                raise NoAudioError(f"{source} has no audio track")
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
        if stream is None:
            raise NoAudioError(f"{source} has no audio track")
        wanted = origin - preroll(stream.codec_context)
        frames = None
        if wanted > float(stated_start(stream)) + 1.0 and not restarts(container):
            frames = _sought(source, container, stream, wanted, strict)
            if frames is None:
                container.seek(0)
        frames = frames or _decoded(source, container, stream, strict)
        base, layout = float(tick(stream)), stream.codec_context.layout
        blocks = placed(frames, base, origin, rate, layout, hidden_until(container, stream))
        if isinstance(source, Selected):
            blocks = ((at, source.channel_of(samples)) for at, samples in blocks)
        yield from blocks


def _sought(
    source: Source, container: av.container.InputContainer, stream: av.AudioStream, wanted: float, strict: bool
) -> Iterator[av.AudioFrame] | None:
    """Frames from one at or before an instant (seconds); None where the place cannot be sought."""
    try:
        container.seek(int(wanted / tick(stream)), stream=stream)
        frames = _decoded(source, container, stream, strict)
        first = next(frames, None)
    except av.error.FFmpegError:
        return None
    if first is None or first.pts is None or first.pts * tick(stream) > wanted + 0.1:
        return None
    return chain([first], frames)


def _decoded(
    source: Source, container: av.container.InputContainer, stream: av.AudioStream, strict: bool
) -> Iterator[av.AudioFrame]:
    begun = False  # after a seek the first packet may be a piece of one
    for packet in demuxed(container, [stream]):
        try:
            for frame in stream.decode(packet):
                begun = True
                yield frame
        except (av.error.InvalidDataError, av.error.EOFError):
            if strict and begun:
                raise MediaError(f"{source} is damaged: its audio cannot be decoded") from None


def preroll(decoder: av.AudioCodecContext) -> float:
    """Seconds to decode ahead of wanted audio, for codecs that depend on what came before.

    AAC overlaps its frames; MP3 borrows bits from earlier ones; Opus asks for 80 ms at least (RFC 7845, 4.6), and
    predicts from further back.
    """
    codec = decoder.name
    if codec.startswith(("pcm", "flac")):
        return 0.0
    if codec == "aac":
        return 3 * 1024 / (decoder.sample_rate or 16000)
    return 0.4 if codec.endswith("opus") else 0.25


def hidden_until(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Seconds before which an edit list hides the audio that is there."""
    cut = "mov" in container.format.name and stream.start_time is not None
    return float(stated_start(stream)) if cut else -np.inf


def placed(
    frames: Iterable[av.AudioFrame], base: float, origin: float, rate: int, layout: av.AudioLayout, hidden: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of audio on the grid ``origin + n / rate``: position and float32 ``[C, n]``.

    Frames that follow one another are joined without a seam whatever their rounded stamps say; where a run begins
    follows from all of its first stamps together, to a fraction of their tick. Only a stamp that is further off
    than 3 ms (or two ticks) begins another run, and only where the next one agrees: single stamps are off around
    pages of Ogg. What lies before ``hidden`` seconds is left out.
    """
    shown = round((hidden - origin) * rate) if np.isfinite(hidden) else None
    half, slack = base * rate / 2, max(2 * base, 0.003) * rate
    channels = layout.nb_channels
    pending: list[Channels] = []
    count, held = 0, 0
    begin: int | None = None
    low, high = -np.inf, np.inf
    resamplers: dict[tuple[str, str, int], av.AudioResampler] = {}

    def on_grid(frame: av.AudioFrame | None) -> float | None:
        return None if frame is None or frame.pts is None else (frame.pts * base - origin) * rate

    def flush() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal begin, held
        if not pending:
            return
        begin = round((low + high) / 2) if begin is None and np.isfinite(low) else begin or 0
        at, block = begin + count - held, _block(pending, channels, held)
        skip = 0 if shown is None else min(max(shown - at, 0), held)
        pending.clear()
        held = 0
        yield at + skip, block[:, skip:]

    for frame, following in _with_next(frames):
        stamp = on_grid(frame)
        for piece in _of_one_kind(frame, rate, layout, resamplers):
            length = piece.samples
            if stamp is not None:
                known = begin if begin is not None else (low + high) / 2
                implied = stamp - count
                if count and np.isfinite(low) and abs(implied - known) > slack:
                    then = on_grid(following)
                    if then is not None and abs(then - count - length - known) <= slack:
                        implied = known
                    elif abs(implied - known) > _LEAP * rate:
                        raise _not_audio("stamps that leap")
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


def joined(
    frames: Sequence[av.AudioFrame], base: float, rate: int, layout: av.AudioLayout, hidden: float
) -> list[tuple[int, np.ndarray]]:
    """What `placed` gives on the grid whose sample 0 is the instant 0, of frames that are all there.

    Where ticks are samples and every frame begins where the one before it ends, there is no run to look for.
    """
    channels = layout.nb_channels
    kind = (rate, channels, frames[0].format.name) if frames else None
    at = begin = (frames[0].pts if frames else None) or 0
    for frame in frames:
        if frame.pts != at or (frame.sample_rate, frame.layout.nb_channels, frame.format.name) != kind:
            break
        at += frame.samples
    else:
        if frames and base * rate == 1.0 and channels < 8:
            block = _block([to_float(frame, channels) for frame in frames], channels, at - begin)
            skip = min(max(round(hidden * rate) - begin, 0), at - begin) if np.isfinite(hidden) else 0
            return [(begin + skip, block[:, skip:])]
    return list(placed(frames, base, 0.0, rate, layout, hidden))


def _of_one_kind(
    frame: av.AudioFrame, rate: int, layout: av.AudioLayout, resamplers: dict[tuple[str, str, int], av.AudioResampler]
) -> list[av.AudioFrame]:
    """A frame with the rate and the channels of the others; ``resamplers`` has one for each kind that lacks them."""
    # PyAV cannot reach planes past the eighth: audio of so many channels is interleaved first.
    wide = layout.nb_channels >= 8 and not frame.format.is_packed
    if not wide and frame.sample_rate == rate and frame.layout.nb_channels == layout.nb_channels:
        return [frame]
    kind = (frame.format.name, frame.layout.name, frame.sample_rate)
    return resamplers.setdefault(kind, av.AudioResampler("flt", layout, rate)).resample(frame)


def _block(pieces: Sequence[Channels], channels: int, count: int) -> np.ndarray:
    """Pieces joined to float32 ``[C, count]``."""
    block = np.empty((channels, count), np.float32)
    for channel, samples in enumerate(block):
        np.concatenate([piece[channel] for piece in pieces], out=samples)
    if not max(block.max(initial=0), -block.min(initial=0)) <= LOUDEST:  # nor where one is no number
        raise _not_audio(BAD_SAMPLES)
    return block


def _with_next(frames: Iterable[av.AudioFrame]) -> Iterator[tuple[av.AudioFrame, av.AudioFrame | None]]:
    before = None
    for frame in frames:
        if before is not None:
            yield before, frame
        before = frame
    if before is not None:
        yield before, None


def _not_audio(what: str) -> av.error.InvalidDataError:
    return av.error.InvalidDataError(_INVALID_DATA, f"its audio has {what}")


def to_float(frame: av.AudioFrame, channels: int) -> Channels:
    """Samples of any format as floats in [-1, 1]: ``[n]`` of each channel."""
    name, count = frame.format.name, frame.samples
    dtype, silence, most = _STORED[name]
    if name[-1] == "p":
        raw: Channels = [np.frombuffer(memoryview(plane), dtype, count) for plane in frame.planes]
    else:
        raw = np.frombuffer(memoryview(frame.planes[0]), dtype, count * channels).reshape(-1, channels).T
    return raw if most == 1 else (np.asarray(raw).astype(np.float32) - silence) / most
