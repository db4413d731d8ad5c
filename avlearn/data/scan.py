"""A look into every file of a data set: what it holds, and what is wrong with it."""

import hashlib
import os
import signal
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

from avlearn.data.manifest import LATEST, LONGEST, Entry, Row, write_manifest
from avlearn.data.manifest import SUFFIXES as MANIFESTS
from avlearn.data.resumable import CRASHED, Journal, in_processes
from avlearn.data.walk import walk_files
from avlearn.errors import DataError, MediaError
from avlearn.files import check_output, printable
from avlearn.media import MediaInfo, probe
from avlearn.media.aspect import believed
from avlearn.media.decode_audio import LOUDEST, NO_SOUND, to_float
from avlearn.media.source import audio_stream, open_media, video_stream
from avlearn.media.unchanged import unchanged

SUFFIXES = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv", ".mpg", ".mpeg", ".ts", ".m4v", ".3g2", ".3gp", ".asf", ".divx",
    ".dv", ".f4v", ".m1v", ".m2p", ".m2ts", ".m2v", ".mjpg", ".mod", ".mp4v", ".mpe", ".mpv", ".mts", ".mxf", ".nut",
    ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".vob", ".wmv", ".wtv", ".y4m",
)  # fmt: skip
FLAGS = {
    "missing": "there is no such file",
    "undecodable": "the file is damaged, or no media file",
    "no-video": "there is no picture",
    "no-audio": "there is no sound track",
    "silent": "the sound track holds silence",
    "static": "the picture never changes",
    "short": "shorter than asked for",
    "variable-fps": "frames follow no fixed rate",
    "start-offset": "picture and sound begin more than 40 ms apart",
    "duplicate": "another file with the same content comes first",
}

Progress = Callable[[int, int], None]

_SHOWN = 10  # reasons that a summary for people names
_VERSION = 1  # of what a journal holds of a file
_OFFSET = 0.040  # seconds: a frame at 25 a second, the least that people and models notice
# Three windows tell a healthy file at a cost that does not grow with its length. Sound that comes in bursts and a
# picture that changes now and then can hide from them, so what looks dead is looked at again in many more.
_WINDOW, _FEW, _MANY = 0.5, 3, 40
# Below -60 dBFS lies dither and the ringing of codecs around digital silence; the noise of a quiet room lies above.
_SILENCE = 1e-3
# Levels of 255 by which the mean of a cell moves at most while the picture is still and is only encoded anew at each
# keyframe: 2 to 6 where nothing moves, dozens where a mouth opens. Starved codecs make still pictures move.
_STILL = 6
_CELLS, _BLOCK = 32, 8  # cells a side at most, and pixels of a cell's side at least: a codec's block
_REACH = 20.0  # seconds decoded ahead of a window at most: a film with a keyframe a minute is looked at there
_PATIENCE, _PACE = 600, 1e6  # seconds that a file may take, and bytes a second beside them, until it counts as hung


@dataclass(frozen=True)
class Found:
    """Videos of a folder, and what else lies there.

    Attributes:
        entries: the videos, in stable order.
        passed_over: how many files there are beside them, by suffix, or by the reason that they cannot be used.
    """

    entries: list[Entry]
    passed_over: dict[str, int]


