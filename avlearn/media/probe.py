"""The description of a media file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, TypedDict

import av
import av.container
import av.stream

from avlearn.errors import MediaError, NoVideoError
from avlearn.files import printable
from avlearn.media.aspect import pixel_aspect, repaired
from avlearn.media.clock import clock_of, demuxed, file_name, stream_ends
from avlearn.media.rgb import displayed
from avlearn.media.source import (
    FASTEST,
    Selected,
    Source,
    audio_stream,
    found_once,
    frame_rate,
    is_cover,
    open_media,
    video_stream,
)
from avlearn.media.ticks import tick

_PACKETS = 300  # looked at to tell whether the frame rate varies
_MOST_PACKETS = 3_000  # of video, in which a frame must be found
_LEAP = 600.0  # seconds that no frame and no pause lasts
_BYTES_A_SECOND, _STILL = 10, 60.0  # a packet of silence each 20 ms takes 150; a still image lasts without any
_CUT_SHORT = 0.5  # seconds by which a stream may end before its header says
_PADDING = 0.25  # seconds by which a header and the last packet may differ


@dataclass(frozen=True)
class VideoStream:
    """A video stream: width and height as displayed (rotated, square pixels); times in seconds.

    ``duration`` is what the packets bear out, ``stated`` what the header says (0: nothing).
    """

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
    interlaced: bool
    stated: float = 0.0


@dataclass(frozen=True)
class AudioStream:
    """An audio stream; times in seconds (as of a `VideoStream`), the rate in samples a second."""

    index: int
    codec: str
    sample_rate: int
    channels: int
    start: float
    duration: float
    language: str | None
    stated: float = 0.0


@dataclass(frozen=True)
class TrackInfo:
    """A video or audio stream of a file, read or not.

    Attributes:
        kind: "video" or "audio".
        number: among the file's streams of this kind, from 1 on: what ``Selected.track`` means.
        index: among all streams of the file.
        channels, sample_rate: of audio, else 0.
        cover: a cover image or thumbnails, which are never read as video.
        used: whether it is the one that is read.
        why: why it is.
    """

    kind: str
    number: int
    index: int
    codec: str
    language: str | None
    title: str | None
    channels: int
    sample_rate: int
    default: bool
    cover: bool
    used: bool
    why: str

    def text(self) -> str:
        """Human-readable text."""
        form = f" {self.sample_rate} Hz, {_channels(self.channels)}" if self.kind == "audio" else ""
        said = [form, self.language, printable(self.title) if self.title else None, "cover" if self.cover else None]
        named = f"{self.kind} track {self.number}: {self.codec}" + ", ".join(s for s in said if s)
        return f"{named}, used ({self.why})" if self.used else named


@dataclass(frozen=True)
class MediaInfo:
    """A file: ``start`` is the instant of its first frame (first sample, without video), seconds.

    ``video`` and ``audio`` are the streams that are read; ``others`` names the rest; ``tracks`` lists every video and
    audio stream.
    """

    path: str
    container: str
    start: float
    duration: float
    video: VideoStream | None
    audio: AudioStream | None
    others: tuple[str, ...] = ()
    tracks: tuple[TrackInfo, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"schema": "avlearn.probe/1", **asdict(self)}

    def text(self) -> str:
        """Human-readable text."""
        lines = [f"{printable(self.path)}: {self.container}, {self.duration:.2f} s from {self.start:.2f} s"]
        if self.video:
            v = self.video
            rate = f"{v.fps:.2f} fps" + (", variable" if v.variable_fps else "")
            turned = f", rotated {v.rotation} degrees" if v.rotation else ""
            laced = ", interlaced" if v.interlaced else ""
            lines.append(f"  video {v.codec} {v.width}x{v.height}, {rate}{turned}, {v.pixel_format}{laced}")
        if self.audio:
            a = self.audio
            tongue = f", {a.language}" if a.language else ""
            lines.append(f"  audio {a.codec} {a.sample_rate} Hz, {_channels(a.channels)}, from {a.start:.3f} s{tongue}")
        if len(self.tracks) > sum(stream is not None for stream in (self.video, self.audio)):
            lines += [f"  {track.text()}" for track in self.tracks]
        for kind, stream in (("video", self.video), ("audio", self.audio)):
            if stream and stream.stated > stream.duration + _CUT_SHORT:
                lines.append(f"  the {kind} ends after {stream.duration:.2f} s, its header says {stream.stated:.2f} s")
        lines += [f"  also  {other}" for other in self.others if not other.startswith(("video", "audio"))]
        return "\n".join(lines)


class _Times(TypedDict):
    start: float
    duration: float
    stated: float


def _channels(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}"


def _times(container: av.container.InputContainer, streams: list[av.stream.Stream]) -> dict[int, _Times]:
    """Times of each stream by index, seconds: those of the header where the packets bear them out."""
    spans = clock_of(container).spans
    ends = {} if spans else stream_ends(container, streams)
    found: dict[int, _Times] = {}
    for stream in streams:
        base = stream.time_base or 0
        start, stated = float((stream.start_time or 0) * base), float((stream.duration or 0) * base)
        start, end = spans.get(stream.index, (start, ends.get(stream.index, start)))
        if end < start - _PADDING:
            name = printable(file_name(container))
            raise MediaError(f"{name} is damaged: its {stream.type} begins at {start:.2f} s and ends at {end:.2f} s")
        # Encoders pad the last packet of audio, which the header takes off again.
        borne_out = stated > 0 and abs(end - start - stated) < _PADDING
        found[stream.index] = {
            "start": start,
            "duration": stated if borne_out else max(end - start, 0.0),
            "stated": stated,
        }
    return found


def _look(container: av.container.InputContainer, stream: av.VideoStream) -> tuple[av.VideoFrame, list[int]]:
    """The first frame that can be decoded, and the stamps of the first frames in order."""
    frame: av.VideoFrame | None = None
    stamps: list[int] = []
    known: int | None = None
    for number, packet in enumerate(demuxed(container, [stream])):
        if packet.pts is not None and not packet.is_discard:
            stamps.append(packet.pts)
        if frame is None and number > _MOST_PACKETS:
            break
        if frame is None:
            try:
                frame = next(iter(stream.decode(repaired(packet))), None)
            except (av.error.InvalidDataError, av.error.EOFError):
                continue
        if frame is not None and len(stamps) >= _PACKETS:
            known = packet.dts  # frames that are shown later may have others before them yet
            break
    if frame is None:
        raise NoVideoError(f"{printable(file_name(container))}: the video stream holds no frame")
    return frame, sorted(stamp for stamp in stamps if known is None or stamp <= known)


def _varies(stamps: list[int]) -> bool | None:
    gaps = [b - a for a, b in pairwise(stamps)]
    if len(gaps) < 3:
        return None
    # Ticks of a coarse time base make gaps differ by one; a doubled or missing frame is more.
    middle = sorted(gaps)[len(gaps) // 2]
    return any(abs(gap - middle) > max(2, 0.3 * middle) for gap in gaps)


def _describe_video(container: av.container.InputContainer, stream: av.VideoStream) -> VideoStream:
    frame, stamps = _look(container, stream)
    rate = frame_rate(stream)
    if rate is None and len(stamps) > 1 and stamps[-1] > stamps[0]:
        rate = min((len(stamps) - 1) / float((stamps[-1] - stamps[0]) * tick(stream)), FASTEST)
    return VideoStream(
        stream.index, stream.codec_context.name, *displayed(frame, pixel_aspect(stream)), rate or 25.0,
        _varies(stamps), 0.0, 0.0, round(frame.rotation / 90) * 90 % 360, frame.format.name,
        frame.interlaced_frame,
    )  # fmt: skip


def _check_clock(path: Source, streams: list[VideoStream | AudioStream], size: int) -> None:
    """Refuse stamps that cannot be true: frames that last for ever, streams that never meet, seconds without a byte."""
    for stream in streams:
        if stream.duration > _STILL + size / _BYTES_A_SECOND:
            raise MediaError(f"{printable(path)} is damaged: {stream.duration:.0f} s cannot lie in {size} bytes")
        if isinstance(stream, VideoStream) and stream.fps * _LEAP < 1:
            raise MediaError(f"{printable(path)} is damaged: each of its frames would last {1 / stream.fps:.0f} s")
    pause = max(s.start for s in streams) - min(s.start + s.duration for s in streams)
    if pause > _LEAP:
        raise MediaError(f"{printable(path)} is damaged: its video and audio lie {pause:.0f} s apart")


def _name(stream: av.stream.Stream) -> str:
    return f"{stream.type} {_codec(stream)}" + (f" ({printable(stream.language)})" if stream.language else "")


def _codec(stream: av.stream.Stream) -> str:
    return stream.codec_context.name if stream.codec_context is not None else "unknown"


def _tracks(container: av.container.InputContainer, used: Sequence[int], selected: bool) -> tuple[TrackInfo, ...]:
    """All video and audio streams; ``used`` are the indices of those that are read."""
    found = []
    kinds: tuple[tuple[str, Sequence[av.stream.Stream]], ...] = (
        ("video", container.streams.video), ("audio", container.streams.audio),
    )  # fmt: skip
    for kind, streams in kinds:
        for number, stream in enumerate(streams, 1):
            context = stream.codec_context if isinstance(stream, av.AudioStream) else None
            default = bool(stream.disposition & av.stream.Disposition.default)
            why = "the only one" if len(streams) == 1 else "the first that is no cover"
            if kind == "audio" and len(streams) > 1:
                why = "FFmpeg's choice, by flags, programme and channels" if not selected else "selected"
            info = TrackInfo(
                kind, number, stream.index, _codec(stream), stream.language, stream.metadata.get("title"),
                context.channels if context else 0, context.sample_rate if context else 0, default,
                kind == "video" and is_cover(stream), stream.index in used, why if stream.index in used else "",
            )  # fmt: skip
            found.append(info)
    return tuple(found)


def probe(path: Source) -> MediaInfo:
    """Look into a media file.

    Returns:
        Its streams; ``video`` or ``audio`` is None where the file has none.

    Raises:
        MediaError: the file is missing, a folder, no media, or its video holds no frame.
    """
    return found_once(path, "info", lambda: _probed(path))


def _probed(path: Source) -> MediaInfo:
    with open_media(path, failure=" cannot be probed") as container:
        audio_track, video_track = audio_stream(container, path), video_stream(container)
        audio = video = None
        if audio_track is not None and audio_track.codec_context.sample_rate:
            audio = AudioStream(
                audio_track.index, audio_track.codec_context.name, audio_track.codec_context.sample_rate,
                1 if isinstance(path, Selected) and path.channel is not None else audio_track.codec_context.channels,
                0.0, 0.0, audio_track.language,
            )  # fmt: skip
        if video_track is not None:
            video = _describe_video(container, video_track)
        infos = [info for info in (video, audio) if info is not None]
        if not infos:
            raise MediaError(f"{printable(path)} holds neither video nor audio")
        used = [info.index for info in infos]
        times = _times(container, [container.streams[index] for index in used])
        video = video and replace(video, **times[video.index])
        audio = audio and replace(audio, **times[audio.index])
        infos = [info for info in (video, audio) if info is not None]
        _check_clock(path, infos, container.size)
        start = infos[0].start
        duration = max(info.start + info.duration for info in infos) - start
        others = tuple(_name(s) for s in container.streams if s.index not in used)
        tracks = _tracks(container, used, isinstance(path, Selected) and path.track is not None)
        return MediaInfo(str(path), container.format.name, start, duration, video, audio, others, tracks)
