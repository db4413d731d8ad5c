"""Features of very many files: a folder of Parquet parts, written as work gets done, from which a run goes on."""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from torch import nn

from avlearn.apply.embed import EmbedResult, FileFeatures
from avlearn.apply.embed_in_batches import embed_in_batches
from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel
from avlearn.apply.part_folder import PartFolder, path_text
from avlearn.apply.run_many import Failure, InferenceOptions, open_model, run_many
from avlearn.apply.tools import EMBED_BY_EACH
from avlearn.data.part import Part
from avlearn.data.workers import Workers
from avlearn.device import choose_device
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.weights.preprocessing import Preprocessing

FORMAT = "avlearn.features/1"
PART = "features-*.parquet"


def about(model: FeatureModel, name: str, precision: str) -> dict[str, Any]:
    """What features are of: a model, the hash of its settings and weights, and its windows, in seconds."""
    if isinstance(model, EncoderAlone):
        module: nn.Module = model.encoder
        settings = repr((model.encoder.config, model.encoder.mean, model.encoder.std, model.preprocessing))
    else:
        module, settings = model, repr(model.config)
    digest = hashlib.sha256(settings.encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    seconds = model.seconds if isinstance(model, EncoderAlone) else model.config.seconds
    hop = seconds / 2 if isinstance(model, AudioVisual) else seconds
    found: dict[str, Any] = {"format": FORMAT, "model": name, "weights": digest.hexdigest(), "precision": precision}
    found |= {"window": round(seconds, 6), "hop": round(hop, 6)}
    if isinstance(model, EncoderAlone):
        how = model.preprocessing
        return found | ({"fps": model.fps} if isinstance(how, Preprocessing) else {"sample_rate": how.sample_rate})
    return found | {"fps": model.config.fps, "sample_rate": model.config.sample_rate}


class FeatureFolder(PartFolder):
    """A `PartFolder` of features: a row a window.

    Args:
        folder: made where it is not there.
        about: from `about`.
        choice: of the audio, where not all of it is listened to.
        part: of the files; others may write to the folder at the same time.
        overwrite: whether features that are there are removed; not with a part.

    Raises:
        OutputError: the folder holds something else, features of another model, or cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        about: dict[str, Any],
        choice: Sequence[str | None] = (),
        part: Part | None = None,
        overwrite: bool = False,
    ):
        super().__init__(folder, about | ({"audio": [*choice]} if any(choice) else {}), "features", part, overwrite)

    def add(self, found: FileFeatures) -> None:
        """Keep features of a file; they are written when there are enough of them, or after a minute."""
        name, windows = path_text(found.path), len(found.starts)
        columns = {
            "path": pyarrow.array([name] * windows),
            "start": pyarrow.array(found.starts),
            "video": _lists(found.video),
            "audio": _lists(found.audio),
        }
        self.add_rows(name, pyarrow.table(columns), windows)

    def result(self, failed: list[tuple[str, str]]) -> EmbedResult:
        """What is there, and path and reason of files that could not be read."""
        return EmbedResult(str(self.folder), sum(self.notes), self.files, failed)


Failed = list[tuple[str, str]]  # path and reason of files


def missing_in(folders: Sequence[FeatureFolder], sources: Sequence[Source]) -> dict[Source, list[int]]:
    """Files of which features are missing, and the numbers of the folders that lack them."""
    lacking: dict[Source, list[int]] = {}
    for number, folder in enumerate(folders):
        for source in folder.missing(sources):
            lacking.setdefault(source, []).append(number)
    return lacking


def embed_into(
    folders: Sequence[FeatureFolder],
    lacking: Mapping[Source, Sequence[int]],
    inference: InferenceOptions,
    workers: Workers = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Failed]:
    """Features of files into a folder for each model; what is done is written, whatever ends this.

    Args:
        folders: what they are added to: one for the inference's model, and one for each of the others.
        lacking: files, and numbers of the folders, as of `missing_in`.
        inference, workers: as for `avlearn.apply.run_many.run_many`.
        progress: told how many files are done, and of how many.

    Returns:
        For each folder, the files that could not be read.

    Raises:
        ModelError: see there.
        OutputError: a part cannot be written.
    """
    failed: list[Failed] = [[] for _ in folders]
    sources = [*lacking]
    with ExitStack() as at_the_end:
        for folder in folders:
            at_the_end.callback(folder.flush)
        results = at_the_end.enter_context(closing(_results(lacking, inference, workers)))
        for done, (file, result) in enumerate(results, 1):
            numbers = lacking[sources[file]]
            by_each = [result] * len(numbers) if isinstance(result, Failure) else result
            for number, found in zip(numbers, by_each, strict=True):
                if isinstance(found, Failure):
                    failed[number].append((path_text(found.path), found.reason))
                else:
                    folders[number].add(found)
            progress(done, len(sources))
    return failed


def _results(
    lacking: Mapping[Source, Sequence[int]], inference: InferenceOptions, workers: Workers
) -> Generator[tuple[int, Any], None, None]:
    """Number of a file and, of each model that it is for, features or a failure; or one failure."""
    # The track most in sync is found by a model, which processes that decode alone do not have.
    if (
        isinstance(workers, int | None)
        and lacking
        and inference.track != "best"
        and choose_device(inference.device).type != "cpu"
    ):
        models = open_model(EMBED_BY_EACH, inference)
        return embed_in_batches([*lacking.items()], models, inference.track, inference.channel, workers)
    each = [{"wanted": numbers} for numbers in lacking.values()]
    return run_many(EMBED_BY_EACH, [*lacking], inference, each=each, workers=workers)


def _lists(rows: np.ndarray) -> pyarrow.Array:
    """A list a row, of an array ``[N, D]``."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pyarrow.ListArray.from_arrays(offsets, pyarrow.array(rows.reshape(-1)))
