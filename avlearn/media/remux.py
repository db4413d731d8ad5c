"""A whole file again, its audio put where it belongs or replaced, without encoding the video."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avlearn.errors import MediaError, NoAudioError, NoVideoError, OutputError
from avlearn.files import replacing
from avlearn.media.annex_b import is_length_prefixed, started
from avlearn.media.clock import demuxed
from avlearn.media.containers import Container, container_of, create
from avlearn.media.decode import Samples, hidden_until, is_untimed
from avlearn.media.layout import Layout, described, lay_out
from avlearn.media.probe import probe
from avlearn.media.retime import Retimed
from avlearn.media.selection import track_number
from avlearn.media.sound_track import SoundTrack
from avlearn.media.source import Selected, Source, audio_stream, file_of, open_media, video_stream
from avlearn.media.stamps import InOrder, dated, frame_times, rescale, shown_at
from avlearn.media.writer import WRITE_ERRORS
from avlearn.media.written import check_audio, check_frames, not_kept, read_back

_CHUNK = 4.0  # seconds of audio encoded at a time
_BEST_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus", "vorbis": "libvorbis"}


@dataclass(frozen=True)
class Remuxed:
    """What became of a file.

    Attributes:
        track: number from 1 of the audio track that was moved; None where none was.
        tracks: how many audio tracks the file has.
        place: number from 1 of the moved track in what was written.
        encoded: tracks whose audio was encoded again, in a few words each.
        left_out: what of the file the container cannot hold, in a few words each.
    """

    track: int | None
    tracks: int
    place: int | None = None
    encoded: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """Lines for people: what is not as it was."""
        lines = [f"moved audio track {self.track} of {self.tracks}; the others stay"] if self.tracks > 1 else []
        lines += [f"encoded again: {', '.join(self.encoded)}"] if self.encoded else []
        return lines + ([f"not kept: {', '.join(self.left_out)}"] if self.left_out else [])


def remux(
    path: Source,
    out: str | Path,
    *,
    audio_delay: float = 0.0,
    audio_drift: float = 0.0,
    replace_audio: str | Path | None = None,
    check: Callable[[Path, Remuxed], None] | None = None,
) -> Remuxed:
    """Copy a file packet by packet, one audio track shifted in time; then check what was written.

    All streams, chapters and tags are kept as far as the container holds them, on the file's own clock. Audio is
    encoded again only for a drift, where it is replaced, or for a container that does not tell when a stream begins.
    Subtitles, and other audio tracks, stay with the video.

    Args:
        path: the file; a `Selected` one says which audio track is moved.
        out: another file; its suffix names the container.
        audio_delay: seconds by which the audio plays later (negative: earlier; what would come before the file's
            beginning is dropped).
        audio_drift: seconds a second by which that delay grows from the video's first frame on.
        replace_audio: a file whose audio (from the video's first frame on) takes the place of all audio.
        check: looks at what was written before it gets its name, which it does not if this raises.

    Raises:
        MediaError: a file cannot be read.
        OutputError: ``out`` is the input, its container cannot hold the video or its timing, or the disk is full.
    """
    out = Path(out)
    kind = container_of(out)
    if out.exists() and Path(path).exists() and out.samefile(path):
        raise OutputError(f"{out} is the input itself: give another name")
    with open_media(path) as source, replacing(out, WRITE_ERRORS) as part:
        job = _Job(path, source, kind, audio_delay, audio_drift, replace_audio)
        try:
            with _opened(job, part) as (target, layout):
                _copy(job, target, layout)
            ahead = check_frames(part, job.shown)
            place = None
            for number, (heard, placed, copied) in enumerate(job.heard(layout), 1):
                there = check_audio(heard, part, number, lambda t, placed=placed: placed(t) + ahead, copied)
                place = there if heard == Selected(job.file, job.number) else place
            left_out = layout.left_out + not_kept(job.file, source, part, layout)
            done = Remuxed(job.number, len(source.streams.audio), place, tuple(job.encoded), tuple(left_out))
            if check is not None:
                with read_back(part):
                    check(part, done)
        except OutputError as error:
            raise OutputError(f"cannot write {out}: {error}") from error
    return done


class _Job:
    """What is to be done with each stream of a source.

    Attributes:
        path, file: as given, and without what is selected of it.
        source, kind, video: open, the target's kind, and the stream that is shown.
        delay, drift: of the audio.
        untimed: whether the video's packets are stamped in order of decoding only.
        origin: seconds, the video's first frame; ``begin``: of what comes first in the file.
        moved: index of the audio stream that is moved; None where audio is replaced, or there is none.
        number: of that track, from 1.
        hidden: seconds before which an edit list hides its sound.
        presented: stamps of presentation by those of decoding, where the source does not tell (see `shown_at`).
        shown: when the copied frames are shown, seconds on the source's clock; grows as they are copied.
        rendered: audio that is encoded, as it was added to the target.
        encoded: those of the source's tracks, in a few words each.
    """

    def __init__(self, path: Source, source, kind: Container, delay: float, drift: float, replaced: str | Path | None):
        self.path, self.source, self.kind = path, source, kind
        self.file = file_of(path)
        self.delay, self.drift, self.replaced = delay, drift, replaced
        self.video = video_stream(source)
        if self.video is None:
            raise NoVideoError(f"{path} has no picture")
        audio = audio_stream(source, path)
        if audio is None and replaced is None and (delay or drift):
            raise NoAudioError(f"{path} has no sound track")
        self.moved = audio.index if audio is not None and replaced is None else None
        self.hidden = hidden_until(source, audio) if self.moved is not None else -math.inf
        self.number = track_number(path) if self.moved is not None else None
        self.untimed = is_untimed(source, self.video)
        # Without stamps of presentation, nothing that an edit list hides can stay hidden.
        self.origin = probe(path).start if kind.starts else min(frame_times(path, hidden=True), default=0.0)
        starts = [float(s.start_time * s.time_base) for s in source.streams.audio if s.start_time is not None]
        self.begin = min([self.origin, *starts])
        self.presented = None if kind.format == "avi" else shown_at(path)
        self.shown: list[float] = []
        self.rendered: list[_Rendered] = []
        self.encoded: list[str] = []

    def audio_plan(self, target) -> dict[int, Callable[[], av.stream.Stream] | None]:
        """By index of an audio stream that is not copied: what adds another in its place, or None."""
        self.rendered.clear()
        self.encoded.clear()
        audio = list(self.source.streams.audio)
        if self.replaced is not None:
            plan = dict.fromkeys((s.index for s in audio), None)
            if audio:
                plan[audio[0].index] = lambda: self._render(target, None)
            return plan
        same = not self.kind.starts and self.source.format.name.startswith(self.kind.format)
        return {
            stream.index: lambda stream=stream: self._render(target, stream)
            for stream in audio
            if (
                stream.codec_context is not None
                and ((self.drift or (self.delay and not self.kind.starts)) if stream.index == self.moved else False)
            )
            or not (self.kind.starts or same)
        }

    def _render(self, target, stream: av.AudioStream | None) -> av.stream.Stream:
        """Add a stream for audio that is encoded: of a track of the source, or what replaces all."""
        start = self.origin if self.kind.starts else 0.0
        if stream is None:
            samples = Samples(self.replaced, probe(self.replaced).start)
        else:
            track = Selected(self.file, list(self.source.streams.audio).index(stream) + 1)
            delay = self.delay if stream.index == self.moved else 0.0
            drift = self.drift if stream.index == self.moved else 0.0
            early = self.origin - self.begin if self.kind.starts else 0.0
            start -= early
            origin = self.origin - delay - early * (1 - drift)
            samples = Retimed(track, origin, 1 - drift) if drift else Samples(track, origin)
            self.encoded.append(described(stream))
        made = SoundTrack(
            target, samples.rate, samples.channels, _encoders(target, self.kind, stream), start=start,
            stamped=self.kind.starts, rates=self.kind.rates,
            bit_rate=stream.codec_context.bit_rate if stream is not None else None,
        )  # fmt: skip
        self.rendered.append(_Rendered(made, samples, start))
        return made.stream

    def heard(self, layout: Layout) -> Iterator[tuple[Source, Callable[[float], float], bool]]:
        """Of each audio track of the target: what it was made from, when on the source's clock that is to play, and
        whether it is a copy."""
        if self.replaced is not None:
            first = probe(self.replaced).start
            yield self.replaced, lambda t: t - first + self.origin, False
            return
        for number, stream in enumerate(self.source.streams.audio, 1):
            if stream.index not in layout.copies and stream.index not in layout.encoded:
                continue
            moved = stream.index == self.moved
            delay, speed = (self.delay, 1 - self.drift) if moved else (0.0, 1.0)
            yield (
                Selected(self.file, number),
                lambda t, delay=delay, speed=speed: self.origin + (t - self.origin + delay) / speed,
                stream.index in layout.copies,
            )


def _encoders(target, kind: Container, stream: av.AudioStream | None) -> list[str]:
    """Encoders for audio like a stream's: its own codec, where the container holds it, then the container's."""
    if stream is None:
        return list(kind.audio)
    name = stream.codec_context.codec.canonical_name
    name = _BEST_ENCODERS.get(name, name)
    try:
        # FFmpeg reads back an AVI's packets of AAC that are large as two.
        held = name in kind.audio or ((kind.starts or name.startswith("pcm_")) and name in target.supported_codecs)
        own = held and not av.codec.Codec(name, "w").experimental
    except ValueError:
        own = False
    return list(dict.fromkeys([name, *kind.audio] if own else kind.audio))


@dataclass
class _Rendered:
    """Audio that is encoded: the track of the target, its samples, and the instant of the first (seconds)."""

    track: SoundTrack
    samples: Samples | Retimed
    start: float

    def write_until(self, seconds: float | None, at_least: float = 0.0) -> None:
        """Write what plays before an instant on the target's clock; None: all that is left, and silence until
        ``at_least``."""
        while not self._ended() and (seconds is None or self.start + self.track.written / self.samples.rate < seconds):
            first, count = self.track.written, round(_CHUNK * self.samples.rate)
            piece, end = self.samples.read(first, count), self.samples.end()
            self.track.write(piece if end is None else piece[:, : max(end - first, 0)])
            self.samples.forget(self.track.written)
            if end is not None and not self._ended():
                self.track.written = end
        if seconds is None:
            missing = round((at_least - self.start) * self.samples.rate) - self.track.written
            self.track.write(np.zeros((self.samples.channels, max(missing, 0)), np.float32))
            self.track.finish()

    def _ended(self) -> bool:
        end = self.samples.end()
        return end is not None and self.track.written >= end


@contextmanager
def _opened(job: _Job, part: Path) -> Iterator[tuple[av.container.OutputContainer, Layout]]:
    """The target with its header written: as much like the source as its container takes."""
    options = {}
    if job.kind.format in ("mp4", "mov") and job.source.streams.audio:
        # Delays are edit lists, in ticks of the whole file: milliseconds, unless told otherwise.
        rates = [s.codec_context.sample_rate for s in job.source.streams.audio if s.codec_context is not None]
        options = {"movie_timescale": str(max(rates, default=1000))}
        if any(key.startswith("com.apple.quicktime.") for key in job.source.metadata):
            options["movflags"] = "use_metadata_tags"
    failure: Exception | None = None
    for attempt in ({}, {"codec_tags": False}, {"extras": False}, {"codec_tags": False, "extras": False}):
        target = create(part, job.kind, **options)
        try:
            layout = lay_out(job.source, target, job.kind, job.audio_plan(target), **attempt)
            if job.replaced is not None and not job.rendered:
                job._render(target, None)
            if job.video.index not in layout.copies:
                raise OutputError(f"it cannot hold {described(job.video)}; write a .mkv")
            target.start_encoding()
        except (ValueError, av.error.FFmpegError) as error:
            failure = error
            target.close()
            continue
        with target:
            yield target, layout
        return
    reason = (
        f" ({failure})" if isinstance(failure, ValueError) and not isinstance(failure, av.error.FFmpegError) else ""
    )
    raise OutputError(f"it cannot hold the streams of the file{reason}; write a .mkv")


def _copy(job: _Job, target: av.container.OutputContainer, layout: Layout) -> None:
    """Interleave the copied packets with what is encoded."""
    order, first = InOrder(), {}
    late = max((dts - pts for dts, pts in job.presented.items()), default=0) if job.presented else 0
    filters = {s.index: started(s) for s in job.source.streams if job.kind.annex_b and is_length_prefixed(s)}
    for packet in _packets(job, layout):
        index, copy = packet.stream.index, layout.copies[packet.stream.index]
        if index == job.video.index:
            if job.presented:
                packet.pts, packet.dts = job.presented[packet.dts], packet.dts - late
            stamp = packet.dts if job.untimed and not job.presented else packet.pts
            now = float(stamp * packet.stream.time_base)
            if not packet.is_discard:
                job.shown.append(now)
            for sound in job.rendered:
                sound.write_until(now - (0.0 if job.kind.starts else job.origin))
        rescale(packet, copy.time_base)
        if index == job.moved and job.delay:
            # What an edit list hides stays hidden, but for a packet that primes the decoder.
            if (packet.pts + 2 * packet.duration) * copy.time_base <= job.hidden:
                continue
            shift = round(Fraction(job.delay) / copy.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            if job.delay < 0 and (packet.pts + packet.duration) * copy.time_base <= job.begin:
                continue
        if not job.kind.starts:
            begun = first.setdefault(index, packet.dts)
            packet.pts, packet.dts = packet.pts - begun, packet.dts - begun
        for piece in filters[index].filter(packet) if index in filters else [packet]:
            piece.stream = copy
            order.mend(piece)
            _mux(target, piece)
    # Containers without starts of streams end with the shortest of them.
    end = max(job.shown, default=0.0) + 1 / float(job.video.average_rate or 25) - job.origin
    for sound in job.rendered:
        sound.write_until(None, 0.0 if job.kind.starts else end)


def _packets(job: _Job, layout: Layout) -> Iterator[av.Packet]:
    """Packets of the streams that are copied, all stamped."""
    try:
        yield from dated(demuxed(job.source, [s for s in job.source.streams if s.index in layout.copies]))
    except av.error.FFmpegError as error:
        raise MediaError(f"{job.path} cannot be read to its end: {error.strerror}") from error


def _mux(target: av.container.OutputContainer, packet: av.Packet) -> None:
    try:
        target.mux(packet)
    except (av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError) as error:
        raise OutputError("its container cannot hold the packets of the file; write a .mkv or .mp4") from error
