"""Every readout of a model on held-out clips with known truth, each metric beside its references."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.evaluation.boxes import BoxEvaluator, annotated
from avlearn.evaluation.classification import ClassificationEvaluator
from avlearn.evaluation.duets import DuetEvaluator
from avlearn.evaluation.evaluator import CandidateClips, Evaluator, NotMeasurableError, Subject
from avlearn.evaluation.localization import LocalizationEvaluator
from avlearn.evaluation.multi_source import MultiSourceEvaluator
from avlearn.evaluation.negative_audio import NegativeAudioEvaluator
from avlearn.evaluation.recognition import RecognitionEvaluator
from avlearn.evaluation.result import Evaluation
from avlearn.evaluation.selection import held_out, long_enough, search_room, searchable
from avlearn.evaluation.separation import SeparationEvaluator
from avlearn.evaluation.sync import SyncEvaluator
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.released.localizers import Localizer, ObjectMap
from avlearn.objectives import Objective
from avlearn.plugins import HINT, load_plugins

# In the order of their metrics.
EVALUATORS: list[type[Evaluator]] = [
    SyncEvaluator,
    LocalizationEvaluator,
    NegativeAudioEvaluator,
    MultiSourceEvaluator,
    BoxEvaluator,
    SeparationEvaluator,
    DuetEvaluator,
    RecognitionEvaluator,
    ClassificationEvaluator,
]


def register_evaluator(kind: type[Evaluator]) -> type[Evaluator]:
    """Make an evaluator available to `evaluate`, after those that there are."""
    if kind not in EVALUATORS:
        EVALUATORS.append(kind)
    return kind


def evaluate(
    model: AudioVisual,
    manifests: Sequence[str | Path],
    seed: int = 0,
    *,
    tasks: Sequence[str] = (),
    objective: Objective[Any] | None = None,
    baseline: AudioVisual | None = None,
    released: Sequence[Localizer] = (),
    objects: ObjectMap | None = None,
    evaluators: Sequence[type[Evaluator]] | None = None,
) -> Evaluation:
    """Measure a model.

    Synchronization and retrieval are measured on every clip; localization on clips of a world with one
    sounding and one silent thing, or with two sounding ones, and on clips with boxes; separation and recognition on
    clips with one source alone.

    Args:
        model: from `avlearn.load`, on the device on which it is to be measured.
        manifests: of clips that the model was not trained on; of one with a test split, that is measured.
        seed: of the windows and mixtures.
        tasks: of the evaluators; by default all that model and clips allow.
        objective: of the model's folder, where it has one (`avlearn.tasks.synchronize.objective_folder`).
        baseline: a separator that sees nothing, beside the model's.
        released: localizers to be measured beside the model, on clips with boxes; on its device, in its precision.
        objects: measures all of them there a second time, their maps combined with this one; on the same device.
        evaluators: that there are; by default all that are registered, those of plugins too.

    Raises:
        DataError: no clip is long enough; model and clips do not allow a task that was asked for, or any; or released
            networks are given, and nothing to measure them on.
    """
    if evaluators is None:
        load_plugins()
        evaluators = EVALUATORS
    known = list(dict.fromkeys(evaluator.task for evaluator in evaluators))
    for task in tasks:
        if task not in known:
            raise DataError(f"there is no task '{task}'; there are {', '.join(known)}; {HINT}")
    with tempfile.TemporaryDirectory() as folder:
        objective = objective and objective.to(model.device)
        baseline = baseline and baseline.to(model.device)
        for network in (*released, *([objects] if objects else [])):
            network.to(model.device).precision = model.precision
        subject = Subject(model, Path(folder), seed, objective, baseline, released, objects)
        wanted = [evaluator(subject) for evaluator in evaluators if not tasks or evaluator.task in tasks]
        return _evaluate(wanted, tasks, subject, _list_clips(subject, manifests))


def _list_clips(subject: Subject, manifests: Sequence[str | Path]) -> CandidateClips:
    model, objective = subject.model, subject.objective
    rows = held_out(manifests)
    room = search_room(model, objective)
    boxed = list(dict.fromkeys(item.row for item in annotated(long_enough(rows, model, 0.0))))
    usable = long_enough(rows, model, room) if boxed else searchable(rows, model, objective)
    return CandidateClips(usable, boxed, model.config.seconds + room)


def _evaluate(wanted: list[Evaluator], tasks: Sequence[str], subject: Subject, listed: CandidateClips) -> Evaluation:
    plan, lacking = _choose(wanted, listed)
    if (subject.released or subject.objects) and not any(isinstance(one, BoxEvaluator) for one in plan):
        raise DataError("released localizers, and objects, take clips with boxes and the task 'localization'")
    _require(tasks, plan, lacking)
    taken = {row for one, rows in plan.items() if one.decodes for row in rows}
    rows, skipped = subject.readable([row for row in listed.rows if row in taken])
    if skipped:
        plan, lacking = _choose(wanted, CandidateClips(rows, listed.boxed, listed.needed))
        _require(tasks, plan, lacking)
    measured = [one.measure(chosen) for one, chosen in plan.items()]
    metrics = [metric for found in measured for metric in found.metrics]
    if not metrics:
        reasons = sorted(set(lacking.values())) or ["there are too few clips of each class"]
        raise DataError(f"nothing can be measured: {'; '.join(reasons)}")
    skipped += [clip for one in wanted for clip in one.skipped]
    return Evaluation(
        metrics,
        [found for one in measured for found in one.classes],
        _digest(plan, listed),
        tuple(digest for found in measured for digest in found.mixtures),
        tuple(dict.fromkeys(skipped)),
    )


def _choose(wanted: list[Evaluator], listed: CandidateClips) -> tuple[dict[Evaluator, list[Row]], dict[str, str]]:
    """What can be measured on which clips, and for each task of which nothing can be, why."""
    plan: dict[Evaluator, list[Row]] = {}
    reasons: dict[str, list[str]] = {}
    for one in wanted:
        try:
            plan[one] = one.choose(listed)
        except NotMeasurableError as reason:
            reasons.setdefault(one.task, []).append(str(reason))
    measured = {one.task for one in plan}
    return plan, {task: "; ".join(dict.fromkeys(said)) for task, said in reasons.items() if task not in measured}


def _require(tasks: Sequence[str], plan: dict[Evaluator, list[Row]], lacking: dict[str, str]) -> None:
    """Raise DataError where nothing can be measured, or nothing of a task that was asked for."""
    for task in tasks:
        if task in lacking:
            raise DataError(f"{task} cannot be measured: {lacking[task]}")
    if not plan:
        raise DataError(f"nothing can be measured: {'; '.join(sorted(set(lacking.values())))}")


def _digest(plan: dict[Evaluator, list[Row]], listed: CandidateClips) -> str:
    """SHA-256 of the clips that were measured, in the manifests' order."""
    taken = set()
    for one, rows in plan.items():
        unread = {path for path, _ in one.skipped}
        taken |= {row for row in rows if str(row.source) not in unread}
    measured = dict.fromkeys(row for row in [*listed.rows, *listed.boxed] if row in taken)
    return hashlib.sha256("\n".join(f"{row.name} {row.hash}" for row in measured).encode()).hexdigest()
