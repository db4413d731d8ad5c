"""The samples of several windows of a file: only the audio around them is decoded."""

from collections.abc import Sequence

import av
import numpy as np

from avlearn.errors import MediaError
from avlearn.media.clip import Clip, Window
from avlearn.media.decode_audio import Samples, joined, preroll
from avlearn.media.resample import Resampled, mix, resample, resample_margin
from avlearn.media.source import Selected, Source
from avlearn.media.track import Kept, Track

_LONGEST = 0.25  # seconds; packets of audio are shorter, where they do not say how long they are


class WindowSamples:
    """The audio of windows, decoded from packets that were kept for it.

    Args:
        track: the audio.
        source: the file.
        windows: of the file.
        clips: of each window, to which samples and their rate are written.
        sample_rate: samples a second; the track's own by default.
        mono: average the channels.

    Attributes:
        tick: seconds of a tick of the stream's clock.
        lead: seconds to decode ahead of wanted samples.
        packets: those that are kept, in order, each after its stamp of presentation in ticks.
    """

    def __init__(
        self,
        track: Track[av.AudioCodecContext],
        source: Source,
        windows: Sequence[Window],
        clips: Sequence[Clip],
        sample_rate: int | None,
        mono: bool,
    ):
        self.track, self.source, self.windows, self.clips = track, source, windows, clips
        self.sample_rate, self.mono = sample_rate, mono
        self.tick, self.lead = track.tick, preroll(track.decoder)
        rate = track.decoder.sample_rate
        self._margin = resample_margin(rate, sample_rate or rate) / rate + 2 * self.tick + 0.005
        self.packets: list[tuple[int, Kept]] = []

    def span(self, k: int) -> tuple[float, float]:
        """Seconds from which and to which samples are needed for a window."""
        window = self.windows[k]
        begin, end = window.start - window.before, window.start + window.duration + window.after
        return begin - self._margin, end + self._margin

    def end_of(self, pts: int, packet: Kept) -> float:
        """Seconds at which a packet ends at the latest."""
        return pts * self.tick + (packet.duration * self.tick if packet.duration else _LONGEST)

    def overlaps(self, window: Window) -> bool:
        """Whether a kept packet lies within a window."""
        low, high = window.start - window.before, window.start + window.duration + window.after
        return any(
            pts * self.tick < high and (pts + (packet.duration or 0)) * self.tick > low for pts, packet in self.packets
        )

    def decode(self) -> None:
        """Fill the clips from the packets.

        Raises:
            MediaError: the audio of a window is damaged.
        """
        for begin, end, members in self._joined():
            frames = self._frames(begin, end)
            context = self.track.decoder
            # The decoder knows better than the header: with SBR the rate is twice as high.
            rate = frames[0].sample_rate if frames else context.sample_rate
            layout = frames[0].layout if frames else context.layout
            first = int(begin * rate) - 1
            held = _held(
                joined(frames, self.tick, rate, layout, self.track.hidden),
                first, int(end * rate) + 2 - first, layout.nb_channels,
            )  # fmt: skip
            if isinstance(self.source, Selected):
                held = self.source.channel_of(held)
            held = mix(held, self.mono)
            for k in members:
                self._cut(k, held, first, rate)

    def decode_in_order(self) -> None:
        """Fill the clips by decoding the file from ahead of each window, or from its start.

        Raises:
            MediaError: the audio is damaged.
        """
        for clip, window in zip(self.clips, self.windows, strict=True):
            track = Resampled(
                Samples(self.source, window.start - window.before, strict=True), self.sample_rate, self.mono
            )
            clip.sample_rate = track.rate
            clip.audio = track.read(0, _count(window, track.rate))

    def _joined(self) -> list[tuple[float, float, list[int]]]:
        """Spans of audio to decode, seconds, and the windows within each."""
        joined: list[tuple[float, float, list[int]]] = []
        for begin, end, k in sorted((*self.span(k), k) for k in range(len(self.windows))):
            if joined and begin - self.lead <= joined[-1][1]:
                low, high, members = joined.pop()
                joined.append((low, max(high, end), [*members, k]))
            else:
                joined.append((begin, end, [k]))
        return joined

    def _frames(self, begin: float, end: float) -> list[av.AudioFrame]:
        decoder = self.track.decoder
        frames: list[av.AudioFrame] = []
        for pts, packet in self.packets:
            at = pts * self.tick
            if at > end or self.end_of(pts, packet) <= begin - self.lead:
                continue
            try:
                frames += decoder.decode(self.track.load(packet))
            except (av.error.InvalidDataError, av.error.EOFError):
                if frames and begin <= at:
                    raise MediaError(f"{self.source} is damaged: its audio at {at:.2f} s cannot be decoded") from None
        if decoder.is_open:
            frames += decoder.decode(None)
            decoder.flush_buffers()
        return frames

    def _cut(self, k: int, held: np.ndarray, first: int, rate: int) -> None:
        """A window's samples out of those that are held from sample ``first`` on."""
        window, clip = self.windows[k], self.clips[k]
        clip.sample_rate = target = self.sample_rate or rate
        count = _count(window, target)
        margin = resample_margin(rate, target)
        at = round((window.start - window.before) * rate) - first
        needed = -(-count * rate // target)
        skip = margin * target // rate
        out = resample(held[:, at - margin : at + needed + margin], rate, target)
        clip.audio = np.ascontiguousarray(out[:, skip : skip + count])


def _held(blocks: Sequence[tuple[int, np.ndarray]], first: int, count: int, channels: int) -> np.ndarray:
    """Samples ``first .. first + count`` of blocks, float32 ``[C, count]``; zeros where there are none."""
    if len(blocks) == 1:
        ((position, samples),) = blocks
        if position <= first and first + count <= position + samples.shape[1]:
            return samples[:, first - position : first - position + count]
    held = np.zeros((channels, count), np.float32)
    for position, samples in blocks:
        low, high = max(position, first), min(position + samples.shape[1], first + count)
        if high > low:
            held[:, low - first : high - first] = samples[:, low - position : high - position]
    return held


def _count(window: Window, rate: int) -> int:
    """Samples of a window."""
    return round((window.before + window.duration + window.after) * rate)
