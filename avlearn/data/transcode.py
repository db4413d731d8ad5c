"""A clip to a file that is cheap to read at random, looked at again after it was written.

The video follows one pattern: a keyframe every 32 frames; P frames every 8 and where a group ends; between them B
frames that no other depends on, so that a reader reaches any frame by decoding five others at most. Without CABAC,
deblocking and weighted prediction each of them costs about half. Any decoder still plays the file.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from avlearn.errors import MediaError, NoAudioError, NoVideoError
from avlearn.files import replacing
from avlearn.media import probe
from avlearn.media.aspect import pixel_aspect
from avlearn.media.audio_track import AudioTrack
from avlearn.media.decode_audio import Samples
from avlearn.media.decode_video import is_untimed, presented
from avlearn.media.packet_table import append_table
from avlearn.media.resample import Resampled
from avlearn.media.rgb import displayed
from avlearn.media.source import audio_stream, open_media, video_stream
from avlearn.media.ticks import tick
from avlearn.media.unchanged import unchanged
from avlearn.media.writer import WRITE_ERRORS

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

_GROUP, _STEP = 32, 8  # frames from keyframe to keyframe, and from P frame to P frame
# The macroblock tree gives other bytes each time it encodes the same frames.
_X264 = (
    f"keyint={_GROUP}:min-keyint={_GROUP}:scenecut=0:bframes={_STEP - 1}:b-adapt=0:b-pyramid=none:"
    "cabac=0:no-deblock=1:weightp=0:weightb=0:mbtree=0"
)
_BIT_RATE = 64_000
_CHUNK = 4  # seconds of audio encoded at a time
_FINE = Fraction(1, 90_000)  # seconds to which the instants of a variable rate are kept
_HINT = Fraction(30)  # frames a second that an encoder is told of where there is no rate
_BT709, _BT601 = 1, 6  # as ITU-T H.273 (2021) numbers matrices, like those that follow
_MATRICES = (1, 4, 5, 6, 7, 9, 10)


@dataclass(frozen=True)
class FlowSettings:
    """The optical flow that is computed of a prepared clip.

    Attributes:
        method: a key of `avlearn.signal.flow.METHODS`.
        fps: frames a second, between which it is.
        size: side of the centre square, pixels, in which it is computed.
    """

    method: str
    fps: float
    size: int


@dataclass(frozen=True)
class Settings:
    """The format that a clip is transcoded to.

    Attributes:
        short_side: pixels at most; even.
        sample_rate: of the audio, which is mono; one that AAC has.
        crf: x264's quality, 0 (best) to 51.
        flow: the optical flow that is kept beside it; None: none.
    """

    short_side: int = 160
    sample_rate: int = 16000
    crf: int = 20
    flow: FlowSettings | None = None


def transcode(source: Path, target: Path, settings: Settings) -> tuple[float, dict[str, Any]]:
    """Write a clip whose video, and audio where there is any, begin at 0 and end by the video's end.

    Rotation and the shape of pixels are baked in; nothing is enlarged; frames keep their instants, so that a fixed
    rate stays fixed and a variable one variable. The same source gives the same bytes.

    Args:
        source: the clip.
        target: an MP4 that appears whole or not at all.
        settings: what to make of it.

    Returns:
        Instant of the first frame on the source's clock, and the values of the new clip's columns in a manifest.

    Raises:
        MediaError: the source cannot be decoded throughout, or what was written is not what should have been.
        OutputError: the target cannot be written.
    """
    with replacing(target, WRITE_ERRORS) as part:
        try:
            begin, ticks, base, samples = _encode(source, part, settings)
        except av.error.FFmpegError as error:
            # The disk's errors are errors of the operating system; the others are the encoder's.
            if isinstance(error, OSError):
                raise
            raise MediaError(f"it cannot be encoded: {error.strerror}") from error
        _check(part, ticks, base, samples, settings.sample_rate)
        append_table(part)
        return float(begin), _described(part)


@unchanged
def _encode(source: Path, part: Path, settings: Settings) -> tuple[Fraction, list[int], Fraction, int]:
    """First instant on the source's clock; those of the frames from there in ticks, and the tick; samples written."""
    rate = _fixed_rate(source)
    frames = _frames(source, settings.short_side)
    first = next(frames)
    begin, base = first[0], 1 / rate if rate else _FINE
    ticks, end = [], Fraction(0)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(part), "w", format="mp4", options=options) as container:
        video = _video_stream(container, first[2], base, rate or _HINT, settings.crf)
        audio = _Audio(container, source, begin, settings.sample_rate) if _has_audio(source) else None
        for instant, lasts, frame in chain([first], frames):
            frame.pts, frame.time_base = round((instant - begin) / base), base
            frame.duration = round(lasts / base)
            ticks.append(frame.pts)
            end = ticks[-1] * base + (base if rate else lasts)
            if audio:
                audio.write_until(instant - begin, _CHUNK)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio:
            audio.write_until(end)
            audio.finish()
    return begin, ticks, base, audio.written if audio else 0


