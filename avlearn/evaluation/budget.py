"""A recognizer that looks at a few windows of each file: those that a preview picks, beside other choices."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avlearn.apply.preview import Cost, preview_file, window_cost
from avlearn.apply.recognize import recognize_windows
from avlearn.data.manifest import Row
from avlearn.errors import AvlearnError, DataError
from avlearn.evaluation.preview import reason_why_not
from avlearn.evaluation.recognizer import require_known, rows_to_test, truth_of
from avlearn.evaluation.result import list_skipped
from avlearn.files import printable, reason_of
from avlearn.metrics import MetricResult, table
from avlearn.metrics.interval import wilson_interval
from avlearn.metrics.labelling import mean_average_precision, top_k_labels
from avlearn.models.preview import Preview
from avlearn.models.recognizer import Recognizer

_DRAWS = 10  # of random windows


@dataclass(frozen=True)
class BudgetResult:
    """Figures by which windows are looked at.

    Attributes:
        budget: windows of a file that are looked at.
        scores: probabilities ``[N, C]`` averaged over windows, by how these were chosen; of ``random`` ``[R, N, C]``.
        truth: bool ``[N, C]``.
        multi_label: several labels may hold.
        costs: of each file.
        items: SHA-256 of the list of files.
        skipped: path and reason of each file that is in no figure.
    """

    budget: int
    scores: dict[str, np.ndarray]
    truth: np.ndarray
    multi_label: bool
    costs: Sequence[Cost]
    items: str
    skipped: Sequence[tuple[str, str]] = ()

    @cached_property
    def figures(self) -> list[MetricResult]:
        """Top-1, or mAP of several labels, by how windows are chosen."""
        return [self._figure(name, scores) for name, scores in self.scores.items()]

    def _figure(self, name: str, scores: np.ndarray) -> MetricResult:
        measure = mean_average_precision if self.multi_label else (lambda s, t, n: top_k_labels(s, t, 1, n))
        if scores.ndim == 2:
            return measure(scores, self.truth, name)
        drawn = [measure(one, self.truth, name) for one in scores]
        value = float(np.mean([one.value for one in drawn]))
        interval = drawn[0].interval if self.multi_label else wilson_interval(value, len(self.truth))
        return replace(drawn[0], value=value, interval=interval)

    @property
    def cost(self) -> Cost:
        """Of all files together."""
        fields = [asdict(cost) for cost in self.costs]
        return Cost(**{name: sum(each[name] for each in fields) for name in fields[0]})

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.recognition_budget/1``.

        ``items``: SHA-256 of the list of files. ``figures``: a list of `MetricResult.to_dict`. ``cost``: of
        `avlearn.apply.preview.Cost`, of all files together. ``skipped``: a list of ``path`` and ``reason``.
        """
        return {
            "schema": "avlearn.recognition_budget/1",
            "items": self.items,
            "budget": self.budget,
            "figures": [figure.to_dict() for figure in self.figures],
            "cost": asdict(self.cost),
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }

    def text(self) -> str:
        """Human-readable text."""
        said = f"{table(self.figures)}\n\n{self.cost.text()}\nfiles: sha256 {self.items[:16]}"
        return said + list_skipped(self.skipped)


def evaluate_budget(
    model: Recognizer,
    preview: Preview,
    manifests: Sequence[str | Path],
    budget: int,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> BudgetResult:
    """Measure a recognizer on a few windows of each file, of the fold that it was trained on.

    Args:
        model: from `avlearn.models.recognizer_folder.load_recognizer`.
        preview: of it.
        manifests: of labelled files; those of `avlearn.evaluation.recognizer.rows_to_test` are tested.
        budget: windows of a file that are looked at.
        progress: told how many files are done, and of how many.

    Raises:
        DataError: there are no files to test on, a label is none that the model knows, or no file can be read.
    """
    rows = [row for manifest in manifests for row in rows_to_test(manifest, model.config.fold)]
    require_known(rows, model.config.labels)
    each, rng = window_cost(model, preview), np.random.default_rng(0)
    scores: dict[str, list[np.ndarray]] = {}
    read: list[Row] = []
    costs: list[Cost] = []
    skipped: list[tuple[str, str]] = []
    for number, row in enumerate(rows, 1):
        try:
            reason = reason_why_not(row)
            if not reason:
                found = _file_scores(row, model, preview, budget, rng)
                windows = found.pop("windows")
                for name, values in found.items():
                    scores.setdefault(name, []).append(values)
                costs.append(each.of(len(windows), budget))
                read.append(row)
        except AvlearnError as error:
            reason = reason_of(error, row.source)
        skipped += [(str(row.source), reason)] if reason else []
        progress(number, len(rows))
    if not read:
        first = f"; the first, {printable(skipped[0][0])}: {skipped[0][1]}" if skipped else ""
        raise DataError(f"none of {len(rows)} files could be tested on{first}")
    items = hashlib.sha256("\n".join(f"{row.name} {row.hash}" for row in read).encode()).hexdigest()
    stacked = {name: np.stack(values, -2) for name, values in scores.items()}
    truth = truth_of(read, model.config.labels)
    return BudgetResult(budget, stacked, truth, model.config.multi_label, costs, items, skipped)


def _file_scores(
    row: Row, model: Recognizer, preview: Preview, budget: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Probabilities ``[C]`` by how windows are chosen, ``[R, C]`` of ``random``; and ``windows``, those of all."""
    previewed = preview_file(row.source, model, preview)
    windows = np.stack([found.probabilities.cpu().numpy() for found in recognize_windows(row.source, model)])
    count = min(len(windows), len(previewed.starts))
    looked = min(budget, count)
    chosen = {
        "picked by preview": np.array(preview.pick(previewed.sides[:count], looked)),
        "uniform": ((np.arange(looked) + 0.5) / looked * count).astype(int),
        "loudest": np.argsort(-previewed.energy[:count], kind="stable")[:looked],
    }
    found = {"all windows": windows.mean(0)} | {name: windows[some].mean(0) for name, some in chosen.items()}
    draws = [windows[rng.choice(count, looked, replace=False)].mean(0) for _ in range(_DRAWS)]
    with torch.inference_mode():
        alone = model.probabilities(preview.classifier(preview.fuse(previewed.sides)))
    return found | {"random": np.stack(draws), "preview alone": alone.mean(0).cpu().numpy(), "windows": windows}
