"""Windows of a file as arrays: exact to the frame and the sample, decoding no more than they need.

Packets are demuxed once and planned by presentation time; those that nothing needs are dropped before the decoder
sees them, only wanted frames are converted, and only the audio around the windows is decoded. Where a file's
stamps or structure do not allow such a plan, it is decoded in order instead: slower, and as exact.
"""

from collections.abc import Sequence

import av
import av.container
import numpy as np

from avlearn.errors import MediaError, NoAudioError, NoVideoError, WindowError
from avlearn.media.clip import NO_AUDIO, NO_VIDEO, Clip, Window
from avlearn.media.clock import restarts
from avlearn.media.decode_video import is_untimed
from avlearn.media.open_file import is_remote
from avlearn.media.probe import probe
from avlearn.media.rgb import Crop, Size
from avlearn.media.source import Source, audio_stream, file_of, frame_rate, open_media, opened, video_stream
from avlearn.media.ticks import stated_start, tick
from avlearn.media.window_frames import NoPlanError, WindowFrames
from avlearn.media.window_samples import WindowSamples

_JUMP = 10.0  # seconds between windows from which seeking is cheaper than reading on
_BACK = (0.0, 1.0, 5.0)  # seconds to seek further back, until all that a window needs lies ahead
_CUT_SHORT = 0.5  # seconds by which a stream may end before its header says


class ClipReader:
    """Reads windows of files: several windows of one cost one open and one pass.

    The instants of a window are ``start + k / fps``; each shows the last frame presented at or before it (before
    the first frame: the first). Stamps are taken to be rounded to their tick.

    Args:
        fps: frames a second; the file's average by default.
        frames: frames a window, evenly spaced, instead of ``fps``.
        size: short side in pixels, or (height, width); the file's own by default.
        sample_rate: samples a second; the track's own by default.
        mono: average the channels.
        video, audio: which of the two to read.
    """

    def __init__(
        self,
        *,
        fps: float | None = None,
        frames: int | None = None,
        size: Size = None,
        sample_rate: int | None = None,
        mono: bool = False,
        video: bool = True,
        audio: bool = True,
    ):
        self.fps, self.frames, self.size = fps, frames, size
        self.sample_rate, self.mono = sample_rate, mono
        self.video, self.audio = video, audio

    def read(self, source: Source, windows: Sequence[Window]) -> list[Clip]:
        """Clips in the order of the windows.

        Where the video ends within a window, its clip has fewer frames; where there is no audio, zeros.

        Raises:
            NoVideoError, NoAudioError: the file lacks what was asked for.
            WindowError: a window lies outside the file.
            MediaError: the file cannot be read, is damaged where a window lies, or is cut short.
        """
        if is_remote(file_of(source)):
            with opened(source) as held:
                return self.read(held, windows)
        try:
            with open_media(source, quick=True) as container:
                return _Reading(self, source, container, windows).planned()
        except NoPlanError:
            with open_media(source) as container:
                return _Reading(self, source, container, windows).in_order()