def find_videos(folder: str | Path) -> Found:
    """Videos of a folder laid out as ``[SPLIT/]CLASS/FILE`` (the layout of Kinetics).

    Links to folders are followed, once each. Hidden files and folders are passed over.

    Raises:
        DataError: the folder holds no video, or cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    entries, passed_over = [], Counter()
    for file in sorted(walk_files(folder, passed_over)):
        parts = file.relative_to(folder).parts
        other = _unusable(file)
        if other:
            passed_over[other] += 1
            continue
        split = parts[0] if len(parts) > 1 and parts[0] in ("train", "val", "test") else ""
        places = parts[1:-1] if split else parts[:-1]
        entries.append(Entry(file, places[-1:], split))
    if not entries:
        held = f"; it holds {_counted(passed_over)}" if passed_over else ""
        raise DataError(f"{folder} holds no video ({', '.join(SUFFIXES[:9])}, ...){held}")
    return Found(entries, dict(passed_over.most_common()))


def folder_entries(folder: str | Path) -> list[Entry]:
    """The entries of `find_videos`."""
    return find_videos(folder).entries


def _unusable(file: Path) -> str:
    """What a file is counted as that is no video; "" for one."""
    if file.suffix.lower() not in SUFFIXES:
        return file.suffix.lower() or "files without a suffix"
    try:
        str(file).encode()
        regular = stat.S_ISREG(file.stat().st_mode)
    except UnicodeEncodeError:
        utf8 = sys.getfilesystemencoding() == "utf-8"
        return "names that are not UTF-8 (rename them)" if utf8 else "names beyond this locale (set PYTHONUTF8=1)"
    except OSError:
        return ""  # a link that leads nowhere, or a file that may not be read: a row tells it
    return "" if regular else "pipes, devices and folders by such a name"


def _counted(passed_over: Mapping[str, int]) -> str:
    """Such as "12 .jpg, 3 hidden files"; the commonest, and how many more."""
    shown = [f"{count} {printable(what)}" for what, count in list(passed_over.items())[:_SHOWN]]
    rest = sum(list(passed_over.values())[_SHOWN:])
    return ", ".join(shown + [f"{rest} others"] * (rest > 0))


def scan(
    entries: Sequence[Entry],
    out: str | Path,
    *,
    min_duration: float = 1.0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Look into files and write their manifest; a run that was stopped goes on where it was.

    Every file is read once for its hash (a second a gigabyte, where the disk keeps up) and decoded in a few short
    windows, so that a film costs little more than a clip.

    Args:
        entries: the files, with what a corpus says of them.
        out: the manifest, ``.parquet`` or ``.csv``; a hidden journal lies beside it until it is written.
        min_duration: seconds below which a clip is ``short``.
        workers: processes; all cores by default.
        progress: called with how many files are done, and of how many.

    Returns:
        A row an entry, in their order. Those that cannot be used have a ``reason``.

    Raises:
        OutputError: the manifest cannot be written.
    """
    out = check_output(out, MANIFESTS, overwrite=True)
    path = out.with_name(f".{out.name}.journal")
    with closing(Journal(path)) as journal:
        found = _look_at_all(entries, out.parent, journal, workers, progress)
    rows = _rows(entries, found, min_duration)
    write_manifest(rows, out)
    path.unlink(missing_ok=True)
    return rows


@dataclass(frozen=True)
class ScanSummary:
    """What a scan found.

    Attributes:
        manifest: where it was written.
        rows: of it.
        passed_over: how many files of the folder are not in it, by what they are.
    """

    manifest: Path
    rows: list[Row]
    passed_over: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """JSON types: ``seconds`` and ``usable`` are of the clips that can be used, ``flags`` counts all."""
        usable = [row for row in self.rows if not row.reason]
        counts = Counter(flag for row in self.rows for flag in row.flags)
        return {
            "schema": "avlearn.scan/1",
            "manifest": str(self.manifest),
            "clips": len(self.rows),
            "usable": len(usable),
            "seconds": sum(row.duration for row in usable),
            "bytes": sum(row.bytes for row in self.rows),
            "flags": {flag: counts[flag] for flag in FLAGS if counts[flag]},
            "passed_over": self.passed_over,
            "unusable": [{"path": str(row.path), "reason": row.reason} for row in self.rows if row.reason],
        }

    def text(self) -> str:
        """For people."""
        told = self.to_dict()
        hours, size = told["seconds"] / 3600, told["bytes"] / 1e9
        lines = [f"{told['usable']} of {told['clips']} clips can be used: {hours:.2f} h, {size:.2f} GB"]
        lines += [f"  {count:7d} {flag:<13} {FLAGS[flag]}" for flag, count in told["flags"].items()]
        unusable = told["unusable"]
        lines += ["cannot be used:"] if unusable else []
        lines += [f"  {printable(item['path'])}: {item['reason']}" for item in unusable[:_SHOWN]]
        lines += [f"  and {len(unusable) - _SHOWN} more: see their reason in the manifest"] * (len(unusable) > _SHOWN)
        lines += [f"passed over: {_counted(self.passed_over)}"] if self.passed_over else []
        return "\n".join([*lines, f"wrote {printable(self.manifest)}"])


