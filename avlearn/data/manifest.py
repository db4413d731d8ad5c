"""A data set as a table: one row a clip."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from avlearn.errors import DataError, MediaError, OutputError
from avlearn.media import probe
from avlearn.media.writer import replacing

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv", ".mpg", ".mpeg", ".ts", ".m4v")
_LISTS = ("labels", "flags")
_NUMBERS = {
    "duration": pyarrow.float64(), "fps": pyarrow.float64(), "width": pyarrow.int64(),
    "height": pyarrow.int64(), "sample_rate": pyarrow.int64(), "channels": pyarrow.int64(),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A clip.

    Attributes:
        path: of the file.
        duration: seconds.
        fps, width, height: of the picture (0 without).
        sample_rate, channels: of the sound (0 without).
        labels: classes.
        split: ``train``, ``val``, ``test`` or "".
        flags: facts about the clip; ``bad: REASON`` for one that cannot be used.
        hash: of the content.
        truth: file with exact ground truth, or None.
    """

    path: Path
    duration: float
    fps: float
    width: int
    height: int
    sample_rate: int
    channels: int
    labels: tuple[str, ...]
    split: str
    flags: tuple[str, ...]
    hash: str
    truth: Path | None = None


def write_manifest(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows as Parquet or CSV, by the suffix; paths relative to the manifest's folder.

    Raises:
        OutputError: the suffix is neither, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise OutputError(f"{path}: a manifest is a .parquet or a .csv")
    columns: dict[str, list] = {f.name: [] for f in fields(Row)}
    for row in rows:
        values = asdict(row)
        for key in ("path", "truth"):
            if values[key] is not None:
                values[key] = _relative(Path(values[key]), path.parent)
        for key in _LISTS:
            values[key] = json.dumps(values[key])
        for key, value in values.items():
            columns[key].append(value)
    table = pyarrow.table(columns)
    with replacing(path) as part:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, part)
        else:
            pyarrow.parquet.write_table(table, part)


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def read_manifest(path: str | Path) -> list[Row]:
    """Read a manifest, or the ``manifest.parquet`` of a folder; paths come out absolute or as given.

    Raises:
        DataError: there is no such file, or it lacks a column or a value.
    """
    path = Path(path)
    path = path / "manifest.parquet" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"there is no manifest {path}")
    try:
        table = (_read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a manifest: {reason}") from error
    rows = []
    names = {f.name for f in fields(Row)}
    for number, values in enumerate(table, 1):
        missing = sorted(names - {"truth"} - set(values))
        if missing:
            raise DataError(f"{path} lacks the column '{missing[0]}'")
        values = {k: v for k, v in values.items() if k in names}
        for key in _LISTS:
            values[key] = _list(values[key], f"{path}, row {number}: {key}")
        empty = [k for k in ("path", *_NUMBERS) if values[k] in (None, "")]
        if empty:
            raise DataError(f"{path}, row {number}: there is no {empty[0]}")
        values["path"] = path.parent / values["path"]
        values["truth"] = path.parent / values["truth"] if values.get("truth") else None
        values["split"], values["hash"] = values["split"] or "", values["hash"] or ""
        rows.append(Row(**values))
    return rows


def _read_csv(path: Path) -> pyarrow.Table:
    # Types are said, not guessed: a hash of digits only is no number.
    types = {f.name: _NUMBERS.get(f.name, pyarrow.string()) for f in fields(Row)}
    return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=types))


def _list(text: str | None, where: str) -> tuple[str, ...]:
    try:
        found = json.loads(text or "[]")
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, list):
        raise DataError(f'{where} is {text!r}: write a list, like ["dog"]')
    return tuple(found)


def scan_folder(folder: str | Path) -> list[Row]:
    """Rows of a folder laid out as ``[SPLIT/]CLASS/FILE`` (the layout of Kinetics), in stable order.

    Files that cannot be used are in it with their reason as a flag.

    Raises:
        DataError: the folder holds no video.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no video ({', '.join(SUFFIXES)})")
    rows = []
    for file in files:
        parts = file.relative_to(folder).parts[:-1]
        split = parts[0] if parts and parts[0] in ("train", "val", "test") else ""
        labels = (parts[-1],) if parts and parts[-1] != split else ()
        rows.append(_scan(file, labels, split))
    return rows


def _scan(file: Path, labels: tuple[str, ...], split: str) -> Row:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()[:32]
    blank = Row(file, 0.0, 0.0, 0, 0, 0, 0, labels, split, (), digest)
    try:
        info = probe(file)
    except MediaError as error:
        return replace(blank, flags=(f"bad: {error}",))
    if info.video is None:
        return replace(blank, flags=("bad: no picture",))
    if info.audio is None:
        return replace(blank, flags=("bad: no sound",))
    video, audio = info.video, info.audio
    return replace(
        blank, duration=min(video.start + video.duration, audio.start + audio.duration) - info.start,
        fps=video.fps, width=video.width, height=video.height,
        sample_rate=audio.sample_rate, channels=audio.channels,
    )  # fmt: skip
