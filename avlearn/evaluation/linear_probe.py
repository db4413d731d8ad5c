"""Linear probe: the accuracy of a linear classifier on frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from avlearn.apply.embed import embed_file
from avlearn.apply.encoder_alone import FeatureModel, load_features
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.scan import scan_folder
from avlearn.errors import AvlearnError, DataError
from avlearn.evaluation.result import list_skipped
from avlearn.evaluation.untrained import untrained
from avlearn.files import reason_of
from avlearn.metrics import MetricResult, table
from avlearn.metrics.recognition import recognition

_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class ProbeResult:
    """A linear probe's metrics and its confusion on the test clips.

    Attributes:
        metrics: for video, audio and both.
        labels: class names.
        confusion: for each of the three, counts ``[C][C]``.
        skipped: path and reason of each clip that could not be used.
    """

    metrics: list[MetricResult]
    labels: list[str]
    confusion: dict[str, list[list[int]]]
    skipped: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "schema": "avlearn.probe_model/1",
            "figures": [f.to_dict() for f in self.metrics],
            "labels": self.labels,
            "confusion": self.confusion,
            "skipped": [f"{path}: {reason}" for path, reason in self.skipped],
        }

    def text(self) -> str:
        """Human-readable text."""
        return table(self.metrics) + list_skipped(self.skipped)


@dataclass(frozen=True)
class ClipFeatures:
    """Features of clips, averaged over each clip's windows: ``video``, ``audio`` ``[N, D]``, ``labels [N]``."""

    video: np.ndarray
    audio: np.ndarray
    labels: np.ndarray

    def kinds(self) -> dict[str, np.ndarray]:
        """The three inputs that are probed; of an encoder alone, which hears nothing, one."""
        if not self.audio.shape[1]:
            return {"video": self.video}
        return {
            "video": self.video,
            "audio": self.audio,
            "both": np.concatenate([self.video, self.audio], 1),
        }

    def take(self, index: np.ndarray) -> "ClipFeatures":
        """A subset."""
        return ClipFeatures(self.video[index], self.audio[index], self.labels[index])


def fit_classifier(train: np.ndarray, labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray) -> Pipeline:
    """Standardise and fit a logistic regression, its regularisation chosen on validation clips."""
    best, chosen = -1.0, None
    for strength in _STRENGTHS:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
        classifier.fit(train, labels)
        score = classifier.score(val, val_labels)
        if score > best:
            best, chosen = score, classifier
    return chosen


def probe_features(
    train: ClipFeatures, val: ClipFeatures, test: ClipFeatures, reference: dict[str, float], name: str = ""
) -> tuple[list[MetricResult], dict[str, np.ndarray]]:
    """Metrics for video, audio and both, and their test predictions ``[N]``."""
    metrics, predicted = [], {}
    for kind, values in train.kinds().items():
        classifier = fit_classifier(values, train.labels, val.kinds()[kind], val.labels)
        scores = np.full((len(test.labels), int(max(train.labels.max(), test.labels.max())) + 1), -1e9)
        scores[:, classifier.classes_] = classifier.decision_function(test.kinds()[kind]).reshape(
            len(test.labels), -1
        ) if len(classifier.classes_) > 2 else classifier.predict_log_proba(test.kinds()[kind])  # fmt: skip
        metrics += recognition(scores, test.labels, f"{kind}{name}", reference.get(kind))
        predicted[kind] = scores.argmax(1)
    return metrics, predicted


def file_features(
    model: FeatureModel, rows: Sequence[Row], names: Sequence[str]
) -> tuple[ClipFeatures, list[tuple[str, str]]]:
    """Features of files, and path and reason of those that were skipped."""
    video, audio, labels, skipped = [], [], [], []
    for row in rows:
        try:
            _, seen, heard = embed_file(row.source, model)
        except AvlearnError as error:
            skipped.append((str(row.source), reason_of(error, row.source)))
            continue
        video.append(seen.mean(0))
        audio.append(heard.mean(0))
        labels.append(names.index(row.labels[0]))
    if not labels:
        raise DataError(f"none of {len(rows)} clips could be used; the first: {': '.join(skipped[0])}")
    return ClipFeatures(np.stack(video), np.stack(audio), np.array(labels)), skipped


def usable_rows(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Labelled clips that can be used, and path and reason of the others.

    Raises:
        DataError: those that can be used are not of two classes at least.
    """
    usable = [row for row in rows if row.labels and not row.reason]
    others = [(str(row.source), row.reason or "it has no label") for row in rows if not row.labels or row.reason]
    classes = {row.labels[0] for row in usable}
    if len(classes) < 2:
        why = f"; {len(others)} more cannot be used, the first: {': '.join(others[0])}" if others else ""
        raise DataError(
            f"a probe needs clips of at least two classes: there are {len(usable)} clips of {len(classes)}{why}"
        )
    return usable, others


def split_rows(rows: Sequence[Row], seed: int = 0) -> tuple[list[Row], list[Row], list[Row]]:
    """Training, validation and test rows: by the manifest's splits, else 60/20/20 by a fixed shuffle.

    Raises:
        DataError: there are too few.
    """
    splits = {s: [r for r in rows if r.split == s] for s in ("train", "val", "test")}
    if splits["train"] and splits["test"]:
        if not splits["val"]:
            order = np.random.default_rng(seed).permutation(len(splits["train"]))
            held = max(len(order) // 5, 1)
            splits["val"] = [splits["train"][i] for i in order[:held]]
            splits["train"] = [splits["train"][i] for i in order[held:]]
        return splits["train"], splits["val"], splits["test"]
    order = np.random.default_rng(seed).permutation(len(rows))
    first, second = round(0.6 * len(rows)), round(0.8 * len(rows))
    parts = [[rows[i] for i in part] for part in (order[:first], order[first:second], order[second:])]
    if not all(parts):
        raise DataError(f"{len(rows)} clips are too few to split into training, validation and test")
    return parts[0], parts[1], parts[2]


def probe_model(model: FeatureModel, rows: Sequence[Row]) -> ProbeResult:
    """Probe the features of a model on labelled clips, beside those of the same network untrained.

    Raises:
        DataError: the rows are not enough.
    """
    rows, unusable = usable_rows(rows)
    parts = split_rows(rows)
    names = sorted({row.labels[0] for part in parts for row in part})
    reference: dict[str, float] = {}
    for network in (untrained(model), model):
        found = [file_features(network, part, names) for part in parts]
        train, val, test = (features for features, _ in found)
        if len(set(train.labels)) < 2:
            raise DataError(f"the clips to train on are all of one class: {names[train.labels[0]]}")
        metrics, predicted = probe_features(train, val, test, reference)
        if network is not model:
            reference = {f.name.split(", ")[1]: f.value for f in metrics if f.name.startswith("top-1")}
    confusion = {k: confusion_matrix(test.labels, v, labels=range(len(names))).tolist() for k, v in predicted.items()}
    return ProbeResult(metrics, names, confusion, [*unusable, *(s for _, part in found for s in part)])


def probe_manifests(
    model: str | Path, manifests: Sequence[str | Path], device: str = "cpu", precision: str = "32"
) -> ProbeResult:
    """`probe_model` for a model by name or path, as `avlearn.load` takes it, and manifests or folders as Kinetics'."""
    rows: list[Row] = []
    for manifest in map(Path, manifests):
        plain_folder = manifest.is_dir() and not (manifest / "manifest.parquet").exists()
        rows += scan_folder(manifest) if plain_folder else read_manifest(manifest)
    return probe_model(load_features(model, device, precision), rows)
