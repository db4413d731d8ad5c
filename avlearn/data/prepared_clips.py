"""The folder of prepared clips, loose or in shards: what is in it, and what is made new."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from avlearn.data.journal import Journal
from avlearn.data.manifest import Row
from avlearn.data.part import Part
from avlearn.data.pool import Died
from avlearn.data.prepared_flow import SUFFIX, flow_offset, flow_path, stored_settings, write_flow
from avlearn.data.shards import clip_metadata, write_shards
from avlearn.data.transcode import Settings, transcode
from avlearn.data.workers import Workers, in_workers
from avlearn.errors import MediaError, OutputError
from avlearn.files import replacing, sweep
from avlearn.remote.cache import local_file

Progress = Callable[[int, int], None]

_PATIENCE, _PACE = 600, 20  # seconds that a clip may take, and seconds a second of it beside them
_NO_SHARDS: dict[str, Any] = {"content": "", "tars": {}, "names": [], "places": []}


@dataclass(frozen=True)
class SourceClip:
    """A row that can be used, the name of what it becomes, and what changes when its file does."""

    row: Row
    name: str
    source: str


class PreparedClips:
    """The prepared clips of a folder, loose or in shards, with a journal of what is finished.

    The journal has a record for each clip (name, source, instant of the first frame, columns of its row), and one
    about the shards (where each clip lies in which), which holds until a later one.
    """

    def __init__(self, out: Path, settings: Settings, part: Part | None = None):
        self.out, self.settings, self.part = out, settings, part
        self.journal = Journal(out / ".prepare.journal", part)
        if part is None:
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
        self, clips: Sequence[SourceClip], workers: Workers, progress: Progress | None
    ) -> tuple[int, dict[str, str]]:
        """Transcode the clips that are not here, and compute the flow of those that lack it.

        Returns:
            How many were transcoded, and the reasons of clips that failed.
        """
        wanted = {clip.name: clip for clip in clips}
        known = {name: self.records[name] for name, clip in wanted.items() if self._is_here(clip)}
        todo = [clip for name, clip in wanted.items() if name not in known or not self._has_flow(name)]
        if self.part and todo and self.shards["tars"]:
            raise OutputError(f"{self.out} holds shards, which are made of all clips at once: leave out --part")
        if any(clip.name in self.records and clip.name not in known for clip in todo):
            self._unlist()
        if any(clip.name in known and clip.name in self.places for clip in todo):
            self._unpack({*known})
        failed: dict[str, str] = {}
        items = [(clip.row, self._loose(clip.name), known.get(clip.name)) for clip in todo]
        here = len(wanted) - len(todo)
        if progress:
            progress(here, len(wanted))
        limit = partial(_longest, self.settings)
        with closing(in_workers(partial(_make, self.settings), items, workers, limit)) as results:
            for done, (number, result) in enumerate(results, here + 1):
                clip = todo[number]
                if isinstance(result, dict):
                    self.records[clip.name] = {"name": clip.name, "source": clip.source, **result}
                    self.places.pop(clip.name, None)
                    self.journal.add(self.records[clip.name])
                else:
                    failed[clip.name] = result.reason if isinstance(result, Died) else result
                if progress:
                    progress(done, len(wanted))
        return len({clip.name for clip in todo} - known.keys() - failed.keys()), failed

    def arrange(self, clips: Sequence[SourceClip], shards: int) -> list[Row]:
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
        packed = write_shards(rows, names, make_folder(self.out / "shards"), shards, flow=with_flow)
        tars = {f"shards/{row.name}": local_file(row.path).stat().st_size for row in packed}
        places = [(f"shards/{row.name}", row.offset) for row in packed]
        self.shards = {"content": content.hexdigest(), "tars": tars, "names": names, "places": places}
        self.journal.add(self.shards)
        return packed

    def tidy(self, clips: Sequence[SourceClip]) -> None:
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

    def _is_here(self, clip: SourceClip) -> bool:
        record = self.records.get(clip.name)
        if record is None or record["source"] != clip.source:
            return False
        return clip.name in self.places or _has(self._loose(clip.name), record["row"]["bytes"])

    def _has_flow(self, name: str) -> bool:
        """Whether the flow of a clip that is here is what the settings say."""
        if self.settings.flow is None:
            return True
        record = self.records[name]
        tar, offset = self.places.get(name, (f"clips/{name}", None))
        row = Row(self.out / tar, offset=offset, **record["row"])
        whole = offset is not None or _has(flow_path(self.out / tar), record.get("flow", 0))
        return whole and stored_settings(row) == self.settings.flow

    def _row(self, clip: SourceClip) -> Row:
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
            make_folder(path.parent)
            record = self.records[name]
            row = Row(self.out / tar, bytes=record["row"]["bytes"], offset=offset)
            pieces = [(path, offset, row.bytes)]
            pieces += [(flow_path(path), flow_offset(row), record["flow"])] if "flow" in record else []
            for target, begin, length in pieces:
                with replacing(target) as part, local_file(row.path).open("rb") as file:
                    file.seek(begin)
                    part.write_bytes(file.read(length))
        self.shards, self.places = _NO_SHARDS, {}
        self.journal.add(_NO_SHARDS)


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def make_folder(folder: Path) -> Path:
    """A folder, made where it is not there; OutputError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _make(settings: Settings, item: tuple[Row, Path, dict[str, Any] | None]) -> dict[str, Any] | str:
    """What the journal keeps of a clip, which is transcoded where it has no record yet; or why it cannot be used."""
    row, target, record = item
    make_folder(target.parent)
    try:
        if record is not None:
            begin, columns = record["begin"], record["row"]
        else:
            source = local_file(row.path)  # of an address all is fetched, once
            if row.bytes and not _has(source, row.bytes):
                return "it is gone, or has changed since the scan"
            begin, columns = transcode(source, target, settings)
        made = {"begin": begin, "row": columns}
        if settings.flow is not None:
            made["flow"] = write_flow(target, columns, settings.flow)
    except MediaError as error:
        return str(error).replace(str(row.path), "").strip(" :")
    except OutputError:
        raise
    except Exception as error:  # a hostile file may bring anything out of a decoder, and the others still count
        return f"{type(error).__name__}: {error}".replace(str(row.path), "it")
    return made


def _longest(settings: Settings, item: tuple[Row, Path, dict[str, Any] | None]) -> float:
    """Seconds that a clip may take."""
    return (_PATIENCE + _PACE * item[0].duration) * (1 if settings.flow is None else 2)
