"""The manifest of a data set: its videos found, and each looked into once."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avlearn.data.content import FLAGS, Facts, inspect_file, unusable
from avlearn.data.journal import Journal
from avlearn.data.manifest import NO_AUDIO, NO_VIDEO, Entry, Row, write_manifest
from avlearn.data.manifest import SUFFIXES as MANIFESTS
from avlearn.data.part import Part
from avlearn.data.pool import Died
from avlearn.data.walk import walk_files
from avlearn.data.workers import Workers, in_workers
from avlearn.errors import DataError, MediaError
from avlearn.files import check_output, printable
from avlearn.remote.address import is_address, suffix
from avlearn.remote.folder import list_folder

SUFFIXES = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv", ".mpg", ".mpeg", ".ts", ".m4v", ".3g2", ".3gp", ".asf", ".divx",
    ".dv", ".f4v", ".m1v", ".m2p", ".m2ts", ".m2v", ".mjpg", ".mod", ".mp4v", ".mpe", ".mpv", ".mts", ".mxf", ".nut",
    ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".vob", ".wmv", ".wtv", ".y4m",
)  # fmt: skip
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma")
Progress = Callable[[int, int], None]

_SHOWN = 10  # reasons that a summary for people names
_ALONE = {NO_VIDEO: "audio", NO_AUDIO: "video"}  # by the reason of clips that lack one: what they have
_PATIENCE = 600  # seconds that a file may take beside those for its bytes
_LARGE_REMOTE = 1e10  # bytes: how long a file at an address is comes out when it is fetched
_VERSION = 1  # of what a journal holds of a file


@dataclass(frozen=True)
class Found:
    """Videos of a folder, or audio files of one without videos, and what else lies there.

    Attributes:
        entries: the files, in stable order.
        passed_over: how many files there are beside them, by suffix, or by the reason that they cannot be used.
    """

    entries: list[Entry]
    passed_over: dict[str, int]


def find_videos(folder: str | Path) -> Found:
    """Videos of a folder laid out as ``[SPLIT/]CLASS/FILE`` (the layout of Kinetics); of one without any, its audio.

    Links to folders are followed, once each. Hidden files and folders are passed over. Of a folder at an address the
    server is asked what it holds (`avlearn.remote.folder.list_folder`).

    Raises:
        DataError: the folder holds neither, or cannot be read.
    """
    if not (isinstance(folder, str) and is_address(folder)):
        folder = Path(folder)
    if isinstance(folder, Path) and not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    found = _find(folder, SUFFIXES)
    heard = found if found.entries else _find(folder, AUDIO_SUFFIXES)
    if not heard.entries:
        held = f"; it holds {_counted(found.passed_over)}" if found.passed_over else ""
        raise DataError(f"{printable(folder)} holds no video ({', '.join(SUFFIXES[:9])}, ...) and no audio{held}")
    return heard


def _find(folder: Path | str, suffixes: Sequence[str]) -> Found:
    entries: list[Entry] = []
    passed_over: Counter[str] = Counter()
    for file, parts, version in _files(folder, passed_over):
        other = _unusable(file, suffixes)
        if other:
            passed_over[other] += 1
            continue
        split = parts[0] if len(parts) > 1 and parts[0] in ("train", "val", "test") else ""
        places = parts[1:-1] if split else parts[:-1]
        entries.append(Entry(file, places[-1:], split, version=version))
    return Found(entries, dict(passed_over.most_common()))


def _files(folder: Path | str, passed_over: Counter[str]) -> list[tuple[Path | str, tuple[str, ...], str]]:
    """Files below a folder, the parts of their paths from there on, and the versions of those at addresses."""
    if isinstance(folder, Path):
        return [(file, file.relative_to(folder).parts, "") for file in sorted(walk_files(folder, passed_over))]
    try:
        return [(file.address, file.parts, file.version) for file in list_folder(folder, passed_over)]
    except MediaError as error:
        raise DataError(str(error)) from error


def folder_entries(folder: str | Path) -> list[Entry]:
    """The entries of `find_videos`."""
    return find_videos(folder).entries


def _unusable(file: Path | str, suffixes: Sequence[str]) -> str:
    """What a file is counted as that is none of those looked for; "" for one."""
    ending = suffix(file) if isinstance(file, str) else file.suffix.lower()
    if ending not in suffixes:
        return ending or "files without a suffix"
    if isinstance(file, str):
        return ""
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
    workers: Workers = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Look into files and write their manifest; a run that was stopped goes on where it was.

    Every file is read once for its hash (a second a gigabyte, where the disk keeps up) and decoded in a few short
    windows, so that a film costs little more than a clip.

    Args:
        entries: the files, with what a corpus says of them.
        out: the manifest, ``.parquet`` or ``.csv``; a hidden journal lies beside it until it is written.
        min_duration: seconds below which a clip is ``short``.
        workers: processes, all cores by default; or a cluster.
        progress: called with how many files are done, and of how many.

    Returns:
        A row an entry, in their order. Those that cannot be used have a ``reason``.

    Raises:
        OutputError: the manifest cannot be written.
    """
    out = check_output(out, MANIFESTS, overwrite=True)
    with closing(Journal(_journal(out))) as journal:
        found = _look_at_all(entries, out.parent, journal, workers, progress)
        rows = _rows(entries, found, min_duration)
        write_manifest(rows, out)
        journal.remove()
    return rows