def _has_audio(source: Path) -> bool:
    with open_media(source) as container:
        return audio_stream(container) is not None


def _video_stream(
    container: av.container.OutputContainer, like: av.VideoFrame, base: Fraction, rate: Fraction, crf: int
) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "x264-params": _X264})
    stream.width, stream.height, stream.pix_fmt = like.width, like.height, "yuv420p"
    context = stream.codec_context
    context.thread_count = 1  # several give other bytes than one
    context.flags |= Flags.bitexact | Flags.frame_duration
    context.time_base = base
    context.colorspace, context.color_range = like.colorspace, like.color_range
    context.color_primaries, context.color_trc = like.color_primaries, like.color_trc
    return stream


class _Audio:
    """The audio from an instant of the source on, as mono AAC."""

    def __init__(self, container: av.container.OutputContainer, source: Path, begin: Fraction, rate: int):
        self._read = Resampled(Samples(source, float(begin), strict=True), rate, True)
        self._track = AudioTrack(container, rate, 1)
        self._track.stream.bit_rate = _BIT_RATE
        self._track.stream.codec_context.flags |= Flags.bitexact
        # Decoders put random numbers in place of noise, which depend on what they decoded before.
        self._track.stream.codec_context.options = {"aac_pns": "0"}
        self._ended = False

    @property
    def written(self) -> int:
        """Samples so far."""
        return self._track.written

    def write_until(self, instant: Fraction, step: int = 0) -> None:
        """Write what plays before an instant, once that is at least ``step`` seconds."""
        last, rate = round(instant * self._read.rate), self._read.rate
        while last > self.written + step * rate and not self._ended:
            first, count = self.written, min(last - self.written, _CHUNK * rate)
            piece, end = self._read.read(first, count), self._read.end()
            if end is not None and end < first + count:
                self._ended, piece = True, piece[:, : max(end - first, 0)]
            self._track.write(piece)
            self._read.forget(self.written)

    def finish(self) -> None:
        """Encode what is left."""
        if not self.written:
            raise NoAudioError("no audio plays while there is video")
        self._track.finish()


def _fixed_rate(source: Path) -> Fraction | None:
    """Frames a second where every frame lies on the grid of one rate, to the tick of its timestamp."""
    with open_media(source) as container:
        stream = video_stream(container)
        if stream is None:
            raise NoVideoError("there is no video")
        base, untimed = tick(stream), is_untimed(container, stream)
        stated = [p.dts if untimed or p.pts is None else p.pts for p in container.demux(stream) if p.size]
        rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
    stamps = sorted({stamp for stamp in stated if stamp is not None})
    if len(stamps) > 1:
        # Headers may be wrong where ticks are coarse: rates of whole numbers, and those of NTSC, are tried too.
        mean = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * base)
        rates += [Fraction(round(mean)), Fraction(round(mean * 1001 / 1000) * 1000, 1001)]
    misfits = {rate: _misfit(stamps, base * rate) / rate for rate in rates if rate}
    best = min(misfits, key=lambda rate: misfits[rate], default=None)
    return best if best and misfits[best] <= base else None


def _misfit(stamps: list[int], step: Fraction) -> Fraction | float:
    """Frames by which stamps miss a grid of ``step`` frames a tick; infinite where no two are neighbours on it."""
    places = [(stamp - stamps[0]) * step.numerator for stamp in stamps]
    slots = [(2 * place + step.denominator) // (2 * step.denominator) for place in places]
    if min((b - a for a, b in pairwise(slots)), default=1) != 1:
        return float("inf")
    furthest = max((abs(p - s * step.denominator) for p, s in zip(places, slots, strict=True)), default=0)
    return Fraction(furthest, step.denominator)


def _frames(source: Path, short_side: int) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame]]:
    """Instant, seconds it lasts, and frame as it will be encoded, in order of presentation."""
    size = None
    with open_media(source) as container:
        stream = video_stream(container)
        if stream is None:
            raise NoVideoError("there is no video")
        aspect = pixel_aspect(stream)
        for instant, lasts, frame, damaged in presented(container, stream):
            if damaged and size:
                raise MediaError(f"it is damaged: the video at {float(instant):.2f} s cannot be decoded")
            # A stream cut out of another begins with frames whose references are gone; no player shows them.
            if damaged:
                continue
            size = size or _size(*displayed(frame, aspect), short_side)
            yield instant, lasts, _converted(frame, *size)
    if size is None:
        raise NoVideoError("the video stream holds no frame")


