"""Features of batches of files, for engines that map a function over a table, as Ray Data's ``map_batches`` does."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow

from avlearn.apply.embed import FileFeatures
from avlearn.apply.run_many import Failure, InferenceOptions, work_on
from avlearn.apply.tools import EMBED

_SCHEMA = pyarrow.schema(
    {
        "path": pyarrow.string(),
        "start": pyarrow.float32(),
        "video": pyarrow.list_(pyarrow.float32()),
        "audio": pyarrow.list_(pyarrow.float32()),
        "reason": pyarrow.string(),
    }
)


class Embedder:
    """Features of the files that a batch names: a row a window, or one with the reason where a file cannot be read.

    It can be pickled, opens its model where it is first called, and keeps it there.

    Args:
        model: as for ``avlearn embed``.
        device, precision: as for `avlearn.load`.

    Example:
        ``ray.data.read_parquet("clips.parquet").map_batches(avlearn.Embedder(), batch_format="pyarrow")``
    """

    def __init__(self, model: str = "default", device: str = "cpu", precision: str = "32"):
        self._work = work_on(EMBED, InferenceOptions(model, device, precision))

    def __call__(self, batch: Mapping[str, Any] | pyarrow.Table) -> pyarrow.Table:
        """Features of a batch.

        Args:
            batch: a table, or columns, with ``path``.

        Returns:
            ``path``, ``start`` (seconds), ``video`` and ``audio`` (features of the window), and ``reason``, which is
            null but for files that cannot be read; the rest is null for these.

        Raises:
            ModelError: there is no such model.
        """
        paths = batch["path"]
        names = paths.to_pylist() if isinstance(paths, pyarrow.ChunkedArray) else list(map(str, paths))
        return pyarrow.Table.from_pylist([row for name in names for row in self._rows(name)], schema=_SCHEMA)

    def _rows(self, path: str) -> list[dict[str, Any]]:
        found: FileFeatures | Failure = self._work((path, {}))
        if isinstance(found, Failure):
            return [{"path": path, "reason": found.reason}]
        windows = zip(found.starts, found.video, found.audio, strict=True)
        return [{"path": path, "start": s, "video": _values(v), "audio": _values(a)} for s, v, a in windows]


def _values(row: np.ndarray) -> np.ndarray:
    return row.astype(np.float32, copy=False)
