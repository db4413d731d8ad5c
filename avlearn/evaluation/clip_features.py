"""Features of labelled clips: by a model, or from the table that `avlearn embed` wrote."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import pyarrow
import pyarrow.parquet

from avlearn.apply.embed import SUFFIXES, embed_file
from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel
from avlearn.apply.feature_folder import PART
from avlearn.apply.part_folder import path_text
from avlearn.data.manifest import Row
from avlearn.errors import AvlearnError, DataError
from avlearn.files import is_file, reason_of
from avlearn.models.recognizer import Recognizer

Kind = Literal["video", "audio"]
Skipped = list[tuple[str, str]]  # path and reason


@dataclass(frozen=True)
class ClipFeatures:
    """Features of clips, averaged over each clip's windows: ``video``, ``audio`` ``[N, D]``, ``labels [N]``.

    What a clip lacks is NaN; of a model that does not see, or does not hear, ``[N, 0]``.
    """

    video: np.ndarray
    audio: np.ndarray
    labels: np.ndarray

    def kinds(self) -> dict[str, np.ndarray]:
        """The three inputs that are probed; of a model that takes one alone, that."""
        found = {"video": self.video, "audio": self.audio, "both": np.concatenate([self.video, self.audio], 1)}
        lacking = {"video": ("video", "both"), "audio": ("audio", "both")}
        without = [kind for name, kinds in lacking.items() if not found[name].shape[1] for kind in kinds]
        return {kind: values for kind, values in found.items() if kind not in without}

    def take(self, index: np.ndarray) -> "ClipFeatures":
        """A subset."""
        return ClipFeatures(self.video[index], self.audio[index], self.labels[index])


def features_of(model: FeatureModel) -> tuple[Kind, ...]:
    """What a model gives features of."""
    if isinstance(model, EncoderAlone):
        return ("video",) if model.sees else ("audio",)
    if isinstance(model, Recognizer) and not model.config.hears:
        return ("video",)
    return ("audio",) if isinstance(model, Recognizer) and not model.config.sees else ("video", "audio")


def file_features(
    model: FeatureModel,
    rows: Sequence[Row],
    labels: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ClipFeatures, Skipped]:
    """Features of files, in their order; all NaN for one that cannot be read, which is named with the reason.

    Raises:
        DataError: none can be read.
    """
    found: list[tuple[np.ndarray, np.ndarray] | None] = []
    skipped: Skipped = []
    for row in rows:
        try:
            _, seen, heard = embed_file(row.source, model)
            found.append((seen.mean(0), heard.mean(0)))
        except AvlearnError as error:
            skipped.append((str(row.source), reason_of(error, row.source)))
            found.append(None)
        if progress:
            progress(len(found), len(rows))
    sizes = next(((len(each[0]), len(each[1])) for each in found if each), None)
    if sizes is None:
        raise DataError(f"none of {len(rows)} clips could be used; the first: {': '.join(skipped[0])}")
    nothing = tuple(np.full(size, np.nan, np.float32) for size in sizes)
    video, audio = (np.stack([(each or nothing)[k] for each in found]) for k in (0, 1))
    return ClipFeatures(video, audio, labels), skipped


def table_features(path: Path, rows: Sequence[Row], listed: Sequence[Row], labels: np.ndarray) -> ClipFeatures:
    """Features of clips from the table that `avlearn embed` wrote of them, by their paths.

    Args:
        path: ``.npz`` or ``.parquet``, or the folder of parts.
        rows: the clips.
        listed: all rows of the manifests, which the table may hold too.
        labels: ``[N]`` of the clips.

    Raises:
        DataError: the table cannot be read, lacks a clip, or holds one that the manifests do not list.
    """
    paths, video, audio = read_features(path)
    names, windows = np.unique([_key(name) for name in paths], return_inverse=True)
    places = {name: number for number, name in enumerate(names)}
    lost = [row for row in rows if _key(path_text(str(row.source))) not in places]
    if lost:
        raise DataError(f"{path} lacks {len(lost)} of {len(rows)} clips of the manifest; the first: {lost[0].source}")
    known = {_key(path_text(str(row.source))) for row in listed}
    others = [name for name in places if name not in known]
    if others:
        raise DataError(f"the manifest lacks {len(others)} of {len(names)} files of {path}; the first: {others[0]}")
    counts = np.bincount(windows)[:, None]
    order = [places[_key(path_text(str(row.source)))] for row in rows]
    means = []
    for values in (video, audio):
        total = np.zeros((len(names), values.shape[1]))
        np.add.at(total, windows, values)
        means.append((total / counts)[order].astype(np.float32))
    return ClipFeatures(means[0], means[1], labels)


def _key(path: str) -> str:
    """One name for a path, from wherever it was given."""
    return os.path.realpath(path)


def read_features(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Path, video ``[N, D]`` and audio ``[N, D']`` of each window in a table of `avlearn embed`, or a folder of such.

    Raises:
        DataError: there is no such table, or it is none.
    """
    if path.is_dir():
        return _read_parts(path)
    if not is_file(path):
        raise DataError(f"there is no file of features {path}")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is no file of features by its name: {', '.join(SUFFIXES)}")
    read = _read_npz if path.suffix.lower() == ".npz" else _read_parquet
    try:
        paths, video, audio = read(path)
    except KeyError as error:
        raise DataError(f"{path} is no file of features: it lacks {error.args[0]}") from error
    except (OSError, ValueError, EOFError, BadZipFile, pyarrow.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path} is no file of features: {reason}") from error
    for name, values in (("video", video), ("audio", audio)):
        if values.ndim != 2 or len(values) != len(paths) or values.dtype.kind != "f":
            raise DataError(
                f"{path}: {name} is {values.dtype} {list(values.shape)}: numbers [{len(paths)}, D] are needed"
            )
    if not len(paths):
        raise DataError(f"{path} holds no window")
    return paths, video, audio