def scan_folder(folder: str | Path) -> list[Row]:
    """`scan` of `folder_entries` that writes nothing.

    Raises:
        DataError: the folder holds no video.
    """
    entries = folder_entries(folder)
    return _rows(entries, _look_at_all(entries, Path(folder), None, None, None), 1.0)


def _look_at_all(
    entries: Sequence[Entry], base: Path, journal: Journal | None, workers: int | None, progress: Progress | None
) -> list[dict]:
    """What was found in the file of each entry."""
    keys = [_key(entry.path, base) for entry in entries]
    paths = {key: str(entry.path) for key, entry in zip(keys, entries, strict=True)}
    known = {tuple(line["key"]): line["found"] for line in journal.records} if journal else {}
    found = {key: known[key] for key in paths if key in known}
    found |= {key: _cannot("missing") for key in paths if key[-1] is None}
    todo = [key for key in paths if key not in found]
    if progress:
        progress(len(found), len(paths))
    with closing(in_processes(_look, [paths[key] for key in todo], workers)) as results:
        for number, result in results:
            found[todo[number]] = _cannot("undecodable", "the decoder crashed") if result is CRASHED else result
            if journal:
                journal.add({"key": todo[number], "found": found[todo[number]]})
            if progress:
                progress(len(found), len(paths))
    return [found[key] for key in keys]


def _key(path: Path, base: Path) -> tuple:
    """What changes when a file does; the last is None where there is none."""
    place = os.path.relpath(path, base)
    try:
        status = path.stat()
    except OSError:
        return _VERSION, place, None, None
    return _VERSION, place, status.st_size, status.st_mtime_ns


def _rows(entries: Sequence[Entry], found: list[dict], min_duration: float) -> list[Row]:
    rows, seen = [], set()
    for entry, facts in zip(entries, found, strict=True):
        flags = set(facts["flags"])
        if not flags & {"missing", "undecodable"} and facts["duration"] < min_duration:
            flags.add("short")
        digest = facts.get("hash")
        if digest in seen:
            flags.add("duplicate")
        seen.add(digest or object())
        facts = facts | {"flags": tuple(flag for flag in FLAGS if flag in flags)}
        rows.append(Row(entry.path, labels=entry.labels, split=entry.split, events=entry.events, **facts))
    return rows


def _cannot(flag: str, reason: str = "") -> dict:
    return {"flags": [flag], "reason": reason or FLAGS[flag]}


def _look(path: str) -> dict:
    """Values of the columns that the content decides."""
    try:
        # A decoder that hangs is ended by the alarm's default action, and counts as one that crashed.
        signal.alarm(_PATIENCE + int(os.path.getsize(path) / _PACE))
        return _content(path)
    except OSError as error:
        return _cannot("undecodable", error.strerror or str(error))
    except MediaError as error:
        return _cannot("undecodable", str(error).replace(path, "it"))
    finally:
        signal.alarm(0)


@unchanged
def _content(path: str) -> dict:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    return {"hash": digest, "bytes": os.path.getsize(path)} | _facts(path)


def _facts(path: str) -> dict:
    facts = {}
    try:
        info = probe(path)
        facts = _described(info)
        if abs(facts["start"]) > LATEST or facts["duration"] > LONGEST:
            return _cannot("undecodable", f"it says that it lasts {facts['duration']:g} s from {facts['start']:g} s")
        flags = _flags(path, info)
    except MediaError as error:
        return facts | _cannot("undecodable", str(error).replace(path, "").strip(" :"))
    except Exception as error:  # a hostile file may bring anything out of a decoder, and the others still count
        return facts | _cannot("undecodable", f"{type(error).__name__}: {error}".replace(path, "it"))
    lacking = next((FLAGS[flag] for flag in ("no-video", "no-audio") if flag in flags), "")
    if not lacking and facts["duration"] == 0:
        lacking = "picture and sound have no time in common"
    return facts | {"flags": flags, "reason": lacking}


