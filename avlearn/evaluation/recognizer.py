"""Evaluation of a recognizer on labelled clips, over views, as figures are published."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from avlearn.data.manifest import Row, in_fold, read_manifest, select, value_counts
from avlearn.data.views import Views, parse_views
from avlearn.errors import DataError
from avlearn.evaluation.recognizer_result import RecognitionResult, ScoredClips
from avlearn.evaluation.view_scores import Average, not_of_flow, score_views
from avlearn.files import printable
from avlearn.models.fuse import fuse_recognizer
from avlearn.models.recognizer import Recognizer
from avlearn.names import hint
from avlearn.tasks.recognize.known_flow import known_flow
from avlearn.terminal import remark

TRAIN = "train"


def evaluate_recognizer(
    model: Recognizer,
    manifests: Sequence[str | Path],
    views: Views | None = None,
    *,
    average: Average = "probabilities",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> RecognitionResult:
    """Measure a recognizer on the clips that `rows_to_test` chooses, of the fold that it was trained on.

    Args:
        model: from `avlearn.models.recognizer_folder.load_recognizer`.
        manifests: of labelled clips.
        views: of each clip; by default those of `parse_views`.
        average: what is averaged over views.
        progress: told how many clips are done, and of how many.

    Raises:
        DataError: there are no clips to test on, a label is none that the model knows, or no clip can be read.
    """
    config = model.config
    views = parse_views(str(views) if views else None, bool(config.segments))
    rows = [row for manifest in manifests for row in rows_to_test(manifest, config.fold)]
    require_known(rows, config.labels)
    usable: list[Row] = []
    skipped: list[tuple[str, str]] = []
    for row in rows:
        reason = row.reason_for(video=config.sees, audio=config.hears) or ("" if row.labels else "it has no label")
        if reason:
            skipped.append((str(row.source), reason))
        else:
            usable.append(row)
    scores: dict[str, list[np.ndarray]] = {}
    read: list[Row] = []
    flow = known_flow(model, usable, not_of_flow(views))
    tested = score_views(fuse_recognizer(model), usable, views, average, flow)
    for done, (row, found) in enumerate(zip(usable, tested, strict=True), 1):
        if isinstance(found, str):
            skipped.append((str(row.source), found))
        else:
            read.append(row)
            for kind, values in found.items():
                scores.setdefault(kind, []).append(values)
        progress(done, len(usable))
    if not read:
        first = f"; the first, {printable(skipped[0][0])}: {skipped[0][1]}" if skipped else ""
        raise DataError(f"none of {len(rows)} clips could be tested on{first}")
    clips = ScoredClips(
        read, config.labels, truth_of(read, config.labels), {kind: np.stack(each) for kind, each in scores.items()},
        config.inputs, config.multi_label, average,
    )  # fmt: skip
    items = hashlib.sha256("\n".join(f"{row.name} {row.hash}" for row in read).encode()).hexdigest()
    return RecognitionResult(clips, str(views), items, config.fold, tuple(skipped))


def rows_to_test(manifest: str | Path, fold: int | None = None) -> Sequence[Row]:
    """Clips of the test split, else of the validation split, else of none; never those to train on.

    Args:
        manifest: of clips.
        fold: whose splits they are; by default those of the manifest's column ``split``.

    Raises:
        DataError: there is no such fold, or there are training clips alone.
    """
    rows: Sequence[Row] = read_manifest(manifest)
    if fold is not None:
        folds = min(map(len, value_counts(rows, "folds")), default=0)
        if not 1 <= fold <= folds:
            raise DataError(f"{manifest} has no fold {fold}: it has {folds or 'none'}")
        rows = in_fold(rows, fold)
    for split in ("test", "val", ""):
        found = select(rows, "split", split.__eq__)
        if found and not split:
            remark(f"{manifest} has no splits: all of its clips are tested on, also those that a training took")
        if found:
            return found
    where = f"fold {fold} of {manifest}" if fold is not None else str(manifest)
    raise DataError(f"{where} has no clips to test on: its {len(rows)} clips are all of the split '{TRAIN}'")


def require_known(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Raise DataError where a row has a label that is none of the model's."""
    known = set(names)
    for number, row in enumerate(rows, 1):
        for label in row.labels:
            if label not in known:
                where = f"row {row.number}" if row.number else f"clip {number} to test on"
                raise DataError(
                    f"{where}, {printable(str(row.source))}: the label '{printable(label)}' is none "
                    f"of the model's {len(names)}{hint(label, names)}"
                )


def truth_of(rows: Sequence[Row], names: Sequence[str]) -> np.ndarray:
    """Which of the labels ``names`` each row has: bool ``[N, C]``."""
    places = {name: k for k, name in enumerate(names)}
    truth = np.zeros((len(rows), len(names)), bool)
    for number, row in enumerate(rows):
        truth[number, [places[label] for label in row.labels]] = True
    return truth
