"""Opening a media file, or one that lies within another, and choosing its streams."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar, cast

import av
import av.container
import av.stream
import cv2
import numpy as np

from avlearn.errors import AvlearnError, MediaError, NoAudioError
from avlearn.files import is_file, printable
from avlearn.media.aspect import repair_header
from avlearn.media.boxes import check_boxes, check_header
from avlearn.media.open_file import OpenFile, Slice, is_remote, what_else
from avlearn.media.playlists import ONE_FILE

# Containers whose headers say all that decoding needs.
_TOLD = (".mp4", ".m4v", ".mov", ".m4a")
_MOST_CHANNELS = 64  # FFmpeg's decoders have no more; a header that says so is damaged
_MOST_SAMPLES = 16 * 768_000  # a second, of all channels together
# Frames a second that a header may state: containers without a rate state their clock's ticks, damaged ones anything.
_SLOWEST, FASTEST = 1e-4, 250.0
_MOST_PIXELS = 1 << 26  # of a frame: 8192 x 8192
_PIXELS_A_BYTE = 1 << 13  # of a file: a black frame of 4096 x 2160 takes a kilobyte, with its headers more
# What PyAV, NumPy, OpenCV, soxr and the allocator raise where a file holds what they did not expect. They are foreign
# code that strangers' bytes reach: no narrower list holds.
_FOREIGN = (
    av.error.FFmpegError, cv2.error, ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
_COVERS = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails


# Of an audio track: a number from 1, or the mean of all.
Channel = int | Literal["left", "right", "mix"]


@dataclass(frozen=True)
class Selected:
    """A file of which one audio track is listened to, or one channel of it.

    Attributes:
        path: of the file, or the file itself where it is held open. Of a file that is `Selected` itself, what is not
            selected anew is kept.
        track: which audio track, counted from 1; None: the one that FFmpeg deems best.
        channel: ``left``, ``right``, ``mix`` (the mean of all), or a number from 1; None: all of them.
    """

    path: "str | Path | Slice | OpenFile | Selected"
    track: int | None = None
    channel: Channel | None = None

    def __post_init__(self) -> None:
        if isinstance(self.path, Selected):
            given = self.path
            object.__setattr__(self, "track", given.track if self.track is None else self.track)
            object.__setattr__(self, "channel", given.channel if self.channel is None else self.channel)
            object.__setattr__(self, "path", given.path)

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def check_channels(self, count: int) -> None:
        """Raise MediaError if a track of ``count`` channels lacks the selected one."""
        number = self._number()
        if number is not None and not 1 <= number <= count:
            held = f"{count} channel{'s' * (count != 1)}"
            raise MediaError(f"{self.path}: its audio track has {held}, there is no channel '{self.channel}'")

    def channel_of(self, audio: np.ndarray) -> np.ndarray:
        """The channel ``[1, S]`` of all ``[C, S]``; all of them where none is selected."""
        if self.channel == "mix":
            mean: np.ndarray = audio.mean(0, keepdims=True)
            return mean
        self.check_channels(len(audio))
        number = self._number()
        return audio if number is None else audio[number - 1 : number]

    def _number(self) -> int | None:
        """Of the one channel that is selected, from 1."""
        if isinstance(self.channel, int):
            return self.channel
        return {"left": 1, "right": 2}.get(self.channel or "")


P = ParamSpec("P")
T = TypeVar("T")
Source = str | Path | Slice | OpenFile | Selected


def file_of(source: Source) -> str | Path | Slice | OpenFile:
    """The file itself, without what is selected of it."""
    file = source.path if isinstance(source, Selected) else source
    assert not isinstance(file, Selected)  # a selection of a selection is one
    return file


def found_once(source: Source, what: str, find: Callable[[], T]) -> T:
    """What is found out about a file (and what is selected of it), once where it is held open."""
    file, selected = file_of(source), (source.track, source.channel) if isinstance(source, Selected) else (None, None)
    if not isinstance(file, OpenFile):
        return find()
    if (what, *selected) not in file.known:
        file.known[what, *selected] = find()
    found: T = file.known[what, *selected]
    return found


@contextmanager
def opened(source: Source) -> Iterator[Selected]:
    """A file held open for what is done within; where it was held open already, it stays so."""
    file, given = file_of(source), source if isinstance(source, Selected) else Selected(source)
    if isinstance(file, OpenFile):
        yield given
        return
    file = OpenFile(file)
    try:
        yield Selected(file, given.track, given.channel)
    finally:
        file.close()


def opened_once(function: Callable[Concatenate[Source, P], T]) -> Callable[Concatenate[Source, P], T]:
    """Have a function of a file hold it open: all that it calls reads what was opened at its door."""

    @wraps(function)
    def held(path: Source, *args: P.args, **kwargs: P.kwargs) -> T:
        with opened(path) as file:
            return function(file, *args, **kwargs)

    return cast("Callable[Concatenate[Source, P], T]", held)  # its first argument may be named, too


@contextmanager
def boundary(source: Source, failure: str) -> Iterator[None]:
    """Turn whatever foreign code raises within into a MediaError that names the file and the stage.

    Args:
        source: the file.
        failure: what has failed then, after the file's name: " cannot be decoded".
    """
    try:
        yield
    except AvlearnError:
        raise
    except _FOREIGN as error:
        said = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
        said = "there is not memory enough" if isinstance(error, MemoryError) else printable(said.splitlines()[0])
        raise MediaError(f"{printable(source)}{failure}: {said}") from error


@contextmanager
def open_media(
    source: Source, *, quick: bool = False, look: bool = False, failure: str = " cannot be decoded"
) -> Iterator[av.container.InputContainer]:
    """Open a file for reading, within a `boundary`.

    Of an `OpenFile` the bytes are read through it, and a container that was only looked at is handed on. One that
    packets were read from never is: decoders that are rewound do not all give the same samples again.

    Args:
        source: the file.
        quick: leave out decoding a few frames to learn of facts that an MP4 or MOV states in its header
            (two thirds of the cost of opening one); the pixel format is then unknown until a frame is decoded.
        look: only the headers of its streams are looked at.
        failure: as for `boundary`.
    """
    file = file_of(source)
    if is_remote(file):
        with opened(source) as held, open_media(held, quick=quick, look=look, failure=failure) as fetched:
            yield fetched
        return
    container = None
    try:
        with boundary(file, " is not a media file that can be read"):
            container = file.take() if isinstance(file, OpenFile) and not quick else None
            container = container or _open(file, quick)
        with boundary(file, failure):
            yield container
        if look and isinstance(file, OpenFile):
            kept, container = container, None
            file.keep(kept)
    finally:
        # Without it container and streams wait for the garbage collector, with the file open.
        if container is not None:
            container.close()


def _open(file: str | Path | Slice | OpenFile, quick: bool) -> av.container.InputContainer:
    if isinstance(file, OpenFile):
        quick = check_header(file.view(), file, 0, file.size) and quick
        return _opened(file, file.size, quick)
    path = Path(file.path if isinstance(file, Slice) else file)
    if not is_file(path):
        raise MediaError(f"{printable(file)} {what_else(path)}")
    if isinstance(file, Slice):
        check_boxes(path, file.offset, file.bytes)
        name = f"subfile,,start,{file.offset},end,{file.offset + file.bytes},,:{path}"
        return _opened(name, file.bytes, quick)
    # "file:" keeps FFmpeg from taking a name with a colon for a protocol.
    return _opened(f"file:{path}", check_boxes(path), quick and path.suffix.lower() in _TOLD)


def _opened(file: str | OpenFile, size: int, quick: bool) -> av.container.InputContainer:
    if quick:
        container = open_bounded(file, size, {"codec_whitelist": "none"})
        if _told(container):
            return container
        container.close()
    return open_bounded(file, size, {})


def open_bounded(file: str | OpenFile, size: int, options: dict[str, str]) -> av.container.InputContainer:
    """Open a container of ``size`` bytes, its decoders bounded and safe to ask for their channels.

    Args:
        file: FFmpeg's name of it, or a file that is open, which then no other is opened beside.
        size: in bytes.
        options: for FFmpeg.
    """
    most = str(most_pixels(size))
    options = {"max_pixels": most, **ONE_FILE, **options}
    if isinstance(file, OpenFile):
        options["protocol_whitelist"] = "none"
        container = av.open(file.view(), "r", metadata_errors="ignore", options=options, io_open=file.refuse)
    else:
        container = av.open(file, "r", metadata_errors="ignore", options=options)
    for stream in container.streams:
        if stream.codec_context is None:
            continue
        stream.codec_context.thread_count = 1
        if isinstance(stream, av.VideoStream):
            stream.codec_context.options = {"max_pixels": most}
            repair_header(stream.codec_context)
        elif isinstance(stream, av.AudioStream):
            # PyAV 17.1 to 18.1: a layout shares the memory of a custom order of channels with its owner, and both free
            # it. While this one lives the context gets another, so that each is freed once.
            layout = stream.codec_context.layout
            if layout.nb_channels:  # a header may leave their number to the packets: it is then asked for again
                stream.codec_context.layout = standard_layout(layout.nb_channels)
    return container


def most_pixels(size: int) -> int:
    """Of a frame of a file of ``size`` bytes, at most."""
    return max(1 << 20, min(_MOST_PIXELS, size * _PIXELS_A_BYTE))


def held_open(container: av.container.InputContainer) -> OpenFile | None:
    """The file that an open container reads from, where that is held open."""
    return getattr(container.io_open, "__self__", None)


def open_again(container: av.container.InputContainer) -> av.container.InputContainer:
    """Another container of the file that an open one reads."""
    return open_bounded(held_open(container) or container.name, container.size, {})


def standard_layout(channels: int) -> av.AudioLayout:
    """The usual layout of so many channels, in the order in which they are stored."""
    usual = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
    return av.AudioLayout(usual.get(channels, f"{channels} channels"))


def _told(container: av.container.InputContainer) -> bool:
    """Whether the header states what a decoder and a reader must know."""
    audio = (s.codec_context for s in container.streams.audio)
    video = (s.codec_context for s in container.streams.video)
    return (
        "mov" in container.format.name
        and all(c is not None and c.sample_rate and c.channels for c in audio)
        and all(c is not None and c.width for c in video)
    )


def is_cover(stream: av.stream.Stream) -> bool:
    """Whether a video stream is a cover image or a row of thumbnails."""
    return bool(stream.disposition & _COVERS)


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream that can be decoded and is no cover image; one whose size is known comes first."""
    usable = [s for s in container.streams.video if s.codec_context is not None and not is_cover(s)]
    return next((s for s in usable if s.codec_context.width), usable[0] if usable else None)


