"""A file that is copied: what its streams' clocks say, and which of its audio tracks moves."""

import math
from dataclasses import dataclass

import av

from avlearn.errors import NoAudioError, NoVideoError
from avlearn.media.containers import Container
from avlearn.media.decode_audio import hidden_until
from avlearn.media.decode_video import is_untimed
from avlearn.media.probe import probe
from avlearn.media.selection import track_number
from avlearn.media.source import Selected, Source, audio_stream, file_of, video_stream
from avlearn.media.stamps import frame_times, presentation_stamps
from avlearn.media.ticks import stated_start


@dataclass(frozen=True)
class Original:
    """A file that is copied.

    Attributes:
        path, file: as given, and without what is selected of it.
        container, video: open, and the stream that is shown.
        origin: seconds, the video's first frame; ``begin``: of what comes first in the file.
        untimed: whether the video's packets are stamped in order of decoding only.
        presented: stamps of presentation by those of decoding, where the packets do not tell
            (see `presentation_stamps`).
    """

    path: Source
    file: Source
    container: av.container.InputContainer
    video: av.VideoStream
    origin: float
    begin: float
    untimed: bool
    presented: dict[int, int] | None

    def track(self, stream: av.AudioStream) -> Selected:
        """An audio stream as a source of its own."""
        return Selected(self.file, list(self.container.streams.audio).index(stream) + 1)


def read_original(path: Source, container: av.container.InputContainer, kind: Container) -> Original:
    """What an open file's clocks say, as a container of a kind needs it.

    Raises:
        NoVideoError: nothing in it is shown.
        OutputError: it cannot be told when its frames are shown.
    """
    video = video_stream(container)
    if video is None:
        raise NoVideoError(f"{path} has no video")
    # Without stamps of presentation, nothing that an edit list hides can stay hidden.
    origin = probe(path).start if kind.starts else min(frame_times(path, hidden=True), default=0.0)
    starts = [float(stated_start(s)) for s in container.streams.audio if s.start_time is not None]
    return Original(
        path=path,
        file=file_of(path),
        container=container,
        video=video,
        origin=origin,
        begin=min([origin, *starts]),
        untimed=is_untimed(container, video),
        presented=None if kind.format == "avi" else presentation_stamps(path),
    )


@dataclass(frozen=True)
class Move:
    """Delay and drift of one audio track of a file.

    Attributes:
        index: of its stream; None where none is moved. ``number``: of the track, from 1.
        delay: seconds by which it plays later.
        drift: seconds a second by which that delay grows.
        hidden: seconds before which an edit list hides its audio.
    """

    index: int | None = None
    number: int | None = None
    delay: float = 0.0
    drift: float = 0.0
    hidden: float = -math.inf

    def of(self, stream: av.stream.Stream) -> tuple[float, float]:
        """Delay and drift of a stream: zero for all but one."""
        return (self.delay, self.drift) if stream.index == self.index else (0.0, 0.0)


def move_of(original: Original, delay: float, drift: float) -> Move:
    """The move of the file's selected audio track, or of its only one.

    Raises:
        NoAudioError: there is none that could be moved.
    """
    stream = audio_stream(original.container, original.path)
    if stream is None:
        if delay or drift:
            raise NoAudioError(f"{original.path} has no audio track")
        return Move()
    hidden = hidden_until(original.container, stream)
    return Move(stream.index, track_number(original.path), delay, drift, hidden)