def scan_part(
    entries: Sequence[Entry],
    out: str | Path,
    part: Part,
    *,
    workers: Workers = None,
    progress: Progress | None = None,
) -> int:
    """Look into a part of the files, for a `scan` of all of them: it finds what parts have found, and writes the
    manifest.

    Args:
        entries: all files.
        out: the manifest; a hidden journal of the part lies beside it until it is written.
        part: which of them are looked into.
        workers, progress: as for `scan`.

    Returns:
        How many files the part has.

    Raises:
        OutputError: the journal cannot be written.
    """
    out = check_output(out, MANIFESTS, overwrite=True)
    own = part.among(entries)
    with closing(Journal(_journal(out), part)) as journal:
        _look_at_all(own, out.parent, journal, workers, progress)
    return len(own)


def _journal(out: Path) -> Path:
    return out.with_name(f".{out.name}.journal")


@dataclass(frozen=True)
class ScanSummary:
    """The result of a scan.

    Attributes:
        manifest: where it was written.
        rows: of it.
        passed_over: how many files of the folder are not in it, by what they are.
    """

    manifest: Path
    rows: list[Row]
    passed_over: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
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
        """Human-readable text."""
        told = self.to_dict()
        hours, size = told["seconds"] / 3600, told["bytes"] / 1e9
        lacking = {what: [row for row in self.rows if row.reason == why] for why, what in _ALONE.items()}
        with_both = " with video and audio" if any(lacking.values()) else ""
        lines = [f"{told['usable']} of {told['clips']} clips can be used{with_both}: {hours:.2f} h, {size:.2f} GB"]
        for what, rows in lacking.items():
            lasts = sum(row.duration for row in rows) / 3600
            takes = f"avlearn finetune with recognize.inputs={what} takes them"
            lines += [f"{len(rows)} can be used for their {what} alone, {lasts:.2f} h: {takes}"] if rows else []
        lines += [f"  {count:7d} {flag:<13} {FLAGS[flag]}" for flag, count in told["flags"].items()]
        unusable = [row for row in self.rows if row.reason and row.reason not in _ALONE]
        lines += ["cannot be used:"] if unusable else []
        lines += [f"  {printable(row.path)}: {row.reason}" for row in unusable[:_SHOWN]]
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
    entries: Sequence[Entry], base: Path, journal: Journal | None, workers: Workers, progress: Progress | None
) -> list[Facts]:
    """What was found in the file of each entry."""
    keys = [_key(entry, base) for entry in entries]
    paths = {key: str(entry.path) for key, entry in zip(keys, entries, strict=True)}
    known = {tuple(line["key"]): line["found"] for line in journal.records} if journal else {}
    found = {key: known[key] for key in paths if key in known}
    found |= {key: unusable("missing") for key in paths if key[-1] is None}
    todo = [key for key in paths if key not in found]
    if progress:
        progress(len(found), len(paths))
    with closing(in_workers(inspect_file, [paths[key] for key in todo], workers, _longest)) as results:
        for number, result in results:
            found[todo[number]] = unusable("undecodable", result.reason) if isinstance(result, Died) else result
            if journal:
                journal.add({"key": todo[number], "found": found[todo[number]]})
            if progress:
                progress(len(found), len(paths))
    return [found[key] for key in keys]


def _longest(path: str) -> float:
    """Seconds that a file may take, at a megabyte a second where it is read from far away."""
    if is_address(path):
        return _PATIENCE + _LARGE_REMOTE / 1e6
    try:
        return _PATIENCE + os.stat(path).st_size / 1e6
    except OSError:  # it has gone, or may not be looked at: its row will say so
        return _PATIENCE


def _key(entry: Entry, base: Path) -> tuple[int, str, int | None, int | str | None]:
    """What changes when a file does; the last is None where there is none."""
    if isinstance(entry.path, str):
        return _VERSION, entry.path, 0, entry.version
    place = os.path.relpath(entry.path, base)
    try:
        status = entry.path.stat()
    except OSError:
        return _VERSION, place, None, None
    return _VERSION, place, status.st_size, status.st_mtime_ns


def _rows(entries: Sequence[Entry], found: list[Facts], min_duration: float) -> list[Row]:
    rows: list[Row] = []
    seen: set[object] = set()
    for entry, facts in zip(entries, found, strict=True):
        flags = set(facts["flags"])
        if not flags & {"missing", "undecodable"} and facts["duration"] < min_duration:
            flags.add("short")
        digest = facts.get("hash")
        if digest in seen:
            flags.add("duplicate")
        seen.add(digest or object())
        facts = facts | {"flags": tuple(flag for flag in FLAGS if flag in flags)}
        row = Row(entry.path, labels=entry.labels, split=entry.split, events=entry.events, folds=entry.folds, **facts)
        rows.append(row)
    return rows
