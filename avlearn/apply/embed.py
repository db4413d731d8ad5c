"""Features of files for recognition: of the video where the sound comes from, and of the audio."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel, embed_alone
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.part_folder import path_text
from avlearn.apply.recognize import recognize_windows
from avlearn.apply.rows import Rows
from avlearn.apply.windows import check_finite, stream_windows, windows
from avlearn.errors import MediaError, ModelError
from avlearn.files import check_output, printable, reason_of, replacing
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
        lines = [f"{printable(path)}: error: {reason}" for path, reason in self.failed]
        lines += [f"{len(self.failed)} of {self.files + len(self.failed)} files could not be read"] if lines else []
        windows, files = (f"{n} {what}{'s' * (n != 1)}" for n, what in ((self.windows, "window"), (self.files, "file")))
        return "\n".join([*lines, f"wrote {printable(self.out)}: {windows} of {files}"])


@unchanged
@opened_once
def embed_file(
    path: Source, model: FeatureModel, check: InDistributionCheck | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of each window of a file; of an encoder alone, see `embed_alone`.

    Returns:
        Starts ``[N]`` seconds, video ``[N, 3 D]``, audio ``[N, 3 D']``, float32; NaN where the file has no video, or
        no audio: all places of the video then count alike. Of an encoder alone, or of a recognizer, ``[N, D]`` and
        ``[N, 0]``, or the other way round, or both, as it takes them.
    """
    if isinstance(model, Recognizer):
        return _embed_recognized(path, model)
    if isinstance(model, EncoderAlone):
        return embed_alone(path, model)
    info = probe(path)
    if info.video is None or info.audio is None:
        return _embed_stream(path, model, "audio" if info.video is None else "video")
    starts: list[float] = []
    video, audio = Rows(), Rows()
    for window in windows(path, model, model.config.seconds / 2):
        if check:
            check.add_video(window.features, window.frames)
            check.add_audio(window.audio_features)
        seen, heard = pooled_features(model, window.features, window.audio_features)
        starts.append(window.start)
        video.extend(seen.cpu().numpy())
        audio.extend(heard.cpu().numpy())
    return np.array(starts, np.float32), video.array(), audio.array()


def _embed_recognized(path: Source, model: Recognizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts: list[float] = []
    means = {"video": Rows(), "audio": Rows()}
    for window in recognize_windows(path, model):
        starts.append(window.start)
        for kind, values in window.features.items():
            if kind not in means:
                raise ModelError(f"{model.config.fusion} has features of {', '.join(window.features)}: embed takes two")
            means[kind].extend(pooled(values).cpu().numpy())
    nothing = np.zeros((len(starts), 0), np.float32)
    video, audio = (each.array() if len(each) else nothing for each in means.values())
    return np.array(starts, np.float32), video, audio


def _embed_stream(
    path: Source, model: AudioVisual, kind: Literal["video", "audio"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`embed_file` of what has video or audio alone."""
    pool = pooled_video if kind == "video" else pooled_audio
    starts: list[float] = []
    pooled = Rows()
    for start, features in stream_windows(path, model, model.config.seconds / 2, kind):
        starts.append(start)
        pooled.extend(pool(features).cpu().numpy())
    if not len(pooled):
        raise MediaError(f"{path} holds no {kind}")
    found: dict[str, np.ndarray] = {kind: pooled.array()}
    for name, tower in (("video", model.video), ("audio", model.audio)):
        found.setdefault(name, np.full((len(starts), 3 * tower.num_features), np.nan, np.float32))
    return np.array(starts, np.float32), found["video"], found["audio"]


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
