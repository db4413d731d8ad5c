"""Decoding in presentation order: frames for instants, samples on one grid."""

from collections.abc import Iterator
from math import gcd
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from scipy.signal import resample_poly

from avlearn.errors import MediaError, NoAudioError, NoVideoError
from avlearn.media.probe import audio_stream, display_size, open_media, video_stream

_EPSILON = 1e-4  # seconds by which rounded timestamps may miss their frame's instant
_PREROLL = 0.25  # seconds decoded before wanted sound, for codecs that lean on what came before


def _frames(container, stream) -> Iterator[av.frame.Frame]:
    """Decoded frames; damaged packets are passed over."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def to_rgb(frame: av.VideoFrame, aspect: object, size: int | None, crop: bool) -> np.ndarray:
    """A frame as displayed: uint8 ``[H, W, 3]``, short side ``size``, cut to a centre square on demand."""
    width, height = display_size(frame, aspect)
    if size is not None:
        scale = size / min(width, height)
        width = size if width <= height else max(2, round(width * scale / 2) * 2)
        height = size if height < width or width == height == size else max(
            2, round(height * scale / 2) * 2
        )  # fmt: skip
    turns = round(frame.rotation / 90) % 4
    stored = (height, width) if turns % 2 else (width, height)
    # Untagged video is by custom BT.709 from 720 lines on, BT.601 below.
    tagged = frame.colorspace
    hd = tagged == 1 or (tagged not in (5, 6) and frame.height >= 720)
    full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
    smaller = stored[0] < frame.width
    image = frame.reformat(
        *stored,
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if hd else Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA if smaller else Interpolation.BILINEAR,
        threads=1,
    ).to_ndarray()
    image = np.rot90(image, turns) if turns else image
    if crop:
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = image[top : top + side, left : left + side]
    return np.ascontiguousarray(image)


class Frames:
    """The picture of a file: for growing instants, the frame that is shown then.

    Args:
        path: the file.
        start: the first instant that will be asked for, seconds on the file's clock.

    Raises:
        NoVideoError: there is no picture.
    """

    def __init__(self, path: str | Path, start: float):
        self.path, self.start = path, start

    def at(self, instants: Iterator[float], size: int | None, crop: bool) -> Iterator[np.ndarray]:
        """uint8 ``[H, W, 3]`` for each instant, until the instants or the frames end.

        The frame of an instant is the last one presented at or before it; before the first, the first.
        """
        with open_media(self.path) as container:
            stream = video_stream(container)
            if stream is None:
                raise NoVideoError(f"{self.path} has no picture")
            aspect = stream.sample_aspect_ratio
            timed = self._timed(container, stream)
            current = next(timed, None)
            if current is None:
                raise NoVideoError(f"{self.path}: the picture stream holds no frame")
            following = next(timed, None)
            shown = image = None
            for instant in instants:
                while following is not None and following[0] <= instant + _EPSILON:
                    current, following = following, next(timed, None)
                if following is None and instant >= current[0] + current[2] - _EPSILON:
                    return
                if current is not shown:
                    shown, image = current, to_rgb(current[1], aspect, size, crop)
                yield image

    def _timed(self, container, stream) -> Iterator[tuple[float, av.VideoFrame, float]]:
        """Presentation time, frame, duration; from the last frame shown at ``start`` or earlier."""
        base = float(stream.time_base)
        usual = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        begin = (stream.start_time or 0) * base
        frames = None
        if self.start > begin + 1.0:
            for back in (0.0, 2.0, 10.0):
                try:
                    container.seek(max(int((self.start - back) / base), 0), stream=stream)
                except av.error.FFmpegError:
                    break
                frames = _frames(container, stream)
                first = next(frames, None)
                if first is not None and first.pts is not None and (
                    first.pts * base <= self.start + _EPSILON
                ):  # fmt: skip
                    break
                frames = None
        if frames is None:
            container.seek(0) if self.start > begin + 1.0 else None
            frames, first = _frames(container, stream), None
        last = begin - usual
        for frame in ([first] if first is not None else []) + [None]:
            if frame is None:
                break
            last = frame.pts * base
            yield last, frame, float(frame.duration or 0) * base or usual
        for frame in frames:
            last = frame.pts * base if frame.pts is not None else last + usual
            yield last, frame, float(frame.duration or 0) * base or usual


class Samples:
    """The sound of a file on one grid: sample ``n`` is the instant ``origin + n / rate``.

    Where the track has no sound, before its start and in its gaps, samples are zero.

    Args:
        path: the file.
        origin: seconds on the file's clock.
        first: the first sample that will be asked for, on the grid of the track's own rate.

    Attributes:
        rate, channels: of the track.

    Raises:
        NoAudioError: there is no sound track.
    """

    def __init__(self, path: str | Path, origin: float, start: float = 0.0):
        self.path, self.origin, self.start = path, origin, start
        with open_media(path) as container:
            stream = audio_stream(container)
            if stream is None or not stream.codec_context.sample_rate:
                raise NoAudioError(f"{path} has no sound track")
            self.rate: int = stream.codec_context.sample_rate
            self.channels: int = stream.codec_context.channels
        self.blocks = self._blocks()
        self.held = np.zeros((self.channels, 0), np.float32)
        self.held_first = None
        self.ended = False

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Position on the grid and samples ``[C, n]``, in order, without overlaps."""
        wanted = self.origin + self.start - _PREROLL
        with open_media(self.path) as container:
            stream = audio_stream(container)
            base = float(stream.time_base)
            frames = None
            if wanted > (stream.start_time or 0) * base + 1.0:
                try:
                    container.seek(int(wanted / base), stream=stream)
                    frames = _frames(container, stream)
                    first = next(frames, None)
                    late = first is None or first.pts is None or first.pts * base > wanted + 0.1
                except av.error.FFmpegError:
                    late = True
                if late:
                    container.seek(0)
                    frames = _frames(container, stream)
                    first = None
            else:
                frames, first = _frames(container, stream), None
            slack = max(2 * base, 0.003) * self.rate
            position = None
            resampler = None
            source = [first] if first is not None else []
            for frame in _chain(source, frames):
                # PyAV cannot reach planes past the eighth: sound of so many channels is interleaved first.
                wide = self.channels >= 8 and not frame.format.is_packed
                if frame.sample_rate != self.rate or len(frame.layout.channels) != self.channels or wide:
                    layout = stream.codec_context.layout
                    resampler = resampler or av.AudioResampler("flt", layout, self.rate)
                    pieces = resampler.resample(frame)
                else:
                    pieces = [frame]
                for piece in pieces:
                    samples = _to_float(piece, self.channels)
                    if frame.pts is not None:
                        at = (frame.pts * base - self.origin) * self.rate
                        if position is None or abs(at - position) > slack:
                            if position is not None and at < position:
                                samples = samples[:, round(position - at) :]
                            else:
                                position = round(at)
                    position = position if position is not None else 0
                    if samples.shape[1]:
                        yield position, samples
                        position += samples.shape[1]

    def read(self, first: int, count: int) -> np.ndarray:
        """Samples ``first .. first + count`` as float32 ``[C, count]``; calls must not go back in time
        beyond what `forget` left."""
        if self.held_first is None:
            self.held_first = first
        parts = [self.held]
        end = self.held_first + self.held.shape[1]
        while end < first + count and not self.ended:
            block = next(self.blocks, None)
            if block is None:
                self.ended = True
                self.known_end = end
                break
            position, samples = block
            if position + samples.shape[1] <= end:
                continue
            if position < end:
                samples = samples[:, end - position :]
            elif position > end:
                parts.append(np.zeros((self.channels, position - end), np.float32))
            parts.append(samples)
            end = max(position, end) + samples.shape[1]
        self.held = np.concatenate(parts, 1) if len(parts) > 1 else self.held
        out = np.zeros((self.channels, count), np.float32)
        lower, upper = max(first, self.held_first), min(first + count, end)
        if upper > lower:
            out[:, lower - first : upper - first] = self.held[:, lower - self.held_first : upper - self.held_first]
        return out

    def forget(self, before: int) -> None:
        """Drop what lies before a sample."""
        if self.held_first is not None and before > self.held_first:
            drop = min(before - self.held_first, self.held.shape[1])
            self.held = self.held[:, drop:]
            self.held_first += drop

    def end(self) -> int | None:
        """The sample after the last, once it is known."""
        return self.known_end if self.ended else None


