"""The clips of a manifest, transcoded once to files that are cheap to read at random."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.data.prepared_flow import SUFFIX, check_flow, flow_offset, flow_path, write_flow
from avlearn.data.resumable import CRASHED, Journal, in_processes
from avlearn.data.shards import clip_metadata, write_shards
from avlearn.data.transcode import AAC_RATES, FlowSettings, Settings, transcode
from avlearn.errors import DataError, MediaError, OutputError
from avlearn.files import printable, replacing, sweep

Progress = Callable[[int, int], None]

_PATIENCE, _PACE = 600, 20  # seconds that a clip may take, and seconds a second of it beside them
_SHOWN = 10  # reasons that a report for people names
_NO_SHARDS: dict[str, Any] = {"content": "", "tars": {}, "names": [], "places": []}


@dataclass(frozen=True)
class Preparation:
    """The result of preparing a data set.

    Attributes:
        manifest: of the prepared clips.
        clips: that are there now.
        transcoded: of them in this run.
        passed_over: path and reason of those that cannot be used, first those that this run found.
        taken: seconds of this run.
        seconds: of clips.
        bytes_before, bytes_after: of their files.
        bytes_flow: of the optical flow beside them.
    """

    manifest: Path
    clips: int
    transcoded: int
    passed_over: list[tuple[str, str]]
    taken: float
    seconds: float
    bytes_before: int
    bytes_after: int
    bytes_flow: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        passed_over = [{"path": path, "reason": reason} for path, reason in self.passed_over]
        values = asdict(self) | {"manifest": str(self.manifest), "passed_over": passed_over}
        return {"schema": "avlearn.prepare/1", **values}

    def text(self) -> str:
        """Human-readable text."""
        before = f"{_size(self.bytes_before)} became " if self.bytes_before else ""
        share = f" ({self.bytes_after / self.bytes_before:.0%})" if self.bytes_before else ""
        lines = [
            f"{self.clips} clips, {self.seconds / 3600:.2f} h: {self.transcoded} transcoded in {self.taken:.0f} s",
            f"{before}{_size(self.bytes_after)}{share}",
        ]
        lines += [f"optical flow of them: {_size(self.bytes_flow)}"] if self.bytes_flow else []
        passed_over = self.passed_over
        lines += ["cannot be used:"] if passed_over else []
        lines += [f"  {printable(path)}: {reason}" for path, reason in passed_over[:_SHOWN]]
        lines += [f"  and {len(passed_over) - _SHOWN} more: see their reason in the manifest"] * (
            len(passed_over) > _SHOWN
        )
        return "\n".join([*lines, f"wrote {printable(self.manifest)}"])


def _size(length: int) -> str:
    return f"{length / 1e9:.2f} GB" if length >= 1e9 else f"{length / 1e6:.1f} MB"


def prepare(
    manifest: str | Path,
    out: str | Path,
    *,
    short_side: int = 160,
    sample_rate: int = 16000,
    crf: int = 20,
    shards: int = 0,
    flow: FlowSettings | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Preparation:
    """Transcode the clips of a manifest; what is there already, of the same sources and settings, is kept.

    ``out`` gets ``clips/``, with files named after the rows' paths, or ``shards/``; ``manifest.parquet``, whose clips
    all begin at 0; and ``prepare.json`` with the settings. The same sources give the same bytes, whether a run was
    stopped on its way or not. Clips without audio are prepared too, and say so as before. Rows with another reason not
    to be used stay in the manifest as they were, and clips that cannot be decoded throughout get one; the next run
    tries those again.

    Args:
        manifest: of a scan; or a folder with a ``manifest.parquet``.
        out: a new folder, or one of the same settings.
        short_side: pixels, at most; even. 160 is for crops of 112, 256 for crops of 224.
        sample_rate: of the audio, which is mono.
        crf: x264's quality, 0 (best) to 51.
        shards: pack the clips into so many tar files, and remove the clips.
        flow: optical flow that is computed of each clip, and kept beside it (`avlearn.data.prepared_flow`), for
            networks that see motion; none by default.
        workers: processes; all cores by default.
        progress: called with how many clips are done, and of how many.

    Raises:
        DataError: a setting is impossible, or the manifest holds no clip that can be used.
        OutputError: the folder holds something else, cannot be written, or another run is at work in it.
    """
    began = time.monotonic()
    manifest, out = Path(manifest), Path(out)
    settings = _settings(short_side, sample_rate, crf, shards, flow)
    rows = read_manifest(manifest)
    clips = _clips(rows, manifest)
    _claim(out, settings, manifest)
    with closing(_Store(out, settings)) as store:
        try:
            transcoded, failed = store.fill(clips, workers, progress)
            good = [clip for clip in clips if clip.name not in failed]
            if not good:
                raise DataError(f"no clip of {manifest} can be prepared; {clips[0].row.path}: {failed[clips[0].name]}")
            prepared = store.arrange(good, shards)
            unused = {clip.row: replace(clip.row, reason=failed[clip.name]) for clip in clips if clip.name in failed}
            write_manifest(_in_their_places(rows, unused, prepared), out / "manifest.parquet")
            store.tidy(good)
        finally:
            sweep(out)
    passed_over = [(str(row.path), row.reason) for row in (*unused.values(), *filter(_unusable, rows))]
    old = {clip.name: clip.row for clip in good}.values()
    new = {clip.name: row for clip, row in zip(good, prepared, strict=True)}.values()
    return Preparation(
        out / "manifest.parquet", len(new), transcoded, passed_over, time.monotonic() - began,
        sum(row.duration for row in new), sum(row.bytes for row in old), sum(row.bytes for row in new),
        sum(store.records[name].get("flow", 0) for name in {clip.name for clip in good}),
    )  # fmt: skip


def _in_their_places(rows: Sequence[Row], unused: Mapping[Row, Row], prepared: Iterable[Row]) -> list[Row]:
    """Rows of a manifest, of which those that could be prepared give way to what came of them, in their order."""
    rest = iter(prepared)
    return [row if _unusable(row) else unused[row] if row in unused else next(rest) for row in rows]


def _unusable(row: Row) -> str:
    """Why a row is not transcoded; one without audio is."""
    return row.reason_for(video=True, audio=False)


def _settings(
    short_side: int, sample_rate: int, crf: int, shards: int, flow: FlowSettings | None
) -> Settings:  # fmt: skip
    if short_side < 16 or short_side % 2:
        raise DataError(f"a short side of {short_side} pixels cannot be encoded: give an even number from 16 on")
    if sample_rate not in AAC_RATES:
        raise DataError(f"AAC has no sample rate of {sample_rate}: choose one of {', '.join(map(str, AAC_RATES))}")
    if not 0 <= crf <= 51:
        raise DataError(f"x264 has no quality {crf}: choose from 0 (best) to 51")
    if shards < 0:
        raise DataError(f"there cannot be {shards} shards: give 0 for none")
    if flow is not None:
        check_flow(flow)
    return Settings(short_side, sample_rate, crf, flow)


@dataclass(frozen=True)
class _Clip:
    """A row that can be used, the name of what it becomes, and what changes when its file does."""

    row: Row
    name: str
    source: str


def _clips(rows: Sequence[Row], manifest: Path) -> list[_Clip]:
    """Rows that can be used; names are paths from the manifest's folder, or from one that holds all of the files.

    Raises:
        DataError: there are none, or they lie in shards.
    """
    usable = [row for row in rows if not _unusable(row)]
    if not usable:
        raise DataError(f"{manifest} holds no clip that can be used")
    if any(row.offset is not None for row in usable):
        raise DataError("clips within shards are prepared already: give the manifest that they were prepared from")
    paths = [Path(os.path.abspath(row.path)) for row in usable]
    root = Path(os.path.abspath(manifest if manifest.is_dir() else manifest.parent))
    if not all(path.is_relative_to(root) for path in paths):
        root = Path(os.path.commonpath([path.parent for path in paths]))
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in dict.fromkeys(paths):
        place = path.relative_to(root)
        stems = chain([place.stem, place.name.replace(".", "_")], (f"{place.stem}_{k}" for k in count(2)))
        fitting = (place.with_name(f"{stem}.mp4").as_posix() for stem in stems)
        # Some file systems do not tell capitals from small letters.
        names[path] = next(name for name in fitting if name.lower() not in taken)
        taken.add(names[path].lower())
    return [_Clip(row, names[path], row.fingerprint) for row, path in zip(usable, paths, strict=True)]


def _claim(out: Path, settings: Settings, manifest: Path) -> None:
    """Make the folder ours, or see that it is."""
    source = manifest / "manifest.parquet" if manifest.is_dir() else manifest
    if source.resolve() == (out / "manifest.parquet").resolve():
        raise OutputError(f"{source} is in {out} itself: choose a new folder")
    values = {key: value for key, value in asdict(settings).items() if value is not None}
    written = json.dumps({"schema": "avlearn.prepared/1", **values}, indent=1) + "\n"
    note = out / "prepare.json"
    _made(out)
    try:
        if not note.exists():
            if any(not path.name.startswith(".") for path in out.iterdir()):
                raise OutputError(f"{out} holds something else: choose a new folder")
            with replacing(note) as part:
                part.write_text(written)
        if note.read_text() != written:
            raise OutputError(f"{out} was prepared with other settings (see {note}): choose a new folder")
    except OSError as error:
        raise OutputError(f"cannot write {note}: {error.strerror}") from error


class _Store:
    """The prepared clips, loose or in shards, with a journal of what is finished.

    The journal has a record for each clip (name, source, instant of the first frame, columns of its row), and one
    about the shards (where each clip lies in which), which holds until a later one.
    """

    def __init__(self, out: Path, settings: Settings):
        self.out, self.settings = out, settings
        self.journal = Journal(out / ".prepare.journal")
        sweep(out)
        self.records: dict[str, dict[str, Any]] = {}
        self.shards = _NO_SHARDS
        self.places: dict[str, tuple[str, int]] = {}
        for record in self.journal.records:
            if "tars" in record:
                self.shards, self.places = record, dict(zip(record["names"], record["places"], strict=True))
            else:
                # What a shard holds of a clip that was made again is old.
                self.records[record["name"]] = record
                self.places.pop(record["name"], None)
        if not all(_has(out / tar, size) for tar, size in self.shards["tars"].items()):
            self.shards, self.places = _NO_SHARDS, {}

    def close(self) -> None:
        """Let the journal go."""
        self.journal.close()

    def fill(
        self, clips: Sequence[_Clip], workers: int | None, progress: Progress | None
    ) -> tuple[int, dict[str, str]]:
        """Transcode the clips that are not here; returns how many, and the reasons of those that failed."""
        wanted = {clip.name: clip for clip in clips}
        todo = [clip for clip in wanted.values() if not self._is_here(clip)]
        if any(clip.name in self.records for clip in todo):
            self._unlist()
        failed: dict[str, str] = {}
        items = [(clip.row, self._loose(clip.name)) for clip in todo]
        here = len(wanted) - len(todo)
        if progress:
            progress(here, len(wanted))
        with closing(in_processes(partial(_transcode, self.settings), items, workers)) as results:
            for done, (number, result) in enumerate(results, here + 1):
                clip = todo[number]
                if isinstance(result, dict):
                    self.records[clip.name] = {"name": clip.name, "source": clip.source, **result}
                    self.places.pop(clip.name, None)
                    self.journal.add(self.records[clip.name])
                else:
                    failed[clip.name] = "the decoder crashed" if result is CRASHED else result
                if progress:
                    progress(done, len(wanted))
        return len(todo) - len(failed), failed

    def arrange(self, clips: Sequence[_Clip], shards: int) -> list[Row]:
        """Bring the clips into shards, or out of them; returns their rows."""
        rows, names = [self._row(clip) for clip in clips], [clip.name for clip in clips]
        content = hashlib.sha256(f"{shards}".encode())
        for row, name in zip(rows, names, strict=True):
            content.update(clip_metadata(row, name))
        if shards and self.shards["content"] == content.hexdigest():
            held = zip(rows, self.shards["places"], strict=True)
            return [replace(row, path=self.out / tar, offset=offset) for row, (tar, offset) in held]
        if self.shards["tars"]:
            self._unpack({*names})
        if not shards:
            return rows
        self._unlist()
        with_flow = self.settings.flow is not None
        packed = write_shards(rows, names, _made(self.out / "shards"), shards, flow=with_flow)
        tars = {f"shards/{row.path.name}": row.path.stat().st_size for row in packed}
        places = [(f"shards/{row.path.name}", row.offset) for row in packed]
        self.shards = {"content": content.hexdigest(), "tars": tars, "names": names, "places": places}
        self.journal.add(self.shards)
        return packed

    def tidy(self, clips: Sequence[_Clip]) -> None:
        """Leave what any other run over these clips leaves: none beside them, and a journal in their order."""
        records = {clip.name: self.records[clip.name] for clip in clips}
        shutil.rmtree(self.out / ("clips" if self.shards["tars"] else "shards"), ignore_errors=True)
        for path in (self.out / "clips").rglob("*"):
            name = path.relative_to(self.out / "clips").with_suffix(".mp4").as_posix()
            if path.suffix in (".mp4", SUFFIX) and name not in records:
                path.unlink()
        self.journal.rewrite([*records.values(), self.shards])

    def _unlist(self) -> None:
        """Remove the manifest, which will not hold while clips and shards change."""
        (self.out / "manifest.parquet").unlink(missing_ok=True)

    def _loose(self, name: str) -> Path:
        """Where a clip is, or would be, as a file of its own."""
        return self.out / "clips" / name

    def _is_here(self, clip: _Clip) -> bool:
        record = self.records.get(clip.name)
        if record is None or record["source"] != clip.source:
            return False
        if clip.name in self.places:
            return True
        loose = self._loose(clip.name)
        with_flow = self.settings.flow is None or _has(flow_path(loose), record["flow"])
        return _has(loose, record["row"]["bytes"]) and with_flow

    def _row(self, clip: _Clip) -> Row:
        record, old = self.records[clip.name], clip.row
        begin = record["begin"]
        events = tuple(replace(event, start=event.start - begin, end=event.end - begin) for event in old.events)
        flags = tuple(flag for flag in old.flags if flag != "start-offset")
        return Row(
            self._loose(clip.name), labels=old.labels, split=old.split, flags=flags, events=events, truth=old.truth,
            folds=old.folds, reason=old.reason, **record["row"],
        )  # fmt: skip

    def _unpack(self, names: set[str]) -> None:
        """Make clips of the shards loose again, and forget the shards: they will be written over."""
        for name in names & set(self.places):
            tar, offset = self.places[name]
            path = self._loose(name)
            _made(path.parent)
            record = self.records[name]
            row = Row(self.out / tar, bytes=record["row"]["bytes"], offset=offset)
            pieces = [(path, offset, row.bytes)]
            pieces += [(flow_path(path), flow_offset(row), record["flow"])] if self.settings.flow else []
            for target, begin, length in pieces:
                with replacing(target) as part, row.path.open("rb") as file:
                    file.seek(begin)
                    part.write_bytes(file.read(length))
        self.shards, self.places = _NO_SHARDS, {}
        self.journal.add(_NO_SHARDS)


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _transcode(settings: Settings, item: tuple[Row, Path]) -> dict[str, Any] | str:
    """What the journal keeps of a clip, or why it cannot be used."""
    row, target = item
    _made(target.parent)
    try:
        # A decoder that hangs is ended by the alarm's default action, and counts as one that crashed.
        signal.alarm(_PATIENCE + int(_PACE * row.duration))
        if row.bytes and not _has(row.path, row.bytes):
            return "it is gone, or has changed since the scan"
        begin, columns = transcode(row.path, target, settings)
        made = {"begin": begin, "row": columns}
        if settings.flow is not None:
            signal.alarm(_PATIENCE + int(_PACE * row.duration))
            made["flow"] = write_flow(target, columns, settings.flow)
    except MediaError as error:
        return str(error).replace(str(row.path), "").strip(" :")
    except OutputError:
        raise
    except Exception as error:  # a hostile file may bring anything out of a decoder, and the others still count
        return f"{type(error).__name__}: {error}".replace(str(row.path), "it")
    finally:
        signal.alarm(0)
    return made