class _Reading:
    """One pass over one file: which packets, which frames, which samples."""

    def __init__(
        self, reader: ClipReader, source: Source, container: av.container.InputContainer, windows: Sequence[Window]
    ):
        self.source, self.container, self.windows = source, container, list(windows)
        video = video_stream(container) if reader.video else None
        audio = audio_stream(container, source) if reader.audio else None
        if reader.video and video is None:
            raise NoVideoError(f"{source} has no video")
        if reader.audio and (audio is None or not audio.codec_context.sample_rate):
            raise NoAudioError(f"{source} has no audio track")
        average = self._average_rate(video) if video is not None and not (reader.fps or reader.frames) else 0.0
        self.clips: list[Clip] = []
        instants: list[np.ndarray] = []
        for window in self.windows:
            fps = reader.frames / window.duration if reader.frames and window.duration else reader.fps or average
            count = round(window.duration * fps) if video is not None else 0
            if window.duration <= 0:
                raise WindowError(f"a window cannot last {window.duration:g} s")
            if video is not None and not count:
                raise WindowError(f"a window of {window.duration:g} s holds no frame at {fps:g} a second")
            instants.append(window.start + np.arange(count) / fps if count else np.zeros(0))
            self.clips.append(
                Clip(NO_VIDEO, NO_AUDIO, fps, reader.sample_rate or 0, window.start, before=window.before)
            )
        self.frames = self.samples = None
        if video is not None:
            self.frames = WindowFrames(video, self.windows, instants, self.clips, reader.size)
        if audio is not None:
            self.samples = WindowSamples(audio, source, self.windows, self.clips, reader.sample_rate, reader.mono)
        self.streams = [part.stream for part in (self.frames, self.samples) if part is not None]
        self.ended = False  # whether the packets go to the end of the file

    def planned(self) -> list[Clip]:
        """By a plan from the packets, in one pass.

        Raises:
            NoPlanError: they do not allow it.
        """
        if restarts(self.container) or (self.frames and is_untimed(self.container, self.frames.stream)):
            raise NoPlanError
        for group in self._groups():
            self._seek_and_demux(group)
        if self.frames:
            self.frames.decode(self.ended)
        if self.samples:
            self.samples.decode(self.container)
        return self._checked()

    def in_order(self) -> list[Clip]:
        """By decoding the file in order, from a keyframe or from its start."""
        if self.frames:
            self.frames.decode_in_order(self.source, self._groups())
        if self.samples:
            self.samples.decode_in_order()
        return self._checked()

    def _average_rate(self, stream: av.VideoStream) -> float:
        """Frames a second by the header, or by the packets where it does not say."""
        rate = frame_rate(stream)
        if rate is None:
            found = probe(self.source).video
            rate = found.fps if found is not None else 0.0
        return rate

    # Which packets

    def _reach(self, k: int) -> tuple[float, float]:
        """Seconds from the first to the last packet that a window needs."""
        spans: list[tuple[float, float]] = []
        if self.frames and len(instants := self.frames.instants[k]):
            spans.append((instants[0], instants[-1]))
        if self.samples:
            begin, end = self.samples.span(k)
            spans.append((begin - self.samples.lead, end))
        return min(begin for begin, _ in spans), max(end for _, end in spans)

    def _groups(self) -> list[list[int]]:
        """Windows near one another, in the order of the file."""
        groups: list[list[int]] = []
        end = -np.inf
        for k in sorted(range(len(self.windows)), key=lambda k: self._reach(k)[0]):
            low, high = self._reach(k)
            if not groups or low > end + _JUMP:
                groups.append([])
            groups[-1].append(k)
            end = max(end, high)
        return groups

    def _seek_and_demux(self, group: list[int]) -> None:
        """Keep the packets that windows near one another need."""
        low = min(self._reach(k)[0] for k in group)
        begin = min(float(stated_start(stream)) for stream in self.streams)
        if low < begin + 0.5 and not any(part.packets for part in (self.frames, self.samples) if part):
            self._demux(group, False)
            return
        lead = self.streams[0]
        for back in _BACK:
            try:
                self.container.seek(int(max(low - back, begin) / tick(lead)), stream=lead)
            except av.error.FFmpegError:
                raise NoPlanError from None
            if self._demux(group, low - back > begin):
                return
        raise NoPlanError

    def _demux(self, group: list[int], sought: bool) -> bool:
        """Keep what the group needs; False where a place that was sought lies after the beginning of that."""
        video, audio = self.frames, self.samples
        frames, samples = video.packets if video else [], audio.packets if audio else []
        # After a jump within one group of pictures the demuxer goes back: what was kept already is passed over.
        seen, heard = frames[-1][1].dts if frames else None, samples[-1][1].dts if samples else None
        first, latest = self._span_of_frames(group)
        early, late = self._span_of_samples(group)
        index, audio_tick = video.stream.index if video else -1, audio.tick if audio else 0.0
        need_frames, need_samples = video is not None, audio is not None
        before_frames = before_samples = sought
        for packet in self.container.demux(self.streams):
            if not packet.size:
                continue
            pts, dts = packet.pts, packet.dts
            if packet.stream_index == index:
                if pts is None:
                    raise NoPlanError
                if before_frames:
                    if not packet.is_keyframe:
                        continue
                    before_frames = False
                    again = seen is not None and dts is not None and dts <= seen
                    if not again and pts > first:
                        return False
                if not need_frames or (seen is not None and dts is not None and dts <= seen):
                    continue
                frames.append((pts, packet))
                need_frames = dts is None or dts <= latest
            elif audio is not None and pts is not None:
                at = pts * audio_tick
                if before_samples:
                    before_samples = False
                    if at > early:
                        return False
                if heard is not None and dts is not None and dts <= heard:
                    continue
                need_samples = at <= late
                if need_samples and audio.end_of(pts, packet) > early:
                    samples.append((pts, packet))
            if not need_frames and not need_samples:
                return True
        self.ended = True
        return True

    def _span_of_frames(self, group: list[int]) -> tuple[float, float]:
        """Ticks of the video after which no frame may be the first, and none need be kept."""
        video = self.frames
        if video is None:
            return 0.0, 0.0
        first, last = min(video.instants[k][0] for k in group), max(video.instants[k][-1] for k in group)
        return (first + video.slack) / video.tick, (last + video.slack) / video.tick

    def _span_of_samples(self, group: list[int]) -> tuple[float, float]:
        """Seconds of audio to keep."""
        audio = self.samples
        if audio is None:
            return 0.0, 0.0
        spans = [audio.span(k) for k in group]
        return min(begin for begin, _ in spans) - audio.lead, max(end for _, end in spans)

    # What came of it

    def _checked(self) -> list[Clip]:
        """The clips, cut to the frames that there are.

        Raises:
            WindowError, MediaError: a window lies outside the file, or the file ends before its header says.
        """
        for k, (window, clip) in enumerate(zip(self.windows, self.clips, strict=True)):
            at = f"the window at {window.start:.2f} s of {window.duration:.2f} s"
            if self.frames:
                stream, instants = self.frames.stream, self.frames.instants[k]
                count = len(clip.times) - int(np.isnan(clip.times).sum())
                clip.video, clip.times = clip.video[:count], clip.times[:count]
                if count < round(window.duration * clip.fps):
                    self._refuse_cut_short(stream, window.start + count / clip.fps, at)
                begin = float(stated_start(stream))
                if not count or (len(instants) and window.start + window.duration <= begin):
                    raise WindowError(f"{at} lies outside the video of {self.source}")
            if self.samples and self.ended and self.samples.packets:
                pts, last = self.samples.packets[-1]
                end = (pts + (last.duration or 0)) * self.samples.tick
                if window.start + window.duration > end + _CUT_SHORT:
                    self._refuse_cut_short(self.samples.stream, end, at)
            if self.samples and not self.frames and not clip.audio.any() and not self.samples.overlaps(window):
                raise WindowError(f"{at} lies outside the audio of {self.source}")
        return self.clips

    def _refuse_cut_short(self, stream: av.stream.Stream, end: float, at: str) -> None:
        if stream.duration is None:
            return
        said = float(stated_start(stream) + stream.duration * tick(stream))
        if said > end + _CUT_SHORT:
            raise MediaError(
                f"{self.source} is cut short: its {stream.type} ends at {end:.2f} s, "
                f"its header says {said:.2f} s ({at})"
            )


def read_clip(
    source: Source,
    start: float | None = None,
    duration: float | None = None,
    *,
    fps: float | None = None,
    size: Size = None,
    sample_rate: int | None = None,
    mono: bool = False,
    video: bool = True,
    audio: bool = True,
    crop: Crop = None,
) -> Clip:
    """Read one window, the whole file by default; see `ClipReader` and `Window`.

    Args:
        source: the file.
        start: seconds on the file's own clock; its first frame's instant by default.
        duration: seconds; to the end by default.
        fps, size, sample_rate, mono, video, audio: as for a ClipReader.
        crop: as for a Window.

    Raises:
        MediaError: as `ClipReader.read`.
    """
    if start is None or duration is None:
        info = probe(source)
        start = info.start if start is None else start
        duration = info.start + info.duration - start if duration is None else duration
        if duration <= 0:
            raise WindowError(f"{source} ends at {info.start + info.duration:.2f} s: no window at {start:.2f} s")
    reader = ClipReader(fps=fps, size=size, sample_rate=sample_rate, mono=mono, video=video, audio=audio)
    return reader.read(source, [Window(start, duration, crop=crop)])[0]
