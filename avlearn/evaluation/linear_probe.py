"""Probes: the accuracy of a simple classifier on frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from avlearn.apply.encoder_alone import FeatureModel, load_embedder
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.scan import scan_folder
from avlearn.errors import DataError
from avlearn.evaluation.attentive import AttentiveFit, TokenStore, file_tokens
from avlearn.evaluation.classifiers import Fit, class_scores, fit_centroids, fit_chosen
from avlearn.evaluation.clip_features import ClipFeatures, Skipped, features_of, file_features, table_features
from avlearn.evaluation.result import list_skipped
from avlearn.evaluation.trials import Trial, fold_trials, shot_trials, split_trial
from avlearn.evaluation.untrained import untrained
from avlearn.metrics import MetricResult, table
from avlearn.metrics.interval import mean_interval
from avlearn.metrics.recognition import recognition
from avlearn.models.audiovisual import AudioVisual
from avlearn.terminal import progress_bars, progress_line, remark

CLASSIFIERS = ("logistic", "svm", "knn", "attentive")
_TOP = "top-1"


@dataclass(frozen=True)
class ProbeProtocol:
    """How features are probed.

    Attributes:
        classifier: ``logistic`` regression, linear ``svm``, ``knn``, or ``attentive`` pooling of tokens.
        shots: clips a class to learn from, by nearest centroids; None for all training clips.
        episodes: draws of so many shots.
        folds: whether all folds of the manifest are gone through.

    Raises:
        DataError: there is no such classifier, or they exclude each other.
    """

    classifier: str = "logistic"
    shots: int | None = None
    episodes: int = 600
    folds: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be asked for."""
        if self.classifier not in CLASSIFIERS:
            known = ", ".join(CLASSIFIERS)
            raise DataError(f"there is no classifier '{self.classifier}': choose one of {known}")
        if self.shots and (self.folds or self.classifier != "logistic"):
            raise DataError(
                "few shots are classified by nearest centroids, on one split: leave out classifier and folds"
            )

    @property
    def name(self) -> str:
        """What is added to the names of the metrics."""
        if self.shots:
            return f", {self.shots} shot{'s' * (self.shots > 1)}"
        return "" if self.classifier == "logistic" else f", {self.classifier}"

    def trials(self, rows: Sequence[Row], labels: np.ndarray) -> list[Trial]:
        """What is learned from and tested on: indices of rows; of those labelled -1, none in shots."""
        if self.shots:
            return shot_trials(rows, labels, self.shots, self.episodes)
        return fold_trials(rows) if self.folds else [split_trial([row.split for row in rows])]

    def fit(self) -> Fit:
        """What fits a classifier on values ``[N, D]``; an attentive one takes tokens."""
        return fit_centroids if self.shots else partial(fit_chosen, self.classifier)


@dataclass(frozen=True)
class ProbeResult:
    """A probe's metrics and its confusion on the test clips.

    Attributes:
        metrics: for video, audio and both, as far as the clips have them.
        labels: class names.
        confusion: for each of the three, counts ``[C][C]``, over all folds or episodes.
        skipped: path and reason of each clip that could not be used.
        folds: top-1 of each fold, for each of the three; empty without folds.
        classifiers: for each of the three, as it was fitted; empty where several were.
    """

    metrics: list[MetricResult]
    labels: list[str]
    confusion: dict[str, list[list[int]]]
    skipped: Skipped
    folds: list[dict[str, float]] = field(default_factory=list)
    classifiers: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "schema": "avlearn.probe_model/1",
            "figures": [f.to_dict() for f in self.metrics],
            "labels": self.labels,
            "confusion": self.confusion,
            "folds": [{kind: round(value, 5) for kind, value in fold.items()} for fold in self.folds],
            "skipped": [f"{path}: {reason}" for path, reason in self.skipped],
        }

    def text(self) -> str:
        """Human-readable text."""
        lines = [
            f"top-1 of each fold, {kind}: " + " ".join(f"{fold[kind]:.3f}" for fold in self.folds if kind in fold)
            for kind in self.confusion
        ]
        return "\n".join([table(self.metrics), *(lines if self.folds else [])]) + list_skipped(self.skipped)