class Resampled:
    """A `Samples` at another rate, without state between windows: a window equals its cut of the whole."""

    def __init__(self, samples: Samples, rate: int | None, mono: bool):
        self.samples, self.mono = samples, mono
        self.rate = rate or samples.rate
        common = gcd(self.rate, samples.rate)
        self.up, self.down = self.rate // common, samples.rate // common
        # Reach of the filter (see scipy.signal.resample_poly) in whole blocks of `down` samples.
        reach = 10 * max(self.up, self.down) / self.up + 1
        self.margin = (int(reach / self.down) + 1) * self.down

    def read(self, first: int, count: int) -> np.ndarray:
        """Samples at this rate, float32 ``[C, count]`` (``[1, count]`` for mono)."""
        if self.up == self.down == 1:
            return self._mix(self.samples.read(first, count))
        lower = (first * self.down // self.up) // self.down * self.down - self.margin
        upper = -(-(first + count) * self.down // self.up) + self.margin
        source = self._mix(self.samples.read(lower, upper - lower))
        out = resample_poly(source, self.up, self.down, axis=1)
        skip = first - lower // self.down * self.up
        return np.ascontiguousarray(out[:, skip : skip + count], np.float32)

    def forget(self, before: int) -> None:
        """Drop what no window from this sample on needs."""
        self.samples.forget(before * self.down // self.up - 2 * self.margin - self.down)

    def end(self) -> int | None:
        """The sample after the last, once it is known."""
        end = self.samples.end()
        return None if end is None else -(-end * self.up // self.down)

    def _mix(self, audio: np.ndarray) -> np.ndarray:
        return audio.mean(0, keepdims=True) if self.mono and len(audio) > 1 else audio


def _chain(first: list, rest: Iterator) -> Iterator:
    yield from first
    yield from rest


def _to_float(frame: av.AudioFrame, channels: int) -> np.ndarray:
    """Samples of any format as float32 ``[C, n]`` in [-1, 1]."""
    raw = frame.to_ndarray()
    if frame.format.is_packed:
        raw = raw.reshape(-1, channels).T
    if raw.dtype == np.uint8:
        return (raw.astype(np.float32) - 128) / 128
    if np.issubdtype(raw.dtype, np.integer):
        return raw.astype(np.float32) / -float(np.iinfo(raw.dtype).min)
    if not np.issubdtype(raw.dtype, np.floating):
        raise MediaError(f"sound of the format {frame.format.name} cannot be read")
    return raw.astype(np.float32)
