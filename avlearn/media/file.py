"""A media file for people: opened once, and asked for whatever is wanted of it."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np

from avlearn.errors import NoVideoError, WindowError
from avlearn.media.clip import NO_VIDEO, Clip, Window
from avlearn.media.open_file import Content, OpenFile
from avlearn.media.probe import MediaInfo, probe
from avlearn.media.reader import ClipReader
from avlearn.media.rgb import Size
from avlearn.media.source import Channel, Selected, Source, file_of
from avlearn.media.stream import stream

_A_FRAME = 0.04  # seconds of a window that one frame is read by: how far before the first frame that is still shown


class MediaFile(Selected):
    """A media file that is opened once, and read as often as is wanted.

    Whatever takes a file takes a `MediaFile`: `avlearn.probe`, `ClipReader`, `avlearn.stream`, `avlearn.sync_file`
    and the other tools. All that is read of it is, to the bit, what a path gives.

    The bytes are opened at once, and probed when that is first needed; what was found is kept. Every read has an FFmpeg
    context of its own over these bytes, since decoders that are rewound do not all give the same samples again. So it
    may be used from several threads at a time. A process that gets one pickled, or by a fork, opens its path anew;
    bytes and file objects are refused there.

    Example::

        with MediaFile("clip.mp4") as file:
            video, audio = file[2.0:4.0].tensor()  # uint8 [T, 3, H, W], float32 [C, S]
            shown = file.frames([0.5, 1.0, 1.5])  # uint8 [3, H, W, 3]

    Args:
        source: a path, a `Slice` of one, bytes, a binary file object that can be sought (it is not closed with this),
            or an address such as ``s3://bucket/clip.mp4``, of which only what is read is fetched (fsspec, the extra
            ``remote``, opens it).
        track: which audio track, counted from 1; by default the one that FFmpeg deems best.
        channel: ``left``, ``right``, ``mix`` (the mean of all), or a number from 1; all of them by default.

    Raises:
        MediaError: it is missing, a folder, or cannot be sought; or (when it is read) it is closed, or cannot be read.
    """

    def __init__(
        self,
        source: Content | Source,
        *,
        track: int | None = None,
        channel: Channel | None = None,
    ):
        if isinstance(source, Selected):
            track, channel = track or source.track, channel or source.channel
        content = file_of(source) if isinstance(source, Selected | OpenFile) else source
        super().__init__(content if isinstance(content, OpenFile) else OpenFile(content), track, channel)

    def __reduce__(self) -> tuple[Callable[..., "MediaFile"], tuple[object, ...]]:
        return _selected, (self.path, self.track, self.channel)

    def __repr__(self) -> str:
        return f"MediaFile({str(self)!r})"

    def __enter__(self) -> "MediaFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        file = file_of(self)
        assert isinstance(file, OpenFile)
        file.close()

    @property
    def info(self) -> MediaInfo:
        """What it holds, as `avlearn.probe` has it."""
        return probe(self)

    @property
    def duration(self) -> float:
        """Seconds from its first frame (without video, its first sample) to its end."""
        return self.info.duration

    @property
    def fps(self) -> float | None:
        """Frames a second, on average; None without video."""
        return self.info.video.fps if self.info.video else None

    def __getitem__(self, span: slice) -> Clip:
        """The clip between two instants, exact by presentation time: ``file[2.0:4.0]``.

        Seconds are those of the file's own clock, as in `avlearn.read_clip`; without a begin it starts with the file's
        first frame, without an end it goes to the file's. A video without audio, or audio without video, gives a clip
        without.

        Raises:
            WindowError: it lies outside the file, or does not last.
            MediaError: it cannot be read there.
        """
        if not isinstance(span, slice) or span.step is not None:
            raise TypeError("a file is indexed by two instants, in seconds: file[2.0:4.0]")
        info = self.info
        begin = info.start if span.start is None else float(span.start)
        end = info.start + info.duration if span.stop is None else float(span.stop)
        return self.clips([(begin, end)])[0]

    def clips(
        self,
        windows: Sequence[Window | tuple[float, float]],
        *,
        fps: float | None = None,
        size: Size = None,
        sample_rate: int | None = None,
        mono: bool = False,
    ) -> list[Clip]:
        """Several clips in one pass over the file, in the order in which they are asked for.

        Args:
            windows: of each the begin and the end, seconds on the file's own clock; or a `Window`, which can be
                cropped and have more audio than video.
            fps, size, sample_rate, mono: as for a `ClipReader`.

        Returns:
            Video uint8 ``[T, H, W, 3]`` and audio float32 ``[C, S]`` of each, whichever the file has.

        Raises:
            WindowError: one lies outside the file, or does not last.
            MediaError: the file cannot be read there.
        """
        wanted = [w if isinstance(w, Window) else Window(w[0], w[1] - w[0]) for w in windows]
        info = self.info
        reader = ClipReader(
            fps=fps, size=size, sample_rate=sample_rate, mono=mono,
            video=info.video is not None, audio=info.audio is not None,
        )  # fmt: skip
        return reader.read(self, wanted)

    def frames(self, times: Sequence[float] | np.ndarray, *, size: Size = None) -> np.ndarray:
        """The frames that are shown at given instants, in that order, in one pass over the file.

        Args:
            times: seconds on the file's own clock, in any order.
            size: short side in pixels, or (height, width); the file's own by default.

        Returns:
            uint8 ``[T, H, W, 3]``.

        Raises:
            NoVideoError: there is no video.
            WindowError: an instant lies outside it.
            MediaError: the file cannot be read there.
        """
        video = self.info.video
        if video is None:
            raise NoVideoError(f"{self} has no video")
        if not len(times):
            return NO_VIDEO
        windows = [Window(float(time), _A_FRAME) for time in times]
        reader = ClipReader(frames=1, size=size or (video.height, video.width), audio=False)
        found = [clip.video for clip in reader.read(self, windows)]
        for time, frames in zip(times, found, strict=True):
            if not len(frames):
                raise WindowError(f"{self} shows no frame at {float(time):.2f} s")
        return np.concatenate(found)

    def stream(
        self,
        window: float,
        hop: float,
        *,
        fps: float | None = None,
        size: int | None = None,
        sample_rate: int | None = None,
        mono: bool = False,
    ) -> Iterator[Clip]:
        """All of the file in overlapping windows, in constant memory: see `avlearn.stream`.

        Args:
            window, hop: seconds.
            fps, size, sample_rate, mono: as there.

        Yields:
            Clips of whichever the file has, video or audio.

        Raises:
            MediaError: the file cannot be read.
        """
        info = self.info
        yield from stream(
            self, window, hop, fps=fps, size=size, sample_rate=sample_rate, mono=mono,
            video=info.video is not None, audio=info.audio is not None,
        )  # fmt: skip


def _selected(file: OpenFile, track: int | None, channel: Channel | None) -> MediaFile:
    return MediaFile(file, track=track, channel=channel)
