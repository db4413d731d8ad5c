"""A model whose labels are the classifiers of a probe."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from avlearn.apply.embed import embed_file
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.data.manifest import Row
from avlearn.errors import AvlearnError, DataError
from avlearn.evaluation.linear_probe import ProbeProtocol, ProbeResult, probe_model, read_rows
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.calibrated_folder import check_calibrated_folder, write_changed
from avlearn.models.folder import load, write_model
from avlearn.models.in_distribution import LABELLED, InDistribution
from avlearn.models.named import model_folder

_CLIPS = 200  # that tell what is like them: more would take as long as the probe
_TITLE, _ALSO = "\n## Labels\n", "; labels of "


def with_classifiers(model: AudioVisual, names: Sequence[str], fitted: Mapping[str, Pipeline]) -> AudioVisual:
    """The model with linear classifiers for video, audio and both.

    Args:
        model: the towers, and other heads, which stay.
        names: of the classes.
        fitted: a logistic regression on standardised features for each of the three, which knows all classes.
    """
    grown = model.with_heads(labels=tuple(names))
    for kind, classifier in fitted.items():
        weight, bias = linear_layer(classifier)
        grown.classifiers[kind].load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return grown.eval()


def linear_layer(classifier: Pipeline) -> tuple[np.ndarray, np.ndarray]:
    """Weight ``[C, D]`` and bias ``[C]`` on plain features, whose softmax is what a logistic regression says."""
    scaler, regression = classifier.named_steps.values()
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if len(weight) == 1:  # of two classes there is one row: the softmax of both halves is its sigmoid
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def probe_into(
    out: Path,
    model: str | Path,
    manifests: Sequence[str | Path],
    protocol: ProbeProtocol,
    device: str = "cpu",
    precision: str = "32",
    overwrite: bool = False,
) -> ProbeResult:
    """Probe a model of video and audio, and write a copy of it whose labels are the classifiers.

    Args:
        out: the folder of the copy; with ``overwrite`` it may hold a model.
        model, manifests, device, precision: as for `avlearn.evaluation.linear_probe.probe_manifests`.
        protocol: logistic regression on one split.

    Raises:
        DataError: the protocol is another, or a label has no clip with video and audio to learn from.
        ModelError: the model's objective taught it no common space.
        OutputError: the copy cannot be written.
    """
    if protocol != ProbeProtocol():
        raise DataError("labels are logistic regressions on one split: leave out classifier, shots and folds")
    folder = model_folder(model)
    check_calibrated_folder(folder, out, overwrite)
    towers = load(model, device, precision)
    InDistributionCheck(towers)  # without which the labels could not be used
    rows = read_rows(manifests)
    result = probe_model(towers, rows, protocol)
    usable = [row for row in rows if row.labels and not row.reason]
    write_labelled(towers, folder, out, result, usable, ", ".join(Path(name).name for name in manifests))
    return result


def write_labelled(
    model: AudioVisual, folder: Path, out: Path, result: ProbeResult, rows: Sequence[Row], data: str
) -> None:  # fmt: skip
    """Write a copy of a model folder whose labels are the classifiers of a probe.

    What is like their clips is measured, so that `avlearn classify` knows such files. Calibrations of other tasks stay.

    Args:
        model: of the folder.
        folder, out: as for `avlearn.models.calibrated_folder.check_calibrated_folder`.
        result: of a logistic regression on one split.
        rows: the clips.
        data: what they are, in a few words.

    Raises:
        DataError: a label has no clip with video and audio to learn from.
        OutputError: it cannot be written.
    """
    for kind in ("video", "audio", "both"):
        known = result.classifiers[kind].classes_ if kind in result.classifiers else ()
        missing = [name for number, name in enumerate(result.labels) if number not in known]
        if missing:
            raise DataError(f"labels are for video, audio and both: '{missing[0]}' has no clip of {kind} to learn from")
    grown = with_classifiers(model, result.labels, result.classifiers)
    trained_on = f"{model.config.trained_on.partition(_ALSO)[0]}{_ALSO}{data}"[:200]
    grown.config = grown.config.model_copy(update={"trained_on": trained_on})
    grown.in_distribution |= {LABELLED + kind: found for kind, found in label_statistics(model, rows).items()}
    card = folder / "README.md"
    above = card.read_text(encoding="utf-8").partition(_TITLE)[0].rstrip("\n") if card.is_file() else f"# {out.name}"
    section = f"{', '.join(result.labels)}: fitted on {data}, by `avlearn linear-probe`.\n\n```\n{result.text()}\n```\n"
    write_changed(folder, out, lambda place: write_model(grown, place, f"{above}\n{_TITLE}\n{section}"))


def label_statistics(model: AudioVisual, rows: Sequence[Row]) -> dict[str, InDistribution]:
    """In-distribution statistics of ``video`` and ``audio`` of labelled clips, of 200 at most, drawn by lot."""
    described: dict[str, list[torch.Tensor]] = {"video": [], "audio": []}
    clips: list[int] = []
    for k in np.random.default_rng(0).permutation(len(rows))[:_CLIPS]:
        check = InDistributionCheck(model)
        try:
            embed_file(rows[k].source, model, check)
        except AvlearnError:  # the probe has told it
            continue
        if check.statistics["video"] and check.statistics["audio"]:
            clips += [int(k)] * len(check.statistics["video"])
            for kind, windows in check.statistics.items():
                described[kind] += [values.cpu() for values in windows]
    if not clips:
        return {}
    found = {kind: InDistribution.fit(torch.cat(each), torch.tensor(clips)) for kind, each in described.items()}
    return {kind: statistics for kind, statistics in found.items() if statistics is not None}
