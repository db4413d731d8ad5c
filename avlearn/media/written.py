"""The check of a written file against the one that it was made from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from scipy.fft import irfft, next_fast_len, rfft

from avlearn.errors import MediaError, NoAudioError, OutputError
from avlearn.files import printable
from avlearn.media.clip import Window
from avlearn.media.layout import Layout, described, file_tags, stream_tags
from avlearn.media.probe import probe
from avlearn.media.reader import ClipReader
from avlearn.media.source import Selected, Source, audio_stream, open_media
from avlearn.media.stamps import frame_times
from avlearn.media.ticks import AnyPacket

_STILL = 0.002  # seconds by which a frame's time may differ: a tick of the coarsest container, and its rounding
_APART = 0.010  # seconds by which audio may lie beside where it should
_RATE = 16000  # at which audio is compared
_LOOK = 1.0  # seconds that are compared
_PLACES = 8  # along the file, of which the loudest two are compared
_REACH = 0.15  # seconds either way that audio is looked for
# Least correlation at which audio is found, copied and encoded again: decoders of AC-3, MP2 and AAC add noise of their
# own, another each time and as loud as quiet audio. That copies are the same is known by what is coded.
_COPIED, _ALIKE = 0.5, 0.3
_SILENT = 1e-8  # mean square below which nothing can be compared
_ADVICE = "write a .mkv or .mp4"


@contextmanager
def read_back(part: Path) -> Iterator[None]:
    """Reading of a file that was just written: what cannot be read is the container's fault.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        yield
    except MediaError as error:
        reason = str(error).replace(printable(part), "it")
        raise OutputError(f"what this container makes of it cannot be read back ({reason}); {_ADVICE}") from error


def check_frames(part: Path, times: list[float]) -> float:
    """Check that a written file shows its frames when it should, on one clock or another.

    Args:
        part: the written file.
        times: when the frames are to be shown, seconds. More may come before them: what an edit list hid.

    Returns:
        Seconds by which the written file's clock is ahead.

    Raises:
        OutputError: frames are missing, or at other times.
    """
    with read_back(part):
        wanted, found = np.sort(times), np.array(frame_times(part))
    if len(found) < len(wanted):
        raise OutputError(f"it would show {len(found)} of {len(wanted)} frames; {_ADVICE}")
    ahead = found[len(found) - len(wanted) :] - wanted
    shift = float(np.median(ahead))
    if np.abs(ahead - shift).max() > _STILL:
        late = np.abs(ahead - shift).max() * 1000
        raise OutputError(f"this container would show frames up to {late:.0f} ms beside their time; {_ADVICE}")
    return shift


class CodedAudio:
    """A track's audio as it is coded, however a container cuts it into packets.

    The headers of AAC in transport streams (ADTS) are the container's, and do not count.

    Attributes:
        size: bytes.
    """

    def __init__(self) -> None:
        self._digest, self.size = blake2b(), 0

    def add(self, packet: AnyPacket) -> None:
        """Take the next packet."""
        data = bytes(packet)
        if packet.stream.codec_context.name == "aac" and len(data) > 9 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
            data = data[7 if data[1] & 1 else 9 :]
        self._digest.update(data)
        self.size += len(data)

    def digest(self) -> bytes:
        """The same for the same audio, to the bit."""
        return self._digest.digest()


def check_audio(
    source: Source, written: Path, number: int, placed: Callable[[float], float], copied: CodedAudio | None
) -> int:
    """Check that a written file's audio is the copied one to the bit, and by its samples that it plays when it should.

    Args:
        source: whose audio it is.
        written: the file.
        number: of its audio track, from 1, in the order in which they were given to the container.
        placed: from seconds on the source's clock to those on the written file's.
        copied: what was copied; None where it was encoded again, and need not be quite alike.

    Returns:
        The number of that track, from 1, in the file's own order.

    Raises:
        OutputError: it is more than 10 ms beside its time, or not there.
    """
    place = _place(written, number)
    track = Selected(written, place)
    info, kept = probe(source).audio, probe(track).audio
    if info is None:
        raise NoAudioError(f"{source} has no audio track that can be decoded")
    if kept is None:
        raise OutputError(f"this container cannot hold {info.codec} audio; {_ADVICE}")
    if copied is not None:
        _check_coded(written, place, copied)
    begin, end = kept.start, kept.start + kept.duration
    reader = ClipReader(sample_rate=_RATE, mono=True, video=False)
    looks = []
    for start in info.start + np.linspace(0, max(info.duration - _LOOK, 0), _PLACES):
        # Only what the written file is long enough to hold, and the source can be read.
        if begin + _REACH <= placed(start) and placed(start) + _LOOK + _REACH <= end:
            with suppress(MediaError):
                audio = reader.read(source, [Window(start, _LOOK)])[0].audio[0]
                speed = _LOOK / (placed(start + _LOOK) - placed(start))
                audio = np.interp(np.arange(0, len(audio) - 1, speed), np.arange(len(audio)), audio)
                looks.append((float(np.square(audio).sum()), start, audio))
    for energy, start, audio in sorted(looks, key=lambda look: -look[0])[:2]:
        if energy < _SILENT * len(audio):
            continue
        with read_back(written):
            there = reader.read(track, [Window(placed(start), _LOOK, _REACH, _REACH)])[0]
        late, alike = _lag(there.audio[0], audio)
        if alike < (_COPIED if copied is not None else _ALIKE):
            raise OutputError(f"this container would play other audio at {start:.1f} s; {_ADVICE}")
        if abs(late) > _APART:
            raise OutputError(f"this container would play the audio {late * 1000:+.0f} ms beside its time; {_ADVICE}")
    return place


