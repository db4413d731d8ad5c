"""Opening a media file, or one that lies within another, and choosing its streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.container
import av.stream
import numpy as np

from avlearn.errors import MediaError, NoAudioError

# Containers whose headers say all that decoding needs.
_TOLD = (".mp4", ".m4v", ".mov", ".m4a")
_MOST_CHANNELS = 64  # FFmpeg's decoders have no more; a header that says so is damaged
# Frames a second that a header is believed: containers without a rate state their clock's ticks, damaged ones anything.
_SLOWEST, _FASTEST = 1e-4, 250.0


@dataclass(frozen=True)
class Slice:
    """A file within another, like a member of an uncompressed tar: ``bytes`` bytes from ``offset`` on."""

    path: Path
    offset: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.path} (at byte {self.offset})"


@dataclass(frozen=True)
class Selected:
    """A file of which one audio track is listened to, or one channel of it.

    Attributes:
        path: of the file.
        track: which audio track, counted from 1; None: the one that FFmpeg deems best.
        channel: ``left``, ``right``, ``mix`` (the mean of all), or a number from 1; None: all of them.
    """

    path: str | Path | Slice
    track: int | None = None
    channel: int | Literal["left", "right", "mix"] | None = None

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def check_channels(self, count: int) -> None:
        """Raise MediaError if a track of ``count`` channels lacks the selected one."""
        if self.channel not in (None, "mix") and not 1 <= self._number() <= count:
            held = f"{count} channel{'s' * (count != 1)}"
            raise MediaError(f"{self.path}: its audio track has {held}, there is no channel '{self.channel}'")

    def channel_of(self, audio: np.ndarray) -> np.ndarray:
        """The channel ``[1, S]`` of all ``[C, S]``; all of them where none is selected."""
        if self.channel is None:
            return audio
        if self.channel == "mix":
            return audio.mean(0, keepdims=True)
        self.check_channels(len(audio))
        return audio[self._number() - 1 : self._number()]

    def _number(self) -> int:
        return {"left": 1, "right": 2}.get(self.channel, self.channel)


Source = str | Path | Slice | Selected


@contextmanager
def open_media(source: Source, *, quick: bool = False) -> Iterator[av.container.InputContainer]:
    """Open a file for reading; every failure of FFmpeg becomes a MediaError that names the file.

    Args:
        source: the file.
        quick: leave out decoding a few frames to learn of facts that an MP4 or MOV states in its header
            (two thirds of the cost of opening one); the pixel format is then unknown until a frame is decoded.
    """
    source = source.path if isinstance(source, Selected) else source
    sliced = isinstance(source, Slice)
    path = str(source.path if sliced else source)
    # "file:" keeps FFmpeg from taking a name with a colon for a protocol.
    name = f"subfile,,start,{source.offset},end,{source.offset + source.bytes},,:{path}" if sliced else f"file:{path}"
    container = None
    try:
        quick = quick and (sliced or path.lower().endswith(_TOLD))
        container = av.open(name, metadata_errors="ignore", options={"codec_whitelist": "none"} if quick else {})
        if quick and not _told(container):
            container.close()
            container = av.open(name, metadata_errors="ignore")
    except av.error.FFmpegError as error:
        if Path(path).is_dir():
            raise MediaError(f"{path} is a folder, not a media file") from None
        if not Path(path).exists():
            raise MediaError(f"{path} does not exist") from None
        raise MediaError(f"{source} is not a media file that can be read: {error.strerror}") from error
    try:
        yield container
    except av.error.FFmpegError as error:
        raise MediaError(f"{source} cannot be decoded: {error.strerror}") from error
    except IndexError as error:
        # PyAV, when a stream turns up that the beginning of the file does not announce.
        raise MediaError(f"{source} cannot be decoded: its streams change on the way") from error
    finally:
        # Without it container and streams wait for the garbage collector, with the file open.
        container.close()


def _told(container: av.container.InputContainer) -> bool:
    """Whether the header states what a decoder and a reader must know."""
    sounds = (s.codec_context for s in container.streams.audio)
    pictures = (s.codec_context for s in container.streams.video)
    return (
        "mov" in container.format.name
        and all(c is not None and c.sample_rate and c.channels for c in sounds)
        and all(c is not None and c.width for c in pictures)
    )


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first picture stream that is not a cover image and that can be decoded."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None:
            stream.codec_context.thread_count = 1
            return stream
    return None


def frame_rate(stream: av.VideoStream) -> float | None:
    """Frames a second by the header; None where it says nothing that could be true."""
    stated = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return next((rate for rate in stated if _SLOWEST <= rate <= _FASTEST), None)


def audio_stream(container: av.container.InputContainer, source: Source | None = None) -> av.AudioStream | None:
    """The sound stream that ``source`` selects, else the one that FFmpeg deems best.

    Raises:
        NoAudioError: there is no track of the selected number.
    """
    stream = container.streams.best("audio")
    if isinstance(source, Selected) and source.track is not None:
        tracks = container.streams.audio
        if not 1 <= source.track <= len(tracks):
            held = "no audio track" if not tracks else f"{len(tracks)} audio track{'s' * (len(tracks) != 1)}"
            raise NoAudioError(f"{source} has {held}: there is no number {source.track}")
        stream = tracks[source.track - 1]
    if stream is None or stream.codec_context is None or stream.codec_context.channels > _MOST_CHANNELS:
        return None
    return stream
