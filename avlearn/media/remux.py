"""A whole file again, its audio put where it belongs or replaced, without encoding the video."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, EIO, ENOSPC, EROFS
from functools import partial
from pathlib import Path

import av

from avlearn.errors import OutputError
from avlearn.files import replacing
from avlearn.media.containers import Container, container_of, create
from avlearn.media.encoded_audio import EncodedAudio
from avlearn.media.layout import Layout, described, lay_out
from avlearn.media.original import Move, Original, move_of, read_original
from avlearn.media.packet_copy import PacketCopy
from avlearn.media.probe import probe
from avlearn.media.source import Source, open_media, opened_once
from avlearn.media.writer import WRITE_ERRORS
from avlearn.media.written import CodedAudio, check_audio, check_frames, not_kept, read_back

_OF_THE_DISK = (EDQUOT, EFBIG, EIO, ENOSPC, EROFS)  # errors that no other choice of streams mends


@dataclass(frozen=True)
class Remuxed:
    """The result of a remux.

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


@opened_once
def remux(
    path: Source,
    out: str | Path,
    *,
    audio_delay: float = 0.0,
    audio_drift: float = 0.0,
    replace_audio: Source | None = None,
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
    out, file = Path(out), Path(str(path))
    kind = container_of(out)
    if out.exists() and file.exists() and out.samefile(file):
        raise OutputError(f"{out} is the input itself: give another name")
    with open_media(path) as container, replacing(out, WRITE_ERRORS) as part:
        original = read_original(path, container, kind)
        move = move_of(original, audio_delay, audio_drift) if replace_audio is None else Move()
        try:
            with _opened(part, kind, original, move, replace_audio) as (target, layout, encoded):
                copy = PacketCopy(original, kind, move, target, layout)
                copy.run(encoded)
            ahead = check_frames(part, copy.shown)
            place = _check_tracks(part, _heard(original, move, replace_audio, layout), copy.coded, ahead, move.index)
            left_out = layout.left_out + not_kept(original.file, container, part, layout)
            done = Remuxed(move.number, len(container.streams.audio), place, tuple(encoded.names), tuple(left_out))
            if check is not None:
                with read_back(part):
                    check(part, done)
        except OutputError as error:
            raise OutputError(f"cannot write {out}: {error}") from error
    return done


@contextmanager
def _opened(
    part: Path, kind: Container, original: Original, move: Move, replaced: Source | None
) -> Iterator[tuple[av.container.OutputContainer, Layout, EncodedAudio]]:
    """The target with its header written: as much like the source as its container takes."""
    failure: Exception | None = None
    for attempt in ({}, {"codec_tags": False}, {"extras": False}, {"codec_tags": False, "extras": False}):
        target = create(part, kind, **_options(original, kind))
        try:
            encoded = EncodedAudio(target, kind, original, move, replaced)
            layout = lay_out(original.container, target, kind, encoded.plan(), **attempt)
            encoded.complete()
            if original.video.index not in layout.copies:
                raise OutputError(f"it cannot hold {described(original.video)}; write a .mkv")
            target.start_encoding()
        except (ValueError, av.error.FFmpegError) as error:
            failure = error
            target.close()
            if getattr(error, "errno", None) in _OF_THE_DISK:
                raise
            continue
        with target:
            yield target, layout, encoded
        return
    reason = (
        f" ({failure})" if isinstance(failure, ValueError) and not isinstance(failure, av.error.FFmpegError) else ""
    )
    raise OutputError(f"it cannot hold the streams of the file{reason}; write a .mkv")


def _options(original: Original, kind: Container) -> dict[str, str]:
    """Of the muxer, so that times and tags are kept."""
    audio = original.container.streams.audio
    if kind.format not in ("mp4", "mov") or not audio:
        return {}
    # Delays are edit lists, in ticks of the whole file: milliseconds, unless told otherwise.
    rates = [s.codec_context.sample_rate for s in audio if s.codec_context is not None]
    options = {"movie_timescale": str(max(rates, default=1000))}
    if any(key.startswith("com.apple.quicktime.") for key in original.container.metadata):
        options["movflags"] = "use_metadata_tags"
    return options


@dataclass(frozen=True)
class _Heard:
    """An audio track of the target: what it was made from, that stream's index where it is one of the file's, and when
    an instant of it is to play (seconds on the file's clock)."""

    source: Source
    index: int | None
    plays: Callable[[float], float]


def _heard(original: Original, move: Move, replaced: Source | None, layout: Layout) -> list[_Heard]:
    """The audio tracks of the target, in the order in which they were given to it."""
    if replaced is not None:
        first = probe(replaced).start
        return [_Heard(replaced, None, lambda t: t - first + original.origin)]
    tracks = []
    for stream in original.container.streams.audio:
        if stream.index in layout.copies or stream.index in layout.encoded:
            delay, drift = move.of(stream)

            def plays(t: float, delay: float = delay, speed: float = 1 - drift) -> float:
                return original.origin + (t - original.origin + delay) / speed

            tracks.append(_Heard(original.track(stream), stream.index, plays))
    return tracks


def _check_tracks(
    part: Path, tracks: list[_Heard], coded: dict[int, CodedAudio], ahead: float, moved: int | None
) -> int | None:
    """Check the audio of what was written, its clock so many seconds ahead; where the moved track lies, from 1."""
    place = None
    for number, track in enumerate(tracks, 1):
        copied = None if track.index is None else coded.get(track.index)
        there = check_audio(track.source, part, number, partial(_ahead, track.plays, ahead), copied)
        place = there if track.index is not None and track.index == moved else place
    return place


def _ahead(plays: Callable[[float], float], ahead: float, seconds: float) -> float:
    return plays(seconds) + ahead
