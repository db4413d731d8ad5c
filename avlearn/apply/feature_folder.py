"""Features of very many files: a folder of Parquet parts, written as work gets done, from which a run goes on."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from torch import nn

from avlearn.apply.embed import EmbedResult, FileFeatures, path_text
from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel
from avlearn.apply.run_many import Failure, InferenceOptions, run_many
from avlearn.apply.tools import EMBED
from avlearn.data.journal import Journal
from avlearn.data.part import Part, all_beside
from avlearn.data.workers import Workers
from avlearn.errors import OutputError
from avlearn.files import replacing
from avlearn.media import Slice
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual

FORMAT = "avlearn.features/1"
PART = "features-*.parquet"
_JOURNAL = ".journal"
_NUMBERED = re.compile(r"features-(\d+)")
_LARGE, _LONG = 2**26, 60.0  # bytes of features in a part, and seconds after which a smaller one is written


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
    if not isinstance(model, EncoderAlone):
        found |= {"fps": model.config.fps, "sample_rate": model.config.sample_rate}
    return found


class FeatureFolder:
    """A folder that features of files are written to, some files in each part.

    Each part says in its metadata what the features are of (`about`). A killed run leaves whole parts; what was not in
    one yet is done again. Of a file that changed, the last part counts.

    Args:
        folder: made where it is not there.
        about: from `about`.
        choice: of the audio, where not all of it is listened to.
        part: of the files; others may write to the folder at the same time.

    Raises:
        OutputError: the folder holds something else, features of another model, or cannot be written to.
    """

    def __init__(
        self, folder: Path, about: dict[str, Any], choice: Sequence[str | None] = (), part: Part | None = None
    ):
        self.folder, self.about = folder, about | ({"audio": [*choice]} if any(choice) else {})
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
        if any(not path.name.startswith(".") for path in folder.iterdir()) and not (
            (folder / _JOURNAL).exists() or all_beside(folder / _JOURNAL)
        ):
            raise OutputError(f"{folder} holds other files: give a folder of its own")
        self._journal = Journal(folder / _JOURNAL, part)
        for record in self._journal.records:
            if "part" not in record and record != self.about:
                self._journal.close()
                keys = {**self.about, **record}
                differs = ", ".join(key for key in keys if record.get(key) != self.about.get(key))
                raise OutputError(
                    f"{folder} holds features of '{record.get('model')}' ({differs} differs): give another folder"
                )
        if self.about not in self._journal.records:
            self._journal.add(self.about)
        records = [record for record in self._journal.records if "part" in record]
        parts = [record for record in records if (folder / record["part"]).exists()]
        self._done: dict[str, list[Any]] = {}  # what changes when a file does, and how many windows it has
        for record in parts:
            self._done |= record["files"]
        # Parts of the files write side by side; whoever comes later writes files that come later in their order.
        self._suffix = f"-{part.number}of{part.of}.parquet" if part else ".parquet"
        numbers = [int(found[1]) for record in parts if (found := _NUMBERED.match(record["part"]))]
        self._number = max(numbers, default=-1) + 1
        self._found: list[FileFeatures] = []
        self._marks: dict[str, str] = {}
        self._bytes, self._flushed = 0, monotonic()

    @property
    def files(self) -> int:
        """In the parts, from this run and those before."""
        return len(self._done)

    def missing(self, sources: Sequence[Source]) -> list[Source]:
        """Those of which no features are in the parts, or of which the file has changed since."""
        left = []
        for source in sources:
            mark = _mark(source)
            if self._done.get(path_text(str(source)), [None])[0] != mark:
                self._marks[str(source)] = mark
                left.append(source)
        return left

    def add(self, found: FileFeatures) -> None:
        """Keep features of a file; they are written when there are enough for a part."""
        self._found.append(found)
        self._bytes += found.video.nbytes + found.audio.nbytes
        if self._bytes >= _LARGE or monotonic() - self._flushed >= _LONG:
            self.flush()

    def flush(self) -> None:
        """Write what is kept.

        Raises:
            OutputError: it cannot be written.
        """
        if not self._found:
            return
        part = self.folder / f"features-{self._number:05d}{self._suffix}"
        counts = [len(file.starts) for file in self._found]
        names = [path_text(file.path) for file in self._found]
        columns = {
            "path": pyarrow.array(np.repeat(np.array(names, object), counts)),
            "start": pyarrow.array(np.concatenate([file.starts for file in self._found])),
            "video": _lists([file.video for file in self._found]),
            "audio": _lists([file.audio for file in self._found]),
        }
        table = pyarrow.table(columns).replace_schema_metadata({"avlearn": json.dumps(self.about)})
        with replacing(part) as unfinished:
            pyarrow.parquet.write_table(table, unfinished)
        marks = [self._marks.get(file.path, "") for file in self._found]
        files = {name: [mark, count] for name, mark, count in zip(names, marks, counts, strict=True)}
        self._journal.add({"part": part.name, "files": files})
        self._done |= files
        self._number, self._found, self._bytes, self._flushed = self._number + 1, [], 0, monotonic()

    def result(self, failed: list[tuple[str, str]]) -> EmbedResult:
        """What is in the parts, and path and reason of files that could not be read."""
        return EmbedResult(str(self.folder), sum(count for _, count in self._done.values()), self.files, failed)

    def close(self) -> None:
        """Let the folder go; what is kept and not written is lost."""
        self._journal.close()


def embed_into(
    folder: FeatureFolder,
    sources: Sequence[Source],
    inference: InferenceOptions,
    workers: Workers = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[tuple[str, str]]:
    """Features of files into a folder; what is done is written, whatever ends this.

    Args:
        folder: what they are added to.
        sources: files, those that `FeatureFolder.missing` gives.
        inference, workers: as for `avlearn.apply.run_many.run_many`.
        progress: told how many files are done, and of how many.

    Returns:
        Path and reason of each file that could not be read.

    Raises:
        ModelError: see there.
        OutputError: a part cannot be written.
    """
    failed: list[tuple[str, str]] = []
    if not sources:
        return failed
    try:
        with closing(run_many(EMBED, sources, inference, workers=workers)) as results:
            for done, (_, result) in enumerate(results, 1):
                if isinstance(result, Failure):
                    failed.append((path_text(result.path), result.reason))
                else:
                    folder.add(result)
                progress(done, len(sources))
    finally:
        folder.flush()
    return failed


def _lists(arrays: Sequence[np.ndarray]) -> pyarrow.Array:
    """A list a row, of arrays ``[N, D]``."""
    rows = np.concatenate(arrays)
    values = pyarrow.array(rows.reshape(-1))
    return pyarrow.ListArray.from_arrays(np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1]), values)


def _mark(source: Source) -> str:
    """What changes when a file does, or the tar that it lies in; "" of what is no file."""
    try:
        status = Path(str(source.path if isinstance(source, Slice) else source)).stat()
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"
