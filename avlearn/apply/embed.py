"""Features of files for recognition: of the video where the sound comes from, and of the audio."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel, encoder_windows
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.part_folder import path_text
from avlearn.apply.recognize import recognize_windows
from avlearn.apply.rows import Rows
from avlearn.apply.windows import check_finite, stream_windows, windows
from avlearn.errors import MediaError, ModelError
from avlearn.files import check_output, printable, reason_of, replacing
from avlearn.media import SharedDecoding
from avlearn.media.probe import probe
from avlearn.media.selection import select_audio
from avlearn.media.source import Source, opened, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.encoder import pooled
from avlearn.models.recognizer import Recognizer
from avlearn.objectives.similarity import heatmap

SUFFIXES = (".npz", ".parquet")


def _over_time(sequence: Tensor) -> Tensor:
    """Mean, maximum and standard deviation over time: ``[B, D, T]`` to ``[B, 3 D]``."""
    return torch.cat([sequence.mean(2), sequence.amax(2), sequence.std(2, unbiased=False)], 1)


def pooled_video(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Video features ``[B, D, T, Y, X]`` averaged over places, by weights ``[B, Y, X]`` or all alike: ``[B, 3 D]``."""
    seen = features.mean((3, 4)) if weights is None else torch.einsum("bdtyx,byx->bdt", features, weights)
    return check_finite(_over_time(seen), "the video")


def pooled_audio(features: Tensor) -> Tensor:
    """Audio features ``[B, D', T]`` over time: ``[B, 3 D']``."""
    return check_finite(_over_time(features), "the audio")


@torch.inference_mode()
def pooled_features(model: AudioVisual, features: Tensor, audio_features: Tensor) -> tuple[Tensor, Tensor]:
    """Features of a window for recognition.

    The video is averaged over places, weighted by the heatmap of the window's audio where the model has a common space.

    Args:
        model: the towers.
        features: ``[B, D, T, Y, X]``.
        audio_features: ``[B, D', T]`` of the same seconds.

    Returns:
        Video ``[B, 3 D]`` and audio ``[B, 3 D']``.
    """
    weights = None
    if model.config.common_space:
        heat = heatmap(model.project_video(features), model.project_audio(audio_features))
        weights = (heat * model.config.pool_scale).flatten(1).softmax(1).view_as(heat)
    return pooled_video(features, weights), pooled_audio(audio_features)


@dataclass(frozen=True)
class EmbedResult:
    """Where the features went.

    Attributes:
        out: the file written.
        windows: how many windows over all files.
        files: how many files, without those that failed.
        failed: path and reason of each file that could not be read.
    """

    out: str
    windows: int
    files: int
    failed: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        failed = [{"path": path, "reason": reason} for path, reason in self.failed]
        return {"schema": "avlearn.embed/1", **asdict(self), "failed": failed}

    def text(self) -> str:
        """Human-readable text."""
        return "\n".join([*(f"{printable(path)}: error: {reason}" for path, reason in self.failed), *self.counts()])

    def counts(self) -> list[str]:
        """Human-readable lines: how many files could not be read, if any, and what was written."""
        told = [f"{len(self.failed)} of {self.files + len(self.failed)} files could not be read"] if self.failed else []
        windows, files = (f"{n} {what}{'s' * (n != 1)}" for n, what in ((self.windows, "window"), (self.files, "file")))
        return [*told, f"wrote {printable(self.out)}: {windows} of {files}"]


Row = tuple[float, np.ndarray, np.ndarray]  # of a window: start in seconds, features of video and of audio


