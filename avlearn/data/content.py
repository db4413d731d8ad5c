"""The content of a data set's file, and its faults: its hash, and a few short windows decoded."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import av
import av.container
import numpy as np
from av.video.reformatter import Interpolation

from avlearn.data.manifest import LATEST, LONGEST, NO_AUDIO, NO_VIDEO
from avlearn.errors import MediaError, NoAudioError, NoVideoError, OutputError
from avlearn.files import reason_of
from avlearn.media import MediaInfo, probe
from avlearn.media.aspect import repaired
from avlearn.media.decode_audio import BAD_SAMPLES, LOUDEST, to_float
from avlearn.media.source import audio_stream, open_media, video_stream
from avlearn.media.ticks import AnyPacket, tick
from avlearn.media.unchanged import unchanged
from avlearn.remote.address import is_address
from avlearn.remote.cache import local_copy

FLAGS = {
    "missing": "there is no such file",
    "undecodable": "the file is damaged, or no media file",
    "no-video": NO_VIDEO,
    "no-audio": NO_AUDIO,
    "silent": "the audio track holds silence",
    "static": "the video never changes",
    "short": "shorter than asked for",
    "variable-fps": "frames follow no fixed rate",
    "start-offset": "video and audio begin more than 40 ms apart",
    "duplicate": "another file with the same content comes first",
}

# Values of a manifest's columns by name; ``flags`` and ``reason`` are always among them.
Facts = dict[str, Any]
_F = TypeVar("_F", av.VideoFrame, av.AudioFrame)
# A stream of an open file, and what decodes a packet of it.
_Decoder = tuple[av.stream.Stream, Callable[[AnyPacket], list[_F]]]

_OFFSET = 0.040  # seconds: a frame at 25 a second, the least that people and models notice
# Three windows tell a healthy file at a cost that does not grow with its length. Audio that comes in bursts and a
# video that changes now and then can hide from them, so what looks dead is looked at again in many more.
_WINDOW, _FEW, _MANY = 0.5, 3, 40
# Below -60 dBFS lies dither and the ringing of codecs around digital silence; the noise of a quiet room lies above.
_SILENCE = 1e-3
# Levels of 255 by which the mean of a cell moves at most while the video is still and is only encoded anew at each
# keyframe: 2 to 6 where nothing moves, dozens where a mouth opens. Starved codecs make still videos move.
_STILL = 6
_CELLS, _BLOCK = 32, 8  # cells a side at most, and pixels of a cell's side at least: a codec's block
_TIMES = 3  # that a remote file is fetched, where copies of others drive its own out while it is looked into
_REACH = 20.0  # seconds decoded ahead of a window at most: a film with a keyframe a minute is looked at there


def unusable(flag: str, reason: str = "") -> Facts:
    """What is told of a file that cannot be used, for one of the `FLAGS` or for another reason."""
    return {"flags": [flag], "reason": reason or FLAGS[flag]}


def inspect_file(path: str) -> Facts:
    """Values of the columns that a file's content decides; of one that cannot be read, the reason.

    One at an address is fetched: all of it is read for its hash.
    """
    if is_address(path):
        return _remote_content(path)
    try:
        return _content(path)
    except OSError as error:
        return unusable("undecodable", error.strerror or str(error))
    except MediaError as error:
        return unusable("undecodable", str(error).replace(path, "it"))


def _remote_content(address: str) -> Facts:
    facts: Facts = {}
    for _ in range(_TIMES):
        try:
            copy = local_copy(address)
        except (MediaError, OutputError) as error:
            return unusable("undecodable", reason_of(error, address))
        facts = inspect_file(str(copy))
        if copy.exists():  # and was not dropped meanwhile
            break
    return facts


@unchanged
def _content(path: str) -> Facts:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    return {"hash": digest, "bytes": os.path.getsize(path)} | _facts(path)


def _facts(path: str) -> Facts:
    facts: Facts = {}
    try:
        info = probe(path)
        facts = _described(info)
        if abs(facts["start"]) > LATEST or facts["duration"] > LONGEST:
            return unusable("undecodable", f"it says that it lasts {facts['duration']:g} s from {facts['start']:g} s")
        flags = _flags(path, info)
    except MediaError as error:
        return facts | unusable("undecodable", str(error).replace(path, "").strip(" :"))
    except Exception as error:  # a hostile file may bring anything out of a decoder, and the others still count
        return facts | unusable("undecodable", f"{type(error).__name__}: {error}".replace(path, "it"))
    lacking = next((FLAGS[flag] for flag in ("no-video", "no-audio") if flag in flags), "")
    if not lacking and facts["duration"] == 0:
        lacking = "video and audio have no time in common"
    return facts | {"flags": flags, "reason": lacking}


def _described(info: MediaInfo) -> Facts:
    streams = [stream for stream in (info.video, info.audio) if stream]
    end = min(stream.start + stream.duration for stream in streams)
    facts: Facts = {"start": info.start, "duration": max(end - info.start, 0.0)}
    if video := info.video:
        facts |= {"video_codec": video.codec, "fps": video.fps, "width": video.width, "height": video.height}
    if audio := info.audio:
        facts |= {"audio_codec": audio.codec, "sample_rate": audio.sample_rate, "channels": audio.channels}
    return facts


def _flags(path: str, info: MediaInfo) -> list[str]:
    video, audio = info.video, info.audio
    flags = []
    if video is None:
        flags.append("no-video")
    else:
        flags += ["variable-fps"] if video.variable_fps else []
        flags += ["static"] if _is_static(path, video.start, max(video.duration, video.stated)) else []
    if audio is None:
        flags.append("no-audio")
    else:
        flags += ["silent"] if _is_silent(path, audio.start, max(audio.duration, audio.stated)) else []
    if video and audio and abs(video.start - audio.start) > _OFFSET:
        flags.append("start-offset")
    return flags


def _is_static(path: str, start: float, duration: float) -> bool:
    for windows in (_FEW, _MANY):
        first: np.ndarray | None = None
        moves = False
        for frame in _frames(path, _video, start, duration, windows):
            cells = _cells(frame)
            first = cells if first is None else first
            moves |= bool(np.abs(cells - first).max() > _STILL)
        if moves:
            return False
    return True


def _cells(frame: av.VideoFrame) -> np.ndarray:
    """Mean lightness of a frame's cells, int16."""
    across, down = (max(1, min(_CELLS, side // _BLOCK)) for side in (frame.width, frame.height))
    small = frame.reformat(across, down, "gray", interpolation=Interpolation.AREA, threads=1)
    return small.to_ndarray().astype(np.int16)


def _is_silent(path: str, start: float, duration: float) -> bool:
    for windows in (_FEW, _MANY):
        if max(map(_peak, _frames(path, _audio, start, duration, windows)), default=0.0) > _SILENCE:
            return False
    return True


def _peak(frame: av.AudioFrame) -> float:
    channels = frame.layout.nb_channels
    if channels >= 8 and not frame.format.is_packed:  # PyAV cannot reach planes past the eighth
        frame = av.AudioResampler("flt", frame.layout, frame.sample_rate).resample(frame)[0]
    peak = float(np.abs(to_float(frame, channels)).max(initial=0.0))
    if not peak <= LOUDEST:  # nor where one is no number
        raise MediaError(f"its audio has {BAD_SAMPLES}")
    return peak


def _video(container: av.container.InputContainer) -> _Decoder[av.VideoFrame]:
    stream = video_stream(container)
    if stream is None:
        raise NoVideoError(FLAGS["no-video"])
    return stream, lambda packet: stream.decode(repaired(packet))


def _audio(container: av.container.InputContainer) -> _Decoder[av.AudioFrame]:
    stream = audio_stream(container)
    if stream is None:
        raise NoAudioError(FLAGS["no-audio"])
    return stream, stream.decode


def _frames(
    path: str,
    choose: Callable[[av.container.InputContainer], _Decoder[_F]],
    start: float,
    duration: float,
    windows: int,
) -> Iterator[_F]:
    """Decoded frames of windows spread evenly over a stream; all of a stream that is not longer than they are.

    Raises:
        MediaError: a window holds damage only, or no video. One without audio is silent: tracks may have gaps.
    """
    spans = [(start, start + max(duration, _WINDOW))]
    if duration > windows * _WINDOW:
        begins = [start + (duration - _WINDOW) * (k + 0.5) / windows for k in range(windows)]
        spans = [(begin, begin + _WINDOW) for begin in begins]
    with open_media(path) as container:
        stream, decode = choose(container)
        for begin, end in spans:
            empty = True
            # Transport streams are searched by time, and no keyframe may follow: then again from the start.
            for place in (begin, 0.0) if stream.type == "video" else (begin,):
                if begin > start:
                    # Where a container cannot be searched, decoding goes on: windows come in order.
                    with suppress(av.error.FFmpegError):
                        container.seek(int(place / tick(stream)), stream=stream)
                for frame in _window(container, stream, decode, begin, end):
                    empty = False
                    yield frame
                if not empty:
                    break
            if empty and stream.type == "video":
                raise MediaError(f"the video ends before its {duration:.1f} s are over")


def _window(
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    decode: Callable[[AnyPacket], list[_F]],
    begin: float,
    end: float,
) -> Iterator[_F]:
    """Frames that are shown (or heard) from ``begin`` to ``end``."""
    last: _F | None = None
    error: av.error.FFmpegError | None = None
    for packet in container.demux(stream):
        try:
            decoded = decode(packet)
        except (av.error.InvalidDataError, av.error.EOFError) as failure:
            error = failure
            continue
        for frame in decoded:
            now = begin if frame.time is None else frame.time
            if last is None and now < begin - _REACH:
                begin, end = now, now + end - begin
            # Of what comes before the window, only the last frame can still be shown in it.
            if last is not None and now > begin:
                yield last
                if now >= end:
                    return
            last = frame
    if last is not None and _end(last) + _WINDOW > begin:
        yield last
    elif error is not None:
        raise MediaError(f"nothing can be decoded at {begin:.1f} s: {error.strerror}")


def _end(frame: av.frame.Frame) -> float:
    """Seconds until which a frame is shown; infinite where it does not say when it begins."""
    if frame.time is None or frame.time_base is None:
        return float("inf")
    return frame.time + float((frame.duration or 0) * frame.time_base)
