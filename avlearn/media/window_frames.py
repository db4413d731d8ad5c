"""The frames of several windows of a file: only packets that a wanted frame depends on are decoded."""

from collections.abc import Iterable, Sequence

import av
import numpy as np

from avlearn.media.clip import Clip, Window
from avlearn.media.decode_video import Frames, tick_slack
from avlearn.media.rgb import Size, to_rgb
from avlearn.media.source import Source
from avlearn.media.track import Kept, Track

_LEAP = 600.0  # seconds that no frame lasts (as `clock` has it)


class NoPlanError(Exception):
    """The file's packets do not tell which frames are shown when, or cannot be sought."""


class WindowFrames:
    """The video of windows: the frame of each instant, decoded from packets that were kept for it.

    Args:
        track: the video.
        windows: of the file.
        instants: of each window, seconds on the file's clock, growing.
        clips: of each window, to which frames and their times are written.
        size: short side in pixels, or (height, width); the file's own by default.

    Attributes:
        tick: seconds of a tick of the stream's clock; ``slack``: by which its stamps may be late.
        packets: those that are kept, in the order of decoding, each after its stamp of presentation in ticks.
    """

    def __init__(
        self,
        track: Track[av.VideoCodecContext],
        windows: Sequence[Window],
        instants: Sequence[np.ndarray],
        clips: Sequence[Clip],
        size: Size,
    ):
        self.track, self.windows, self.instants, self.clips, self.size = track, windows, list(instants), clips, size
        self.tick = track.tick
        self.slack = tick_slack(self.tick)
        self.packets: list[tuple[int, Kept]] = []

    def decode(self, to_the_end: bool) -> None:
        """Fill the clips from the packets; ``to_the_end``: these are the file's last.

        Raises:
            NoPlanError: the packets do not give the frames that they should.
        """
        shown = np.unique([pts for pts, packet in self.packets if not packet.is_discard])
        if not len(shown):
            raise NoPlanError
        if to_the_end:
            end = self._end()
            self.instants = [instants[instants < end - self.slack] for instants in self.instants]
        wanted: dict[int, dict[int, list[int]]] = {}  # stamp of a frame, window, places in its clip
        for k, instants in enumerate(self.instants):
            at = np.searchsorted(shown, np.floor((instants + self.slack) / self.tick), "right") - 1
            for place, pts in enumerate(shown[np.maximum(at, 0)].tolist()):
                wanted.setdefault(pts, {}).setdefault(k, []).append(place)
        try:
            self._decode(wanted)
        except (av.error.InvalidDataError, av.error.EOFError):
            raise NoPlanError from None
        if wanted:
            raise NoPlanError

    def decode_in_order(self, source: Source, groups: Sequence[Sequence[int]]) -> None:
        """Fill the clips by decoding the file from a keyframe ahead of each group of windows, or from its start.

        Raises:
            MediaError: a wanted frame is damaged, or stamps go back.
        """
        for group in groups:
            wanted = sorted((time, k, place) for k in group for place, time in enumerate(self.instants[k]))
            if not wanted:
                continue
            frames = Frames(source, wanted[0][0], strict=True)
            shown = frames.at(time for time, _, _ in wanted)
            for (_, k, place), (time, frame) in zip(wanted, shown, strict=False):
                self._store(k, [place], time, frame, frames.aspect)

    def _end(self) -> float:
        """Seconds at which the last frame ends."""
        pts, last = max((kept for kept in self.packets if not kept[1].is_discard), key=lambda kept: kept[0])
        usual = 1 / (self.track.rate or 25)
        stated = (last.duration or 0) * self.tick
        return pts * self.tick + (stated if 0 < stated < _LEAP else usual)

    def _decode(self, wanted: dict[int, dict[int, list[int]]]) -> None:
        """Decode what holds wanted frames, and take them from ``wanted`` into their clips."""
        decoder, load, unused, aspect = self.track.decoder, self.track.load, self.track.unused, self.track.aspect
        needed, begun = set(wanted), False

        def take(frames: Iterable[av.VideoFrame]) -> None:
            for frame in frames:
                if frame.is_corrupt:
                    raise NoPlanError
                if frame.pts is not None and (clips := wanted.pop(frame.pts, None)):
                    for k, places in clips.items():
                        self._store(k, places, frame.pts * self.tick, frame, aspect)

        for first, last, joined in self._runs(needed):
            if begun and not joined:
                take(decoder.decode(None))
                decoder.flush_buffers()
            begun, key = True, self.packets[first][0]
            for pts, packet in self.packets[first : last + 1]:
                if pts not in wanted and ((pts < key and not joined) or (unused is not None and unused(packet))):
                    continue
                take(decoder.decode(load(packet)))
        take(decoder.decode(None))
        decoder.flush_buffers()

    def _runs(self, wanted: set[int]) -> list[tuple[int, int, bool]]:
        """Groups of pictures that hold wanted ones: first packet, last packet, and whether the last one goes on."""
        stamps = [pts for pts, _ in self.packets]
        keys = [i for i, (_, packet) in enumerate(self.packets) if packet.is_keyframe]
        if not keys or keys[0]:
            raise NoPlanError
        runs: list[tuple[int, int, bool]] = []
        needed_whole = False  # by frames of the next group that are shown before its keyframe
        for first, after in reversed(list(zip(keys, [*keys[1:], len(self.packets)], strict=True))):
            held = [i for i in range(first, after) if stamps[i] in wanted]
            leading = any(stamps[i] < stamps[first] for i in held)
            if leading and first == 0:
                raise NoPlanError
            if held or needed_whole:
                runs.append((first, after - 1 if needed_whole else held[-1], leading))
            needed_whole = leading
        return runs[::-1]

    def _store(self, k: int, places: list[int], time: float, frame: av.VideoFrame, aspect: float) -> None:
        """A frame into its places within a clip."""
        clip, crop = self.clips[k], self.windows[k].crop
        if not len(clip.video):
            image = to_rgb(frame, aspect, self.size, crop)
            clip.video = np.empty((len(self.instants[k]), *image.shape), np.uint8)
            clip.times = np.full(len(self.instants[k]), np.nan)
            clip.video[places[0]] = image
        else:
            to_rgb(frame, aspect, clip.video.shape[1:3], crop, clip.video[places[0]])
        for place in places[1:]:
            clip.video[place] = clip.video[places[0]]
        for place in places:
            clip.times[place] = time