def probe_features(
    train: ClipFeatures, val: ClipFeatures, test: ClipFeatures, reference: dict[str, float], name: str = ""
) -> tuple[list[MetricResult], dict[str, np.ndarray]]:
    """Metrics of a logistic regression for video, audio and both, and its test predictions ``[N]``."""
    ends = np.cumsum([len(part.labels) for part in (train, val, test)])
    first, second, third = (
        np.arange(end - len(part.labels), end) for part, end in zip((train, val, test), ends, strict=True)
    )
    features = ClipFeatures(
        *(np.concatenate([getattr(part, key) for part in (train, val, test)]) for key in ("video", "audio", "labels"))
    )
    trial = Trial(((first, second),), first, third)
    found = probe_trial(features, trial, partial(fit_chosen, "logistic"), reference, name)
    return found.metrics, found.predicted


@dataclass
class TrialResult:
    """What a trial gives for video, audio and both, each on the clips that have it; what too few have is left out.

    Attributes:
        metrics: of all three.
        truth, predicted: labels of the test clips ``[N]``.
        classifiers: that were fitted.
    """

    metrics: list[MetricResult] = field(default_factory=list)
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    predicted: dict[str, np.ndarray] = field(default_factory=dict)
    classifiers: dict[str, Any] = field(default_factory=dict)


def probe_trial(
    features: ClipFeatures, trial: Trial, fit: Fit, reference: dict[str, float], name: str = ""
) -> TrialResult:
    """Fit on the clips of a trial, and test."""
    result = TrialResult()
    for kind, values in features.kinds().items():
        own = trial.among(np.isfinite(values).all(1), features.labels)
        if own is None:
            continue
        labels, truth = features.labels, features.labels[own.test]
        classifier = fit(values, labels, own.choices, own.fitted)
        classes = int(max(labels[own.fitted].max(), truth.max())) + 1
        scores = class_scores(classifier, values[own.test], classes)
        result.metrics += recognition(scores, truth, f"{kind}{name}", reference.get(kind))
        result.truth[kind], result.predicted[kind], result.classifiers[kind] = truth, scores.argmax(1), classifier
    return result


def averaged(trials: Sequence[Sequence[MetricResult]], repeated: bool) -> list[MetricResult]:
    """Each metric, its mean over trials; of ``repeated`` ones, on the same clips, with an interval."""
    if len(trials) == 1:
        return list(trials[0])
    found: dict[str, list[MetricResult]] = {}
    for metrics in trials:
        for metric in metrics:
            found.setdefault(metric.name, []).append(metric)
    results = []
    for each in found.values():
        value, chance, prior = (float(np.mean([getattr(m, key) for m in each])) for key in ("value", "chance", "prior"))
        interval = mean_interval(np.array([m.value for m in each])) if repeated else None
        count = each[0].n if repeated else sum(m.n for m in each)
        results.append(replace(each[0], value=value, chance=chance, prior=prior, n=count, interval=interval))
    return results


def usable_rows(rows: Sequence[Row], video: bool = False, audio: bool = False) -> tuple[list[Row], Skipped]:
    """Labelled clips that can be used, and path and reason of the others.

    Args:
        rows: of manifests.
        video, audio: whether a clip without it cannot be used.

    Raises:
        DataError: those that can be used are not of two classes at least.
    """
    reasons = [row.reason_for(video=video, audio=audio) for row in rows]
    usable = [row for row, reason in zip(rows, reasons, strict=True) if row.labels and not reason]
    others = [
        (str(row.source), reason or "it has no label")
        for row, reason in zip(rows, reasons, strict=True)
        if not row.labels or reason
    ]
    classes = {row.labels[0] for row in usable}
    if len(classes) < 2:
        why = f"; {len(others)} more cannot be used, the first: {': '.join(others[0])}" if others else ""
        raise DataError(
            f"a probe needs clips of at least two classes: there are {len(usable)} clips of {len(classes)}{why}"
        )
    return usable, others


def _needs(model: FeatureModel) -> tuple[bool, bool]:
    """Whether a model gives no features of a clip without video, and without audio; two towers do of either."""
    needed = () if isinstance(model, AudioVisual) else features_of(model)
    return "video" in needed, "audio" in needed


def class_labels(rows: Sequence[Row]) -> tuple[list[str], np.ndarray]:
    """Names of the classes, and the number ``[N]`` of each row's first."""
    names = sorted({row.labels[0] for row in rows})
    return names, np.array([names.index(row.labels[0]) for row in rows])