def _described(info: MediaInfo) -> dict:
    streams = [stream for stream in (info.video, info.audio) if stream]
    facts = {"start": info.start, "duration": max(min(s.start + s.duration for s in streams) - info.start, 0.0)}
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
        first, moves = None, False
        for frame in _looks(path, "video", start, duration, windows):
            cells = _cells(frame)
            first = cells if first is None else first
            moves |= bool(np.abs(cells - first).max() > _STILL)
        if moves:
            return False
    return True


def _cells(frame: av.VideoFrame) -> np.ndarray:
    """Mean lightness of the picture's cells, int16."""
    across, down = (max(1, min(_CELLS, side // _BLOCK)) for side in (frame.width, frame.height))
    small = frame.reformat(across, down, "gray", interpolation=Interpolation.AREA, threads=1)
    return small.to_ndarray().astype(np.int16)


def _is_silent(path: str, start: float, duration: float) -> bool:
    for windows in (_FEW, _MANY):
        if max(map(_peak, _looks(path, "audio", start, duration, windows)), default=0.0) > _SILENCE:
            return False
    return True


def _peak(frame: av.AudioFrame) -> float:
    channels = frame.layout.nb_channels
    if channels >= 8 and not frame.format.is_packed:  # PyAV cannot reach planes past the eighth
        frame = av.AudioResampler("flt", frame.layout, frame.sample_rate).resample(frame)[0]
    peak = float(np.abs(to_float(frame, channels)).max(initial=0.0))
    if not peak <= LOUDEST:  # nor where one is no number
        raise MediaError(f"its sound has {NO_SOUND}")
    return peak


def _looks(path: str, kind: str, start: float, duration: float, windows: int) -> Iterator[av.frame.Frame]:
    """Decoded frames of windows spread evenly over a stream; all of a stream that is not longer than they are.

    Raises:
        MediaError: a window holds damage only, or no picture. One without sound is silent: tracks may have gaps.
    """
    spans = [(start, start + max(duration, _WINDOW))]
    if duration > windows * _WINDOW:
        begins = [start + (duration - _WINDOW) * (k + 0.5) / windows for k in range(windows)]
        spans = [(begin, begin + _WINDOW) for begin in begins]
    with open_media(path) as container:
        stream = video_stream(container) if kind == "video" else audio_stream(container)
        for begin, end in spans:
            empty = True
            # Transport streams are searched by time, and no keyframe may follow: then again from the start.
            for place in (begin, 0.0) if kind == "video" else (begin,):
                if begin > start:
                    # Where a container cannot be searched, decoding goes on: windows come in order.
                    with suppress(av.error.FFmpegError):
                        container.seek(int(place / stream.time_base), stream=stream)
                for frame in _window(container, stream, begin, end):
                    empty = False
                    yield frame
                if not empty:
                    break
            if empty and kind == "video":
                raise MediaError(f"the picture ends before its {duration:.1f} s are over")


def _window(
    container: av.container.InputContainer, stream: av.stream.Stream, begin: float, end: float
) -> Iterator[av.frame.Frame]:
    """Frames that are shown (or heard) from ``begin`` to ``end``."""
    last, error = None, None
    for packet in container.demux(stream):
        try:
            decoded = believed(packet).decode()
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
    if last is not None and (last.time is None or _end(last) + _WINDOW > begin):
        yield last
    elif error is not None:
        raise MediaError(f"nothing can be decoded at {begin:.1f} s: {error.strerror}")


def _end(frame: av.frame.Frame) -> float:
    return frame.time + float((frame.duration or 0) * frame.time_base)
