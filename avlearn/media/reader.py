"""Windows of a file as arrays: exact to the frame and the sample, decoding no more than they need.

Packets are demuxed once and planned by presentation time; those that nothing needs are dropped before the decoder
sees them, only wanted frames are converted, and only the sound around the windows is decoded. Where a file's
stamps or structure do not allow such a plan, it is decoded in order instead: slower, and as exact.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av
import numpy as np

from avlearn.errors import MediaError, NoAudioError, NoVideoError, WindowError
from avlearn.media.aspect import believed, pixel_aspect
from avlearn.media.clock import restarts
from avlearn.media.decode_audio import Samples, hidden_until, placed, preroll
from avlearn.media.decode_video import Frames, is_untimed, tick_slack
from avlearn.media.packets import droppable_rule
from avlearn.media.picture import Crop, Size, to_rgb
from avlearn.media.probe import probe
from avlearn.media.resample import Resampled, mix, resample, resample_margin
from avlearn.media.source import Selected, Source, audio_stream, frame_rate, open_media, video_stream

if TYPE_CHECKING:
    from torch import Tensor

_JUMP = 10.0  # seconds between windows from which seeking is cheaper than reading on
_BACK = (0.0, 1.0, 5.0)  # seconds to seek further back, until all that a window needs lies ahead
_LONGEST = 0.25  # seconds; packets of sound are shorter, where they do not say how long they are
_LEAP = 600.0  # seconds that no frame lasts (as `clock` has it)
_CUT_SHORT = 0.5  # seconds by which a stream may end before its header says


@dataclass(frozen=True)
class Window:
    """What to read of a file.

    Attributes:
        start, duration: seconds on the file's own clock.
        before, after: further seconds of sound on either side of the picture.
        crop: "square" (the largest, in the middle), or left, top, right and bottom as shares of the displayed picture.
    """

    start: float
    duration: float
    before: float = 0.0
    after: float = 0.0
    crop: Crop = None


@dataclass
class Clip:
    """A window of a file.

    Attributes:
        video: uint8 ``[T, H, W, 3]``, RGB as displayed; ``[0, 0, 0, 3]`` where it was not asked for.
        audio: float32 ``[C, S]`` in [-1, 1]; sample 0 is the instant ``start - before``.
        fps, sample_rate: of the arrays.
        start: seconds on the file's own clock: the instant that frame 0 shows.
        times: float64 ``[T]``, when each frame is first presented, seconds on the file's own clock.
        before: seconds of sound ahead of ``start``.
    """

    video: np.ndarray
    audio: np.ndarray
    fps: float
    sample_rate: int
    start: float
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    before: float = 0.0

    def tensor(self) -> "tuple[Tensor, Tensor]":
        """Video as a uint8 tensor ``[T, 3, H, W]`` and audio as a float32 tensor ``[C, S]``, which share its memory."""
        import torch

        return torch.from_numpy(self.video).permute(0, 3, 1, 2), torch.from_numpy(self.audio)


NO_VIDEO = np.zeros((0, 0, 0, 3), np.uint8)
NO_AUDIO = np.zeros((0, 0), np.float32)


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

        Where the picture ends within a window, its clip has fewer frames; where there is no sound, zeros.

        Raises:
            NoVideoError, NoAudioError: the file lacks what was asked for.
            WindowError: a window lies outside the file.
            MediaError: the file cannot be read, is damaged where a window lies, or is cut short.
        """
        try:
            with open_media(source, quick=True) as container:
                return _Reading(self, source, container, windows).planned()
        except _NoPlanError:
            with open_media(source) as container:
                return _Reading(self, source, container, windows).in_order()


class _NoPlanError(Exception):
    """The file's packets do not tell which frames are shown when, or cannot be sought."""


