"""Windows of one file on their way to clips: what is wanted of which track, and whether it came."""

from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np

from avlearn.errors import MediaError, WindowError
from avlearn.media.clip import NO_AUDIO, NO_VIDEO, Clip, Window
from avlearn.media.rgb import Size
from avlearn.media.source import Source
from avlearn.media.track import Track
from avlearn.media.window_frames import WindowFrames
from avlearn.media.window_samples import WindowSamples

_JUMP = 10.0  # seconds between windows from which seeking is cheaper than reading on
_CUT_SHORT = 0.5  # seconds by which a stream may end before its header says


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a file's windows: the arguments of a `ClipReader`."""

    fps: float | None
    frames: int | None
    size: Size
    sample_rate: int | None
    mono: bool


class Reading:
    """Windows of one file, and the parts that read their video and audio.

    Args:
        source: the file.
        windows: of the file.
        wanted: of each of them.
        video, audio: its tracks, where they are wanted.
        average: frames a second of the video where ``wanted`` does not say.

    Attributes:
        clips: of the windows, in their order.
        frames, samples: the parts; None where a track is not wanted.
        ended: whether the kept packets go to the end of the file.

    Raises:
        WindowError: a window does not last, or holds no frame.
    """

    def __init__(
        self,
        source: Source,
        windows: Sequence[Window],
        wanted: Wanted,
        video: Track[av.VideoCodecContext] | None,
        audio: Track[av.AudioCodecContext] | None,
        average: float,
    ):
        self.source, self.windows = source, list(windows)
        self.clips: list[Clip] = []
        instants: list[np.ndarray] = []
        for window in self.windows:
            fps = wanted.frames / window.duration if wanted.frames and window.duration else wanted.fps or average
            count = round(window.duration * fps) if video is not None else 0
            if window.duration <= 0:
                raise WindowError(f"a window cannot last {window.duration:g} s")
            if video is not None and not count:
                raise WindowError(f"a window of {window.duration:g} s holds no frame at {fps:g} a second")
            instants.append(window.start + np.arange(count) / fps if count else np.zeros(0))
            self.clips.append(
                Clip(NO_VIDEO, NO_AUDIO, fps, wanted.sample_rate or 0, window.start, before=window.before)
            )
        self.frames = self.samples = None
        if video is not None:
            self.frames = WindowFrames(video, self.windows, instants, self.clips, wanted.size)
        if audio is not None:
            self.samples = WindowSamples(audio, source, self.windows, self.clips, wanted.sample_rate, wanted.mono)
        self.ended = False

    def decode(self) -> list[Clip]:
        """The clips, from the packets that were kept.

        Raises:
            NoPlanError: they do not give the frames that they should.
            WindowError, MediaError: as `checked`; or the audio of a window is damaged.
        """
        if self.frames:
            self.frames.decode(self.ended)
        if self.samples:
            self.samples.decode()
        return self.checked()

    def reach(self, k: int) -> tuple[float, float]:
        """Seconds from the first to the last packet that a window needs."""
        spans: list[tuple[float, float]] = []
        if self.frames and len(instants := self.frames.instants[k]):
            spans.append((instants[0], instants[-1]))
        if self.samples:
            begin, end = self.samples.span(k)
            spans.append((begin - self.samples.lead, end))
        return min(begin for begin, _ in spans), max(end for _, end in spans)

    def groups(self) -> list[list[int]]:
        """Windows near one another, in the order of the file."""
        groups: list[list[int]] = []
        end = -np.inf
        for k in sorted(range(len(self.windows)), key=lambda k: self.reach(k)[0]):
            low, high = self.reach(k)
            if not groups or low > end + _JUMP:
                groups.append([])
            groups[-1].append(k)
            end = max(end, high)
        return groups

    def span_of_frames(self, group: list[int]) -> tuple[float, float]:
        """Ticks of the video after which no frame may be the first, and none need be kept."""
        video = self.frames
        if video is None:
            return 0.0, 0.0
        first, last = min(video.instants[k][0] for k in group), max(video.instants[k][-1] for k in group)
        return (first + video.slack) / video.tick, (last + video.slack) / video.tick

    def span_of_samples(self, group: list[int]) -> tuple[float, float]:
        """Seconds of audio to keep."""
        audio = self.samples
        if audio is None:
            return 0.0, 0.0
        spans = [audio.span(k) for k in group]
        return min(begin for begin, _ in spans) - audio.lead, max(end for _, end in spans)

    def checked(self) -> list[Clip]:
        """The clips, cut to the frames that there are.

        Raises:
            WindowError, MediaError: a window lies outside the file, or the file ends before its header says.
        """
        for k, (window, clip) in enumerate(zip(self.windows, self.clips, strict=True)):
            at = f"the window at {window.start:.2f} s of {window.duration:.2f} s"
            if self.frames:
                track, instants = self.frames.track, self.frames.instants[k]
                count = len(clip.times) - int(np.isnan(clip.times).sum())
                clip.video, clip.times = clip.video[:count], clip.times[:count]
                if count < round(window.duration * clip.fps):
                    self._refuse_cut_short(track, window.start + count / clip.fps, at)
                if not count or (len(instants) and window.start + window.duration <= track.start):
                    raise WindowError(f"{at} lies outside the video of {self.source}")
            if self.samples and self.ended and self.samples.packets:
                pts, last = self.samples.packets[-1]
                end = (pts + (last.duration or 0)) * self.samples.tick
                if window.start + window.duration > end + _CUT_SHORT:
                    self._refuse_cut_short(self.samples.track, end, at)
            if self.samples and not self.frames and not clip.audio.any() and not self.samples.overlaps(window):
                raise WindowError(f"{at} lies outside the audio of {self.source}")
        return self.clips

    def _refuse_cut_short(
        self, track: Track[av.VideoCodecContext] | Track[av.AudioCodecContext], end: float, at: str
    ) -> None:
        if track.end is not None and track.end > end + _CUT_SHORT:
            raise MediaError(
                f"{self.source} is cut short: its {track.kind} ends at {end:.2f} s, "
                f"its header says {track.end:.2f} s ({at})"
            )