def frame_rate(stream: av.VideoStream) -> float | None:
    """Frames a second by the header; None where it says nothing that could be true."""
    stated = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return next((rate for rate in stated if _SLOWEST <= rate <= FASTEST), None)


def audio_stream(container: av.container.InputContainer, source: Source | None = None) -> av.AudioStream | None:
    """The audio stream that ``source`` selects, else the one that FFmpeg deems best beside the video stream.

    Returns:
        None where the file has none that can be decoded.

    Raises:
        NoAudioError: there is no track of the selected number, or it cannot be decoded.
    """
    if not isinstance(source, Selected) or source.track is None:
        # Where there are several programmes, of the one that the video belongs to.
        stream = container.streams.best("audio", video_stream(container))
        return stream if isinstance(stream, av.AudioStream) and _is_audio(stream) else None
    tracks = container.streams.audio
    if not 1 <= source.track <= len(tracks):
        held = "no audio track" if not tracks else f"{len(tracks)} audio track{'s' * (len(tracks) != 1)}"
        raise NoAudioError(f"{source} has {held}: there is no number {source.track}")
    if not _is_audio(tracks[source.track - 1]):
        raise NoAudioError(f"{source}: its audio track {source.track} cannot be decoded")
    return tracks[source.track - 1]


def _is_audio(stream: av.AudioStream) -> bool:
    context = stream.codec_context
    if context is None or context.channels > _MOST_CHANNELS:
        return False
    return 0 < context.sample_rate * context.channels <= _MOST_SAMPLES