class _Reading:
    """One pass over one file: which packets, which frames, which samples."""

    def __init__(self, reader: ClipReader, source: Source, container, windows: Sequence[Window]):
        self.reader, self.source, self.container = reader, source, container
        self.windows = list(windows)
        self.picture = video_stream(container) if reader.video else None
        self.sound = audio_stream(container, source) if reader.audio else None
        if reader.video and self.picture is None:
            raise NoVideoError(f"{source} has no picture")
        if reader.audio and (self.sound is None or not self.sound.codec_context.sample_rate):
            raise NoAudioError(f"{source} has no sound track")
        self.base = self.tick = self.slack = 0.0
        average = 0.0
        if self.picture:
            self.base = float(self.picture.time_base)
            self.slack = tick_slack(self.base)
            average = frame_rate(self.picture) or (0.0 if reader.fps or reader.frames else probe(source).video.fps)
        self.lead = self.margin = 0.0
        if self.sound:
            rate = self.sound.codec_context.sample_rate
            self.tick = float(self.sound.time_base)
            self.lead = preroll(self.sound)
            self.margin = resample_margin(rate, reader.sample_rate or rate) / rate + 2 * self.tick + 0.005
        self.clips: list[Clip] = []
        self.instants: list[np.ndarray] = []
        for window in self.windows:
            fps = reader.frames / window.duration if reader.frames and window.duration else reader.fps or average
            count = round(window.duration * fps) if self.picture else 0
            if window.duration <= 0:
                raise WindowError(f"a window cannot last {window.duration:g} s")
            if self.picture and not count:
                raise WindowError(f"a window of {window.duration:g} s holds no frame at {fps:g} a second")
            self.instants.append(window.start + np.arange(count) / fps if count else np.zeros(0))
            self.clips.append(
                Clip(NO_VIDEO, NO_AUDIO, fps, reader.sample_rate or 0, window.start, before=window.before)
            )
        self.packets: list[av.Packet] = []
        self.sound_packets: list[av.Packet] = []
        self.ended = False  # whether the packets go to the end of the file

    def planned(self) -> list[Clip]:
        """By a plan from the packets, in one pass.

        Raises:
            _NoPlanError: they do not allow it.
        """
        if restarts(self.container) or (self.picture and is_untimed(self.container, self.picture)):
            raise _NoPlanError
        for group in self._groups():
            self._seek_and_demux(group)
        if self.picture:
            self._decode_picture()
        if self.sound:
            self._decode_sound()
        return self._checked()

    def in_order(self) -> list[Clip]:
        """By decoding the file in order, from a keyframe or from its start."""
        if self.picture:
            for group in self._groups():
                wanted = sorted((t, k, j) for k in group for j, t in enumerate(self.instants[k]))
                frames = Frames(self.source, wanted[0][0], strict=True) if wanted else None
                shown = frames.at(t for t, _, _ in wanted) if wanted else ()
                for (_, k, j), (time, frame) in zip(wanted, shown, strict=False):
                    self._store(k, [j], time, frame, frames.aspect)
        if self.sound:
            for clip, window in zip(self.clips, self.windows, strict=True):
                samples = Samples(self.source, window.start - window.before, strict=True)
                track = Resampled(samples, self.reader.sample_rate, self.reader.mono)
                clip.sample_rate = track.rate
                clip.audio = track.read(0, self._samples(window, track.rate))
        return self._checked()

    # Which packets

    def _spans(self, k: int) -> tuple[float, float, float, float]:
        """First and last instant of the picture, begin and end of the sound, seconds."""
        window, instants = self.windows[k], self.instants[k]
        first, last = (instants[0], instants[-1]) if len(instants) else (window.start, window.start)
        end = window.start + window.duration + window.after
        return first, last, window.start - window.before - self.margin, end + self.margin

    def _reach(self, k: int) -> tuple[float, float]:
        first, last, begin, end = self._spans(k)
        lows = ([first] if self.picture else []) + ([begin - self.lead] if self.sound else [])
        return min(lows), max(([last] if self.picture else []) + ([end] if self.sound else []))

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
        low = min(self._reach(k)[0] for k in group)
        streams = [s for s in (self.picture, self.sound) if s is not None]
        begin = min(float((s.start_time or 0) * s.time_base) for s in streams)
        if low < begin + 0.5 and not self.packets and not self.sound_packets:
            self._demux(group, streams, False)
            return
        lead = streams[0]
        for back in _BACK:
            try:
                self.container.seek(int(max(low - back, begin) / lead.time_base), stream=lead)
            except av.error.FFmpegError:
                raise _NoPlanError from None
            if self._demux(group, streams, low - back > begin):
                return
        raise _NoPlanError

    def _demux(self, group: list[int], streams: list[av.stream.Stream], sought: bool) -> bool:
        """Keep what the group needs; False where a place that was sought lies after the beginning of that."""
        spans = [self._spans(k) for k in group]
        first_picture, last_picture = min(s[0] for s in spans), max(s[1] for s in spans)
        early, late = min(s[2] for s in spans) - self.lead, max(s[3] for s in spans)
        # After a jump within one group of pictures the demuxer goes back: what was kept already is passed over.
        seen = self.packets[-1].dts if self.packets else None
        heard = self.sound_packets[-1].dts if self.sound_packets else None
        index = self.picture.index if self.picture else -1
        stop = (last_picture + self.slack) / self.base if self.picture else 0.0
        need_picture, need_sound = self.picture is not None, self.sound is not None
        new_picture = new_sound = sought
        for packet in self.container.demux(streams):
            if not packet.size:
                continue
            pts, dts = packet.pts, packet.dts
            if packet.stream_index == index:
                if pts is None:
                    raise _NoPlanError
                if new_picture:
                    if not packet.is_keyframe:
                        continue
                    new_picture = False
                    again = seen is not None and dts is not None and dts <= seen
                    if not again and pts * self.base > first_picture + self.slack:
                        return False
                if not need_picture or (seen is not None and dts is not None and dts <= seen):
                    continue
                self.packets.append(packet)
                need_picture = dts is None or dts <= stop
            elif pts is not None:
                at = pts * self.tick
                if new_sound:
                    new_sound = False
                    if at > early:
                        return False
                if heard is not None and dts is not None and dts <= heard:
                    continue
                need_sound = at <= late
                if need_sound and at + (packet.duration * self.tick if packet.duration else _LONGEST) > early:
                    self.sound_packets.append(packet)
            if not need_picture and not need_sound:
                return True
        self.ended = True
        return True

    # Which frames

    def _decode_picture(self) -> None:
        shown = np.unique([p.pts for p in self.packets if not p.is_discard])
        if not len(shown):
            raise _NoPlanError
        wanted: dict[int, dict[int, list[int]]] = {}  # stamp of a frame, window, places in its clip
        for k, instants in enumerate(self.instants):
            if self.ended:
                last = max((p for p in self.packets if not p.is_discard), key=lambda p: p.pts)
                usual = 1 / (frame_rate(self.picture) or 25)
                stated = (last.duration or 0) * self.base
                end = last.pts * self.base + (stated if 0 < stated < _LEAP else usual)
                instants = self.instants[k] = instants[instants < end - self.slack]
            at = np.searchsorted(shown, np.floor((instants + self.slack) / self.base), "right") - 1
            for place, pts in enumerate(shown[np.maximum(at, 0)].tolist()):
                wanted.setdefault(pts, {}).setdefault(k, []).append(place)
        decoder = self.picture.codec_context
        rule = droppable_rule(decoder)
        aspect = pixel_aspect(self.picture)

        def take(frames: Iterable[av.VideoFrame]) -> None:
            for frame in frames:
                if frame.is_corrupt:
                    raise _NoPlanError
                for k, places in wanted.pop(frame.pts, {}).items():
                    self._store(k, places, frame.pts * self.base, frame, aspect)

        try:
            for first, last, joined in self._runs(set(wanted)):
                if not joined and decoder.is_open:
                    take(decoder.decode(None))
                    decoder.flush_buffers()
                key = self.packets[first].pts
                for packet in self.packets[first : last + 1]:
                    if packet.pts not in wanted and (
                        (packet.pts < key and not joined) or (rule is not None and rule(packet))
                    ):
                        continue
                    take(decoder.decode(believed(packet)))
            take(decoder.decode(None))
        except (av.error.InvalidDataError, av.error.EOFError):
            raise _NoPlanError from None
        if wanted:
            raise _NoPlanError

    def _runs(self, wanted: set[int]) -> list[tuple[int, int, bool]]:
        """Groups of pictures that hold wanted ones: first packet, last packet, and whether the last one goes on."""
        keys = [i for i, packet in enumerate(self.packets) if packet.is_keyframe]
        if not keys or keys[0]:
            raise _NoPlanError
        runs: list[tuple[int, int, bool]] = []
        needed_whole = False  # by pictures of the next group that are shown before its keyframe
        for first, after in reversed(list(zip(keys, [*keys[1:], len(self.packets)], strict=True))):
            held = [i for i in range(first, after) if self.packets[i].pts in wanted]
            leading = any(self.packets[i].pts < self.packets[first].pts for i in held)
            if leading and first == 0:
                raise _NoPlanError
            if held or needed_whole:
                runs.append((first, after - 1 if needed_whole else held[-1], leading))
            needed_whole = leading
        return runs[::-1]

    def _store(self, k: int, places: list[int], time: float, frame: av.VideoFrame, aspect: float) -> None:
        """A frame into its places within a clip."""
        clip, crop = self.clips[k], self.windows[k].crop
        if not len(clip.video):
            image = to_rgb(frame, aspect, self.reader.size, crop)
            clip.video = np.empty((len(self.instants[k]), *image.shape), np.uint8)
            clip.times = np.full(len(self.instants[k]), np.nan)
            clip.video[places[0]] = image
        else:
            to_rgb(frame, aspect, clip.video.shape[1:3], crop, clip.video[places[0]])
        for place in places[1:]:
            clip.video[place] = clip.video[places[0]]
        clip.times[places] = time

    # Which samples

    def _samples(self, window: Window, rate: int) -> int:
        return round((window.before + window.duration + window.after) * rate)

    def _decode_sound(self) -> None:
        spans = sorted((*self._spans(k)[2:], k) for k in range(len(self.windows)))
        joined: list[tuple[float, float, list[int]]] = []
        for begin, end, k in spans:
            if joined and begin - self.lead <= joined[-1][1]:
                low, high, members = joined.pop()
                joined.append((low, max(high, end), [*members, k]))
            else:
                joined.append((begin, end, [k]))
        for begin, end, members in joined:
            frames = self._sound_frames(begin, end)
            context = self.sound.codec_context
            # The decoder knows better than the header: with SBR the rate is twice as high.
            rate = frames[0].sample_rate if frames else context.sample_rate
            layout = frames[0].layout if frames else context.layout
            first = int(begin * rate) - 1
            held = np.zeros((layout.nb_channels, int(end * rate) + 2 - first), np.float32)
            hidden = hidden_until(self.container, self.sound)
            for position, samples in placed(frames, self.tick, 0.0, rate, layout, hidden):
                low, high = max(position, first), min(position + samples.shape[1], first + held.shape[1])
                if high > low:
                    held[:, low - first : high - first] = samples[:, low - position : high - position]
            if isinstance(self.source, Selected):
                held = self.source.channel_of(held)
            held = mix(held, self.reader.mono)
            for k in members:
                self._cut(k, held, first, rate)

    def _sound_frames(self, begin: float, end: float) -> list[av.AudioFrame]:
        decoder = self.sound.codec_context
        frames = []
        for packet in self.sound_packets:
            at = packet.pts * self.tick
            until = at + (packet.duration * self.tick if packet.duration else _LONGEST)
            if at > end or until <= begin - self.lead:
                continue
            try:
                frames += decoder.decode(packet)
            except (av.error.InvalidDataError, av.error.EOFError):
                if frames and begin <= at:
                    raise MediaError(f"{self.source} is damaged: its sound at {at:.2f} s cannot be decoded") from None
        if decoder.is_open:
            frames += decoder.decode(None)
            decoder.flush_buffers()
        return frames

    def _cut(self, k: int, held: np.ndarray, first: int, rate: int) -> None:
        """A window's samples out of those that are held from sample ``first`` on."""
        window, clip = self.windows[k], self.clips[k]
        clip.sample_rate = target = self.reader.sample_rate or rate
        count = self._samples(window, target)
        margin = resample_margin(rate, target)
        at = round((window.start - window.before) * rate) - first
        needed = -(-count * rate // target)
        skip = margin * target // rate
        out = resample(held[:, at - margin : at + needed + margin], rate, target)
        clip.audio = np.ascontiguousarray(out[:, skip : skip + count])

    # What came of it

    def _checked(self) -> list[Clip]:
        """The clips, cut to the frames that there are.

        Raises:
            WindowError, MediaError: a window lies outside the file, or the file ends before its header says.
        """
        for window, clip, instants in zip(self.windows, self.clips, self.instants, strict=True):
            at = f"the window at {window.start:.2f} s of {window.duration:.2f} s"
            if self.picture:
                count = len(clip.times) - int(np.isnan(clip.times).sum())
                clip.video, clip.times = clip.video[:count], clip.times[:count]
                if count < round(window.duration * clip.fps):
                    self._refuse_cut_short(self.picture, window.start + count / clip.fps, at)
                begin = float((self.picture.start_time or 0) * self.picture.time_base)
                if not count or (len(instants) and window.start + window.duration <= begin):
                    raise WindowError(f"{at} lies outside the picture of {self.source}")
            if self.sound and self.ended and self.sound_packets:
                last = self.sound_packets[-1]
                end = (last.pts + (last.duration or 0)) * self.tick
                if window.start + window.duration > end + _CUT_SHORT:
                    self._refuse_cut_short(self.sound, end, at)
            if not self.picture and not clip.audio.any() and not self._meets_sound(window):
                raise WindowError(f"{at} lies outside the sound of {self.source}")
        return self.clips

    def _refuse_cut_short(self, stream: av.stream.Stream, end: float, at: str) -> None:
        if stream.duration is None:
            return
        said = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        if said > end + _CUT_SHORT:
            kind = "picture" if stream is self.picture else "sound"
            raise MediaError(
                f"{self.source} is cut short: its {kind} ends at {end:.2f} s, its header says {said:.2f} s ({at})"
            )

    def _meets_sound(self, window: Window) -> bool:
        low, high = window.start - window.before, window.start + window.duration + window.after
        return any(
            p.pts * self.tick < high and (p.pts + (p.duration or 0)) * self.tick > low for p in self.sound_packets
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
