"""A preview learned from the files of a manifest."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from avlearn.apply.learn_preview import Learned, TaughtFile, learn_preview, taught_file
from avlearn.apply.preview import window_cost
from avlearn.data.manifest import Row, read_manifest
from avlearn.errors import AvlearnError, ModelError
from avlearn.evaluation.recognizer import TRAIN, require_known, truth_of
from avlearn.evaluation.result import list_skipped
from avlearn.files import reason_of
from avlearn.models.preview import save_preview
from avlearn.models.recognizer import Recognizer


@dataclass(frozen=True)
class PreviewResult:
    """A preview that was learned.

    Attributes:
        path: of its folder.
        learned: how it does on files that it did not learn from.
        recognizer_gmacs, preview_gmacs: 10^9 multiply-adds of a window.
        skipped: path and reason of each file that was not learned from.
    """

    path: str
    learned: Learned
    recognizer_gmacs: float
    preview_gmacs: float
    skipped: Sequence[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.preview/1``: the attributes."""
        skipped = [{"path": path, "reason": reason} for path, reason in self.skipped]
        return {"schema": "avlearn.preview/1", **asdict(self), "skipped": skipped}

    def text(self) -> str:
        """Human-readable text."""
        found = self.learned
        return (
            f"wrote {self.path}: learned from {found.windows} windows of {found.files} files\n"
            f"of {found.held_out} others it says of a window what the model says in {found.agreement:.0%} (always the "
            f"most frequent answer: {found.usual:.0%})\n"
            f"loss of their labels by the windows that it picks: {found.loss:.3f}, {found.loss_before:.3f} before it "
            f"learned to pick\n"
            f"a window costs {self.preview_gmacs:.3f} GMACs, and {self.recognizer_gmacs:.3f} to look at"
        ) + list_skipped(self.skipped)


def preview_from(
    model: Recognizer,
    manifests: Sequence[str | Path],
    *,
    image: str,
    audio: str,
    epochs: int = 20,
    seed: int = 0,
    hidden: int = 1024,
    key: int = 512,
    reading: Callable[[int, int], None] = lambda done, of: None,
    learning: Callable[[int, int], None] = lambda done, of: None,
) -> PreviewResult:
    """Learn a preview and write it into the model's folder.

    Args:
        model: from `avlearn.models.recognizer_folder.load_recognizer`.
        manifests: of labelled files; of those with splits, the training files.
        image, audio, epochs, seed, hidden, key: as of `avlearn.apply.learn_preview.learn_preview`.
        reading, learning: told how many files, and epochs, are done, and of how many.

    Raises:
        DataError: there are too few files, or a label is none that the model knows.
        ModelError: the model sees nothing, or an encoder cannot be made.
        OutputError: the preview cannot be written.
    """
    if not model.config.sees:
        raise ModelError("a preview spares looking, and this model only listens")
    assert model.folder is not None  # it was opened from one
    rows = [row for manifest in manifests for row in _to_learn(read_manifest(manifest))]
    require_known(rows, model.config.labels)
    truth = torch.from_numpy(truth_of(rows, model.config.labels))
    files: list[TaughtFile] = []
    skipped: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        try:
            reason = reason_why_not(row)
            if not reason:
                files.append(taught_file(row.source, model, truth[number]))
        except AvlearnError as error:
            reason = reason_of(error, row.source)
        skipped += [(str(row.source), reason)] if reason else []
        reading(number + 1, len(rows))
    preview, learned = learn_preview(
        files, model, image=image, audio=audio, epochs=epochs, seed=seed, hidden=hidden, key=key, progress=learning
    )
    cost, target = window_cost(model, preview), save_preview(preview, model.folder)
    return PreviewResult(str(target), learned, cost.recognizer, cost.preview, skipped)


def _to_learn(rows: Sequence[Row]) -> Sequence[Row]:
    """Training files, of a manifest that has splits; else all."""
    return [row for row in rows if row.split == TRAIN] if any(row.split for row in rows) else rows


def reason_why_not(row: Row) -> str:
    """Why a row is no file for a preview; "" where it is one."""
    if row.start:
        return "it is a stretch of a file"
    return row.reason_for(video=True, audio=True) or ("" if row.labels else "it has no label")
