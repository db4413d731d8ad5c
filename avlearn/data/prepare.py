"""The clips of a manifest, transcoded once to files that are cheap to read at random."""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from avlearn.data.manifest import Row, manifest_address, read_manifest, write_manifest
from avlearn.data.part import Part
from avlearn.data.prepared_clips import PreparedClips, Progress, SourceClip, make_folder
from avlearn.data.prepared_flow import check_flow
from avlearn.data.transcode import AAC_RATES, FlowSettings, Settings
from avlearn.data.workers import Workers
from avlearn.errors import DataError, OutputError
from avlearn.files import printable, replacing, sweep
from avlearn.lock import locked
from avlearn.remote.address import is_address

_NOTE, _NOTE_LOCK = "prepare.json", ".prepare.json.lock"  # parts may begin at once
_SHOWN = 10  # reasons that a report for people names


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
    workers: Workers = None,
    progress: Progress | None = None,
) -> Preparation:
    """Transcode the clips of a manifest; what is there already, of the same sources and settings, is kept.

    ``out`` gets ``clips/``, with files named after the rows' paths, or ``shards/``; ``manifest.parquet``, whose clips
    all begin at 0; and ``prepare.json`` with the settings. The same sources give the same bytes, whether a run was
    stopped on its way or not. Clips without audio are prepared too, and say so as before. Rows with another reason not
    to be used stay in the manifest as they were, and clips that cannot be decoded throughout get one; the next run
    tries those again.

    Args:
        manifest: of a scan, or its address; or a folder with a ``manifest.parquet``.
        out: a new folder, or one of the same settings; its flow may be another, or none.
        short_side: pixels, at most; even. 160 is for crops of 112, 256 for crops of 224.
        sample_rate: of the audio, which is mono.
        crf: x264's quality, 0 (best) to 51.
        shards: pack the clips into so many tar files, and remove the clips.
        flow: optical flow that is computed of each clip, and kept beside it (`avlearn.data.prepared_flow`), for
            networks that see motion; none by default. Clips that are there already get it, in place of other flow.
        workers: processes, all cores by default; or a cluster.
        progress: called with how many clips are done, and of how many.

    Raises:
        DataError: a setting is impossible, or the manifest holds no clip that can be used.
        OutputError: the folder holds something else, cannot be written, or another run is at work in it.
    """
    began, manifest, out = time.monotonic(), _path_or_address(manifest), Path(out)
    settings = _settings(short_side, sample_rate, crf, shards, flow)
    rows = read_manifest(manifest)
    clips = _clips(rows, manifest)
    _claim(out, settings, manifest)
    with closing(PreparedClips(out, settings)) as store:
        try:
            _write_note(out, settings)  # but for the flow it is the same: see `_claim`
            transcoded, failed = store.fill(clips, workers, progress)
            good = _without(clips, failed, manifest)
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


def prepare_part(
    manifest: str | Path,
    out: str | Path,
    part: Part,
    *,
    short_side: int = 160,
    sample_rate: int = 16000,
    crf: int = 20,
    flow: FlowSettings | None = None,
    workers: Workers = None,
    progress: Progress | None = None,
) -> tuple[int, dict[str, str]]:
    """Transcode a part of the clips, for a `prepare` of all: it finds what parts have made, and writes the manifest.

    Args:
        part: which of the clips.
        manifest, out, short_side, sample_rate, crf, flow, workers, progress: as for `prepare`.

    Returns:
        How many clips the part has, and the reasons of those that cannot be prepared, by their names.

    Raises:
        DataError, OutputError: as `prepare` does.
    """
    manifest, out = _path_or_address(manifest), Path(out)
    settings = _settings(short_side, sample_rate, crf, 0, flow)
    clips = _clips(read_manifest(manifest), manifest)
    own = set(part.among(list(dict.fromkeys(clip.name for clip in clips))))  # rows of one file are of one part
    clips = [clip for clip in clips if clip.name in own]
    _claim(out, settings, manifest)
    with closing(PreparedClips(out, settings, part)) as store:
        with locked(out / _NOTE_LOCK, wait=True):
            if _read_note(out) != _values(settings):
                _write_note(out, settings)
        _, failed = store.fill(clips, workers, progress)
    return len(clips), failed


def _without(clips: Sequence[SourceClip], failed: Mapping[str, str], manifest: Path | str) -> list[SourceClip]:
    """Clips that did not fail.

    Raises:
        DataError: all did.
    """
    good = [clip for clip in clips if clip.name not in failed]
    if not good:
        raise DataError(f"no clip of {manifest} can be prepared; {clips[0].row.path}: {failed[clips[0].name]}")
    return good


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


def _path_or_address(manifest: str | Path) -> Path | str:
    """A manifest's file; of a folder, the one in it."""
    if isinstance(manifest, str) and is_address(manifest):
        return manifest_address(manifest)
    manifest = Path(manifest)
    return manifest / "manifest.parquet" if manifest.is_dir() else manifest


def _place(file: Path | str) -> Path:
    """Where a file lies, as a path: of one at an address host and path."""
    return Path(os.path.abspath(str(file).partition("://")[2] or file))


def _clips(rows: Sequence[Row], manifest: Path | str) -> list[SourceClip]:
    """Rows that can be used; names are paths from the manifest's folder, or from one that holds all of the files.

    Raises:
        DataError: there are none, or they lie in shards.
    """
    usable = [row for row in rows if not _unusable(row)]
    if not usable:
        raise DataError(f"{manifest} holds no clip that can be used")
    if any(row.offset is not None for row in usable):
        raise DataError("clips within shards are prepared already: give the manifest that they were prepared from")
    paths = [_place(row.path) for row in usable]
    root = _place(manifest).parent
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
    return [SourceClip(row, names[path], row.fingerprint) for row, path in zip(usable, paths, strict=True)]


def _claim(out: Path, settings: Settings, manifest: Path | str) -> None:
    """Make the folder ours, or see that it is.

    Raises:
        OutputError: it holds something else, or clips of other settings, or flow that the settings say nothing of.
    """
    if isinstance(manifest, Path) and manifest.resolve() == (out / "manifest.parquet").resolve():
        raise OutputError(f"{manifest} is in {out} itself: choose a new folder")
    make_folder(out)
    note = out / _NOTE
    with locked(out / _NOTE_LOCK, wait=True):
        if not note.exists():
            if any(not path.name.startswith(".") for path in out.iterdir()):
                raise OutputError(f"{out} holds something else: choose a new folder")
            _write_note(out, settings)
    held = _read_note(out)
    flow = held.pop("flow", None)
    if held != _values(replace(settings, flow=None)):
        raise OutputError(f"{out} was prepared with other settings (see {note}): choose a new folder")
    if flow and settings.flow is None:
        raise OutputError(f"{out} was prepared with optical flow (see {note}): give --flow too, or choose a new folder")


def _read_note(out: Path) -> dict[str, Any]:
    """What the folder was last prepared with; empty of what is no such note."""
    try:
        held = json.loads((out / _NOTE).read_text())
    except OSError as error:
        raise OutputError(f"cannot read {out / _NOTE}: {error.strerror}") from error
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _write_note(out: Path, settings: Settings) -> None:
    with replacing(out / _NOTE) as part:
        part.write_text(json.dumps(_values(settings), indent=1) + "\n")


def _values(settings: Settings) -> dict[str, Any]:
    values = {"schema": "avlearn.prepared/1", **asdict(settings)}
    return {key: value for key, value in values.items() if value is not None}