def _read_parts(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Of a file in several parts, the last counts."""
    seen: set[str] = set()
    paths: list[str] = []
    arrays: dict[str, list[np.ndarray]] = {"video": [], "audio": []}
    for part in sorted(folder.glob(PART), reverse=True):
        try:
            names, video, audio = read_features(part)
        except DataError as error:
            raise DataError(f"{error} (remove it, and the same embed command makes it again)") from error
        new = [name not in seen for name in names]
        paths += [name for name, is_new in zip(names, new, strict=True) if is_new]
        arrays["video"].append(video[new])
        arrays["audio"].append(audio[new])
        seen.update(names)
    if not paths:
        raise DataError(f"{folder} holds no features ({PART})")
    return paths, np.concatenate(arrays["video"]), np.concatenate(arrays["audio"])


_COLUMNS = ("path", "video", "audio")


def _read_npz(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        for name in _COLUMNS:
            if name not in file:
                raise KeyError(name)
        return [str(name) for name in np.ravel(file["path"])], file["video"], file["audio"]


def _read_parquet(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    names = pyarrow.parquet.read_schema(path).names
    for name in _COLUMNS:
        if name not in names:
            raise KeyError(name)
    table = pyarrow.parquet.read_table(path, columns=list(_COLUMNS), page_checksum_verification=True)
    arrays = []
    for name in _COLUMNS[1:]:
        cells = table[name].combine_chunks()
        if not pyarrow.types.is_list(cells.type):
            raise ValueError(f"{name} holds {cells.type}: lists of numbers are needed")
        lengths = set(cells.value_lengths().to_pylist())
        if len(lengths) > 1:
            raise ValueError(f"{name} holds lists of {len(lengths)} lengths")
        values = cells.flatten().to_numpy(zero_copy_only=False)
        arrays.append(values.reshape(len(cells), -1) if len(values) else np.zeros((len(cells), 0), np.float32))
    return [str(name) for name in table["path"].to_pylist()], arrays[0], arrays[1]
