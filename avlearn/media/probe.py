"""What a media file holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import av
import av.container
import av.stream

from avlearn.errors import MediaError

_PACKETS = 300  # looked at to tell whether the frame rate varies


@dataclass(frozen=True)
class VideoStream:
    """A picture stream: width and height as displayed (rotated, square pixels); times in seconds."""

    index: int
    codec: str
    width: int
    height: int
    fps: float
    variable_fps: bool | None
    start: float
    duration: float
    rotation: int
    pixel_format: str


@dataclass(frozen=True)
class AudioStream:
    """A sound stream; times in seconds, the rate in samples a second."""

    index: int
    codec: str
    sample_rate: int
    channels: int
    start: float
    duration: float
    language: str | None


@dataclass(frozen=True)
class MediaInfo:
    """A file: ``start`` is the instant of its first frame (first sample, without picture), seconds."""

    path: str
    container: str
    start: float
    duration: float
    video: VideoStream | None
    audio: AudioStream | None

    def to_dict(self) -> dict:
        """JSON types."""
        return {"schema": "avlearn.probe/1", **asdict(self)}

    def text(self) -> str:
        """For people."""
        lines = [f"{self.path}: {self.container}, {self.duration:.2f} s from {self.start:.2f} s"]
        if self.video:
            v = self.video
            rate = f"{v.fps:.2f} fps" + (", variable" if v.variable_fps else "")
            turned = f", rotated {v.rotation} degrees" if v.rotation else ""
            lines.append(f"  video {v.codec} {v.width}x{v.height}, {rate}{turned}, {v.pixel_format}")
        if self.audio:
            a = self.audio
            tongue = f", {a.language}" if a.language else ""
            lines.append(f"  audio {a.codec} {a.sample_rate} Hz, {a.channels} channels, from {a.start:.3f} s{tongue}")
        return "\n".join(lines)


@contextmanager
def open_media(path: str | Path) -> Iterator[av.container.InputContainer]:
    """Open a file for reading; every failure of FFmpeg becomes a MediaError that names the file."""
    path = Path(path)
    if path.is_dir():
        raise MediaError(f"{path} is a folder, not a media file")
    if not path.exists():
        raise MediaError(f"{path} does not exist")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except av.error.FFmpegError as error:
        raise MediaError(f"{path} is not a media file that can be read: {error.strerror}") from error
    try:
        yield container
    except av.error.FFmpegError as error:
        raise MediaError(f"{path} cannot be decoded: {error.strerror}") from error
    finally:
        container.close()


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first picture stream that is not a cover image."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    return None


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """The sound stream that FFmpeg deems best."""
    stream = container.streams.best("audio")
    return stream if stream is not None and stream.codec_context is not None else None


def _times(stream: av.stream.Stream, container: av.container.InputContainer) -> tuple[float, float]:
    base = stream.time_base or 0
    start = float(stream.start_time * base) if stream.start_time is not None else 0.0
    if stream.duration:
        return start, float(stream.duration * base)
    return start, (container.duration or 0) / av.time_base


def _varies(container: av.container.InputContainer, stream: av.VideoStream) -> bool | None:
    times = []
    for packet in container.demux(stream):
        if packet.pts is not None:
            times.append(packet.pts)
        if len(times) >= _PACKETS:
            break
    times.sort()
    gaps = [b - a for a, b in pairwise(times)]
    if len(gaps) < 3:
        return None
    # Ticks of a coarse time base make gaps differ by one; a doubled or missing frame is more.
    middle = sorted(gaps)[len(gaps) // 2]
    return any(abs(gap - middle) > max(2, 0.3 * middle) for gap in gaps)


def _describe_video(container: av.container.InputContainer, stream: av.VideoStream) -> VideoStream:
    frame = next(container.decode(stream), None)
    if frame is None:
        raise MediaError(f"{container.name}: the picture stream holds no frame")
    rotation = int(round(frame.rotation / 90) * 90) % 360
    width, height = display_size(frame, stream.sample_aspect_ratio)
    start, duration = _times(stream, container)
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or 25
    container.seek(0)
    return VideoStream(
        stream.index, stream.codec_context.name, width, height, float(rate),
        _varies(container, stream), start, duration, rotation, frame.format.name,
    )  # fmt: skip


def display_size(frame: av.VideoFrame, aspect: object) -> tuple[int, int]:
    """Width and height of a frame with square pixels, rotated for display."""
    ratio = float(aspect) if aspect else 1.0
    width, height = max(round(frame.width * ratio), 1), frame.height
    return (height, width) if round(frame.rotation / 90) % 2 else (width, height)


def probe(path: str | Path) -> MediaInfo:
    """Look into a media file.

    Returns:
        Its streams; ``video`` or ``audio`` is None where the file has none.

    Raises:
        MediaError: the file is missing, a folder, no media, or its picture holds no frame.
    """
    with open_media(path) as container:
        sound, picture = audio_stream(container), video_stream(container)
        audio = video = None
        if sound is not None and sound.codec_context.sample_rate:
            start, duration = _times(sound, container)
            audio = AudioStream(
                sound.index, sound.codec_context.name, sound.codec_context.sample_rate,
                sound.codec_context.channels, start, duration, sound.language,
            )  # fmt: skip
        if picture is not None:
            video = _describe_video(container, picture)
        if video is None and audio is None:
            raise MediaError(f"{path} holds neither picture nor sound")
        start = video.start if video else audio.start
        duration = max(s.duration + s.start for s in (video, audio) if s) - start
        return MediaInfo(str(path), container.format.name, start, duration, video, audio)