def probe_model(model: FeatureModel, rows: Sequence[Row], protocol: ProbeProtocol | None = None) -> ProbeResult:
    """Probe the features of a model on labelled clips, beside those of the same network untrained.

    Raises:
        DataError: the rows are not enough.
    """
    protocol = protocol or ProbeProtocol()
    rows, unusable = usable_rows(rows, *_needs(model))
    names, labels = class_labels(rows)
    reference: dict[str, float] = {}
    for network, label in ((untrained(model), "untrained"), (model, "features")):
        store = TokenStore() if protocol.classifier == "attentive" else None
        with progress_line(label) as progress:
            if store:
                features, skipped = file_tokens(network, rows, labels, store, progress)
            else:
                features, skipped = file_features(network, rows, labels, progress)
        with progress_bars() as bar:
            fit = AttentiveFit(store, network.device, partial(bar, "fitting")) if store else protocol.fit()
            result = _probed(features, rows, names, protocol, fit, reference)
        reference = {m.name.split(", ")[1]: m.value for m in result.metrics if m.name.startswith(_TOP)}
    return replace(result, skipped=[*unusable, *skipped])


def _probed(
    features: ClipFeatures,
    rows: Sequence[Row],
    names: list[str],
    protocol: ProbeProtocol,
    fit: Fit,
    reference: dict[str, float],
) -> ProbeResult:
    """What trials of a protocol give, on average."""
    lost = np.isnan(features.video).all(1) & np.isnan(features.audio).all(1)  # of [N, 0], all
    labels = np.where(lost, -1, features.labels)
    trials = protocol.trials(rows, labels)
    for trial in trials:
        learned = set(labels[trial.fitted]) - {-1}
        if len(learned) < 2:
            raise DataError(f"the clips to train on are all of one class: {', '.join(names[k] for k in learned)}")
    found = [probe_trial(features, trial, fit, reference, protocol.name) for trial in trials]
    metrics = averaged([one.metrics for one in found], repeated=protocol.shots is not None)
    if not metrics:
        raise DataError("too few clips have video, or audio, to train on, to choose by and to test on")
    if not reference:  # of two networks, once
        _tell_left_out(features, {kind for one in found for kind in one.predicted})
    confusion: dict[str, np.ndarray] = {}
    for one in found:
        for kind, truth in one.truth.items():
            counts = confusion_matrix(truth, one.predicted[kind], labels=range(len(names)))
            confusion[kind] = confusion.get(kind, 0) + counts
    folds = [{m.name.split(", ")[1]: m.value for m in one.metrics if m.name.startswith(_TOP)} for one in found]
    return ProbeResult(
        metrics, names, {kind: counts.tolist() for kind, counts in confusion.items()}, [],
        folds if protocol.folds else [], found[0].classifiers if len(found) == 1 else {},
    )  # fmt: skip


def _tell_left_out(features: ClipFeatures, probed: set[str]) -> None:
    for kind, values in features.kinds().items():
        if kind not in probed and np.isfinite(values).all(1).any():
            remark(f"too few clips have {kind} to train on, to choose by and to test on: it is not probed")


def probe_table(
    table: str | Path, manifests: Sequence[str | Path], protocol: ProbeProtocol | None = None
) -> ProbeResult:
    """Probe features that `avlearn embed` has written, of the clips of manifests; nothing is decoded.

    Raises:
        DataError: the table cannot be read, or it and the manifests do not list the same clips.
    """
    protocol = protocol or ProbeProtocol()
    if protocol.classifier == "attentive":
        raise DataError(f"{table} holds means over places and time: an attentive probe needs the model and the clips")
    listed = read_rows(manifests)
    rows, unusable = usable_rows(listed)
    names, labels = class_labels(rows)
    features = table_features(Path(table), rows, listed, labels)
    return replace(_probed(features, rows, names, protocol, protocol.fit(), {}), skipped=unusable)


def read_rows(manifests: Sequence[str | Path]) -> list[Row]:
    """Rows of manifests, or of folders laid out as Kinetics'."""
    rows: list[Row] = []
    for manifest in manifests:
        plain_folder = Path(manifest).is_dir() and not (Path(manifest) / "manifest.parquet").exists()
        rows += scan_folder(manifest) if plain_folder else read_manifest(manifest)
    return rows


def probe_manifests(
    model: str | Path,
    manifests: Sequence[str | Path],
    device: str = "cpu",
    precision: str = "32",
    protocol: ProbeProtocol | None = None,
) -> ProbeResult:
    """`probe_model` for a model by name or path, as `avlearn.load` takes it, and manifests or folders as Kinetics'."""
    return probe_model(load_embedder(model, device, precision), read_rows(manifests), protocol)