def _check_coded(written: Path, place: int, copied: CodedAudio) -> None:
    there, track = CodedAudio(), Selected(written, place)
    with read_back(written), open_media(track) as container:
        for packet in container.demux(audio_stream(container, track)):
            if packet.size:
                there.add(packet)
    if there.digest() != copied.digest():
        raise OutputError(f"this container would hold other audio ({there.size} bytes, not {copied.size}); {_ADVICE}")


def _place(written: Path, number: int) -> int:
    """Where a track lies in a file: MPEG program streams list them as they come, but number them in order."""
    with open_media(written) as container:
        tracks = container.streams.audio
        if container.format.name != "mpeg" or number > len(tracks):
            return number
        return sorted(range(len(tracks)), key=lambda k: tracks[k].id)[number - 1] + 1


def _lag(heard: np.ndarray, put: np.ndarray) -> tuple[float, float]:
    """Seconds by which ``put`` lies later in ``heard`` than `_REACH`, and the correlation there; 0 if as good there."""
    size = next_fast_len(len(heard) + len(put), real=True)
    curve = irfft(rfft(heard, size) * rfft(put, size).conj(), size)[: len(heard) - len(put) + 1]
    energy = np.cumsum(np.concatenate([[0.0], np.square(heard, dtype=np.float64)]))
    scale = np.sqrt((energy[len(put) :] - energy[: -len(put)]) * np.square(put, dtype=np.float64).sum())
    alike = curve / np.maximum(scale, 1e-9)
    middle, near = round(_REACH * _RATE), round(_APART * _RATE)
    best = int(alike.argmax())
    # Audio that repeats itself fits at many places.
    fits = alike[middle - near : middle + near + 1].max() > 0.9 * alike[best]
    return 0.0 if fits else (best - middle) / _RATE, float(alike[best])


def not_kept(file: Source, source: av.container.InputContainer, part: Path, layout: Layout) -> list[str]:
    """What else of a file, open as ``source``, the written one lacks, in a few words each: streams, chapters, tags,
    rotation."""
    lost, kept = [], {*layout.copies, *layout.encoded}
    with open_media(part) as written:
        if len(written.chapters()) < len(source.chapters()):
            lost.append(f"{len(source.chapters())} chapters")
        lost += _tags("the file's tags", file_tags(source), file_tags(written))
        for kind in ("video", "audio", "subtitle", "data"):
            ours = [stream for stream in source.streams if stream.type == kind and stream.index in kept]
            theirs = [stream for stream in written.streams if stream.type == kind]
            if written.format.name == "mpeg":
                theirs.sort(key=lambda stream: stream.id)
            for stream in ours[len(theirs) :]:
                lost.append(described(stream))
            for stream, copy in zip(ours, theirs, strict=False):
                tags = {key: value for key, value in stream_tags(stream).items() if key.lower() != "creation_time"}
                lost += _tags(f"tags of {described(stream)}", tags, stream_tags(copy))
                if (stream.disposition & ~copy.disposition) & ~Disposition.default:
                    lost.append(f"dispositions of {described(stream)}")
    before, after = probe(file), probe(part)
    turned, kept_turned = (info.video.rotation if info.video else 0 for info in (before, after))
    if turned != kept_turned:
        lost.append(f"the rotation by {turned} degrees")
    return lost


def _tags(what: str, ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    held = {key.lower() for key in theirs}
    missing = [key for key in ours if key.lower() not in held]
    return [f"{what} {', '.join(sorted(missing))}"] if missing else []
