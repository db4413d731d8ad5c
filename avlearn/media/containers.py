"""Containers that can be written: FFmpeg's name of each, what it holds, and whether it tells when a stream begins."""

from dataclasses import dataclass, replace
from pathlib import Path

import av

from avlearn.errors import OutputError


@dataclass(frozen=True)
class Container:
    """A kind of file.

    Attributes:
        format: FFmpeg's name of the muxer.
        audio: encoders for audio that cannot be copied, the first choice first.
        starts: whether streams may begin at different instants; else every stream begins with the file.
        rates: of the audio that it holds, samples a second; None: any.
        annex_b: whether H.264 and HEVC must have start codes, and FFmpeg does not see to it.
        subtitles: codecs of those that it holds, by FFmpeg's names; None: FFmpeg knows.
    """

    format: str
    audio: tuple[str, ...]
    starts: bool = True
    rates: tuple[int, ...] | None = None
    subtitles: tuple[str, ...] | None = None
    annex_b: bool = False


_MP4 = Container("mp4", ("aac", "flac"))
_TS = Container("mpegts", ("aac", "mp2", "ac3"), subtitles=("dvb_subtitle", "dvb_teletext"))
_PS = Container("mpeg", ("mp2", "ac3"), subtitles=("dvd_subtitle",), annex_b=True)
CONTAINERS: dict[str, Container] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("aac", "flac")),
    ".mkv": Container("matroska", ("aac", "flac")),
    ".webm": Container("webm", ("libopus",)),
    ".avi": Container("avi", ("libmp3lame", "ac3", "pcm_s16le"), starts=False, annex_b=True),
    ".ts": _TS,
    ".m2ts": _TS,
    ".mts": _TS,
    ".mpg": _PS,
    ".mpeg": _PS,
    ".vob": replace(_PS, format="vob"),
    ".mxf": Container("mxf", ("pcm_s24le", "pcm_s16le"), starts=False, rates=(48000,), subtitles=()),
    ".flv": Container("flv", ("aac", "libmp3lame")),
    ".asf": Container("asf", ("wmav2", "aac")),
    ".wmv": Container("asf", ("wmav2", "aac")),
}


def container_of(path: str | Path) -> Container:
    """The kind of file that a name's suffix stands for.

    Raises:
        OutputError: none that can be written.
    """
    found = CONTAINERS.get(Path(path).suffix.lower())
    if found is None:
        raise OutputError(f"cannot write {path}: its name must end in one of {', '.join(sorted(CONTAINERS))}")
    return found


def create(path: Path, kind: Container, **options: str) -> av.container.OutputContainer:
    """Open a file to write to, so that the same streams give the same bytes: no clock, no random numbers in it."""
    return av.open(str(path), "w", format=kind.format, options={"fflags": "+bitexact", **options})