def _size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Even width and height, the short side at most so long, nothing enlarged."""
    scale = min(1.0, short_side / min(width, height))
    across, down = (max(2, min(round(side * scale / 2) * 2, side // 2 * 2)) for side in (width, height))
    return across, down


def _converted(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """Upright frame, 8 bits a sample, 4:2:0, limited range; matrix, primaries and curve stay and are named."""
    turns = round(frame.rotation / 90) % 4
    stored = (height, width) if turns % 2 else (width, height)
    pixels = frame.format
    coded = not pixels.is_rgb and not pixels.has_palette and len(pixels.components) >= 3
    # Untagged video is by custom BT.709 from 720 lines on, BT.601 below.
    matrix = frame.colorspace if frame.colorspace in _MATRICES else _BT709 if frame.height >= 720 else _BT601
    full = frame.color_range == 2 or pixels.name.startswith("yuvj") or not coded
    shrinks = stored[0] * stored[1] < frame.width * frame.height
    out = frame.reformat(
        *stored,
        format="yuv420p",
        # One and the same for pixels that are luma and chroma already: their matrix is not changed.
        src_colorspace=Colorspace.ITU601,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
        threads=1,
    )
    out = _turned(out, turns) if turns else out
    out.colorspace, out.color_range = matrix if coded else _BT601, ColorRange.MPEG
    out.color_primaries, out.color_trc = frame.color_primaries, frame.color_trc
    out.pict_type = PictureType.NONE  # or x264 takes over the source's pattern
    return out


def _turned(frame: av.VideoFrame, turns: int) -> av.VideoFrame:
    """A 4:2:0 frame turned counterclockwise by quarters."""
    width, height = frame.width, frame.height
    luma, *chroma = np.split(frame.to_ndarray().ravel(), [width * height, width * height * 5 // 4])
    planes = [luma.reshape(height, width), *(plane.reshape(height // 2, width // 2) for plane in chroma)]
    flat = np.concatenate([np.rot90(plane, turns).ravel() for plane in planes])
    return av.VideoFrame.from_ndarray(flat.reshape(-1, height if turns % 2 else width), "yuv420p")


def _check(path: Path, ticks: list[int], base: Fraction, samples: int, rate: int) -> None:
    """Decode all of what was written, and compare.

    Raises:
        MediaError: a frame, its instant, or audio is not what should have been written.
    """
    shown: list[int | None] = []
    heard, first = 0, None
    with open_media(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        if video is None or (audio is None) != (not samples):
            raise MediaError("what was written holds no video or no audio")
        for packet in container.demux(*filter(None, (video, audio))):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    shown += [] if frame.is_corrupt else [frame.pts]
                elif isinstance(frame, av.AudioFrame):
                    first = frame.time if first is None else first
                    heard += frame.samples
        scale = base / tick(video)
    if shown != [tick * scale for tick in ticks]:
        raise MediaError(f"what was written shows {len(shown)} frames, not {len(ticks)} at their instants")
    # AAC comes in frames of 1024 samples.
    if samples and (first is None or abs(first) > 1 / rate or abs(heard - samples) >= 1024):
        raise MediaError(f"the audio that was written has {heard} samples from {first} s, not {samples} from 0")


def _described(path: Path) -> dict[str, Any]:
    info = probe(path)
    video, audio = info.video, info.audio
    if video is None:
        raise MediaError("what was written holds no video")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    heard = {"audio_codec": audio.codec, "sample_rate": audio.sample_rate, "channels": audio.channels} if audio else {}
    return {
        "duration": min(video.duration, audio.duration) if audio else video.duration, "video_codec": video.codec,
        "fps": video.fps, "width": video.width, "height": video.height, **heard, "hash": digest,
        "bytes": path.stat().st_size,
    }  # fmt: skip