@unchanged
@opened_once
def embed_file(
    path: Source, model: FeatureModel, check: InDistributionCheck | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of each window of a file.

    Returns:
        Starts ``[N]`` seconds, video ``[N, 3 D]``, audio ``[N, 3 D']``, float32; NaN where the file has no video, or
        no audio: all places of the video then count alike. Of an encoder alone, or of a recognizer, means ``[N, D]``
        and ``[N, 0]``, or the other way round, or both, as it takes them.
    """
    rows = WindowRows()
    for row in window_rows(path, model, check):
        rows.add(row)
    return rows.arrays()


class WindowRows:
    """Features of windows, kept along a file of any length."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._video, self._audio = Rows(), Rows()

    def add(self, row: Row) -> None:
        """Add those of a window."""
        start, video, audio = row
        self._starts.append(start)
        self._video.append(video)
        self._audio.append(audio)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Starts ``[N]`` in seconds, video and audio ``[N, ...]``, float32."""
        return np.array(self._starts, np.float32), self._video.array(), self._audio.array()


def window_rows(
    path: Source,
    model: FeatureModel,
    check: InDistributionCheck | None = None,
    decoded: SharedDecoding | None = None,
) -> Iterator[Row]:
    """Features of a file, window by window, as of `embed_file`.

    Args:
        path: the file.
        model: what describes it.
        check: is told of windows that have video and audio.
        decoded: shared with other models.

    Raises:
        MediaError: the file cannot be read, or lacks what the model takes.
    """
    if isinstance(model, Recognizer):
        yield from _recognized(path, model, decoded)
        return
    if isinstance(model, EncoderAlone):
        nothing = np.zeros(0, np.float32)
        for start, features in encoder_windows(path, model, decoded):
            mean = pooled(features)[0].cpu().numpy()
            yield (start, mean, nothing) if model.sees else (start, nothing, mean)
        return
    info, hop = probe(path), model.config.seconds / 2
    if info.video is None or info.audio is None:
        yield from _of_stream(path, model, "audio" if info.video is None else "video", decoded)
        return
    for window in windows(path, model, hop, decoded):
        if check:
            check.add_video(window.features, window.frames)
            check.add_audio(window.audio_features)
        seen, heard = pooled_features(model, window.features, window.audio_features)
        yield window.start, seen[0].cpu().numpy(), heard[0].cpu().numpy()


def _recognized(path: Source, model: Recognizer, decoded: SharedDecoding | None) -> Iterator[Row]:
    for window in recognize_windows(path, model, decoded=decoded):
        means = {kind: mean[0].cpu().numpy() for kind, mean in recognized_means(model, window.features).items()}
        nothing = np.zeros(0, np.float32)
        yield window.start, means.get("video", nothing), means.get("audio", nothing)


def recognized_means(model: Recognizer, features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means ``[B, D]`` of a recognizer's features, of ``video``, of ``audio``, or of both.

    Raises:
        ModelError: it has others.
    """
    if features.keys() - {"video", "audio"}:
        raise ModelError(f"{model.config.fusion} has features of {', '.join(features)}: embed takes two")
    return {kind: pooled(values) for kind, values in features.items()}


def _of_stream(
    path: Source, model: AudioVisual, kind: Literal["video", "audio"], decoded: SharedDecoding | None
) -> Iterator[Row]:
    """`window_rows` of what has video or audio alone."""
    pool = pooled_video if kind == "video" else pooled_audio
    missing = np.full(3 * (model.audio if kind == "video" else model.video).num_features, np.nan, np.float32)
    empty = True
    for start, features in stream_windows(path, model, model.config.seconds / 2, kind, decoded):
        row, empty = pool(features)[0].cpu().numpy(), False
        yield (start, row, missing) if kind == "video" else (start, missing, row)
    if empty:
        raise MediaError(f"{path} holds no {kind}")


def embed_files(
    paths: Sequence[Source],
    model: FeatureModel,
    out: str | Path,
    *,
    track: str | None = None,
    channel: str | None = None,
    overwrite: bool = False,
) -> EmbedResult:
    """Features of files into one table: ``.npz`` (arrays) or ``.parquet`` (a row a window).

    Columns: ``path``, ``start`` (seconds), ``video`` (3 D), ``audio`` (3 D'); NaN where a file has no video, or no
    audio. A file that cannot be read is listed with the reason, and the others are done.

    Args:
        paths: the files.
        model: from `avlearn.load`.
        out: the file to write.
        track, channel: which audio of each file, as for `avlearn.media.selection.select_audio`.
        overwrite: whether ``out`` may be replaced.

    Raises:
        MediaError: none of the files can be read.
        OutputError: the suffix is neither, the file is there already, or it cannot be written.
    """
    check_output(out, SUFFIXES, [path for path in paths if isinstance(path, str | Path)], overwrite)
    found, failed = [], []
    for path in paths:
        try:
            with opened(path) as file:
                listened = select_audio(file, track, channel) if track or channel else file
                found.append(file_features(listened, model))
        except MediaError as error:
            failed.append((str(path), reason_of(error, path)))
    return write_features(out, found, failed)


@dataclass(frozen=True)
class FileFeatures:
    """Features of the windows of a file: starts ``[N]`` in seconds, video and audio float32 ``[N, ...]``."""

    path: str
    starts: np.ndarray
    video: np.ndarray
    audio: np.ndarray


def file_features(path: Source, model: FeatureModel) -> FileFeatures:
    """`embed_file` with the file's name."""
    return FileFeatures(str(path), *embed_file(path, model))


def write_features(
    out: str | Path, found: Sequence[FileFeatures], failed: Sequence[tuple[str, str]] = ()
) -> EmbedResult:  # fmt: skip
    """Write the table of `embed_files`.

    Args:
        out: the file to write.
        found: of the files that could be read.
        failed: path and reason of the others.

    Raises:
        MediaError: none could be read.
        OutputError: the file cannot be written.
    """
    out, failed = Path(out), [(path_text(path), reason) for path, reason in failed]
    if not found:
        more = f" (and {len(failed) - 1} other files that cannot be read)" if len(failed) > 1 else ""
        raise MediaError(f"{failed[0][0]}: {failed[0][1]}{more}")
    columns = {
        "path": np.repeat([path_text(file.path) for file in found], [len(file.starts) for file in found]),
        "start": np.concatenate([file.starts for file in found]).astype(float),
        "video": np.concatenate([file.video for file in found]),
        "audio": np.concatenate([file.audio for file in found]),
    }
    with replacing(out) as part:
        if out.suffix.lower() == ".npz":
            with part.open("wb") as file:
                np.savez_compressed(file, **columns)  # type: ignore[arg-type]
        else:
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.table({name: list(rows) for name, rows in columns.items()}), part)
    return EmbedResult(str(out), len(columns["start"]), len(found), failed)
