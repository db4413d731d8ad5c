"""Windows of a file as arrays: exact to the frame and the sample, decoding no more than they need.

Packets are demuxed once and planned by presentation time; those that nothing needs are dropped before the decoder
sees them, only wanted frames are converted, and only the audio around the windows is decoded. Files of `prepare`
carry the plan's facts in a table, and are read without a demuxer (`avlearn.media.table_reading`). Where another file's
stamps or structure do not allow such a plan, it is decoded in order instead: slower, and as exact.
"""

from collections.abc import Sequence

import av
import av.container

from avlearn.errors import NoAudioError, NoVideoError, WindowError
from avlearn.media.clip import Clip, Window
from avlearn.media.clock import restarts
from avlearn.media.decode_video import is_untimed
from avlearn.media.open_file import is_remote
from avlearn.media.probe import probe
from avlearn.media.reading import Reading, Wanted
from avlearn.media.rgb import Crop, Size
from avlearn.media.source import Source, audio_stream, file_of, frame_rate, open_media, opened, video_stream
from avlearn.media.table_reading import read_by_table
from avlearn.media.ticks import stated_start, tick
from avlearn.media.track import audio_track, video_track
from avlearn.media.window_frames import NoPlanError

_BACK = (0.0, 1.0, 5.0)  # seconds to seek further back, until all that a window needs lies ahead


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

    @property
    def wanted(self) -> Wanted:
        """What is wanted of each window."""
        return Wanted(self.fps, self.frames, self.size, self.sample_rate, self.mono)

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
        clips = read_by_table(source, windows, self.wanted, self.video, self.audio)
        if clips is not None:
            return clips
        try:
            with open_media(source, quick=True) as container:
                return _Demuxed(self, source, container, windows).planned()
        except NoPlanError:
            with open_media(source) as container:
                return _Demuxed(self, source, container, windows).in_order()


class _Demuxed(Reading):
    """One pass over a container: which packets, which frames, which samples."""

    def __init__(
        self, reader: ClipReader, source: Source, container: av.container.InputContainer, windows: Sequence[Window]
    ):
        video = video_stream(container) if reader.video else None
        audio = audio_stream(container, source) if reader.audio else None
        if reader.video and video is None:
            raise NoVideoError(f"{source} has no video")
        if reader.audio and (audio is None or not audio.codec_context.sample_rate):
            raise NoAudioError(f"{source} has no audio track")
        self.container = container
        self.streams = [stream for stream in (video, audio) if stream is not None]
        super().__init__(
            source,
            windows,
            reader.wanted,
            video_track(video) if video is not None else None,
            audio_track(container, audio) if audio is not None else None,
            _average_rate(source, video) if video is not None and not (reader.fps or reader.frames) else 0.0,
        )

    def planned(self) -> list[Clip]:
        """By a plan from the packets, in one pass.

        Raises:
            NoPlanError: they do not allow it.
        """
        lead = self.streams[0]
        untimed = isinstance(lead, av.VideoStream) and is_untimed(self.container, lead)
        if untimed or restarts(self.container):
            raise NoPlanError
        for group in self.groups():
            self._seek_and_demux(group)
        return self.decode()

    def in_order(self) -> list[Clip]:
        """By decoding the file in order, from a keyframe or from its start."""
        if self.frames:
            self.frames.decode_in_order(self.source, self.groups())
        if self.samples:
            self.samples.decode_in_order()
        return self.checked()

    def _seek_and_demux(self, group: list[int]) -> None:
        """Keep the packets that windows near one another need."""
        low = min(self.reach(k)[0] for k in group)
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
        first, latest = self.span_of_frames(group)
        early, late = self.span_of_samples(group)
        index, audio_tick = self.streams[0].index if video else -1, audio.tick if audio else 0.0
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


def _average_rate(source: Source, stream: av.VideoStream) -> float:
    """Frames a second by the header, or by the packets where it does not say."""
    rate = frame_rate(stream)
    if rate is None:
        found = probe(source).video
        rate = found.fps if found is not None else 0.0
    return rate


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
