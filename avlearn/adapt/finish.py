"""The end of an adaptation: how scores are read, whether it is better, and the folder that says so."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import binomtest

from avlearn.adapt.folds import FOLDS
from avlearn.adapt.footage import Stretch
from avlearn.adapt.judge import Judged, Reading, Skill, fitted, read, said, skill
from avlearn.adapt.report import AdaptResult, HeldOut, HeldOutCounts, write_page
from avlearn.errors import DataError
from avlearn.files import unfinished, write_text
from avlearn.models.calibration import save_calibrations
from avlearn.models.folder import load, save

_FURTHEST = 2.0  # seconds that `clip_evidence` moves the audio, or half of what a stretch lasts
_CHANCE = 0.05  # probability at most that as many are gained beside the lost ones by chance (exact sign test)
_FEW_STEPS = 100  # of a training, which are told
_FEWEST = 10  # stretches that move and sound: of fewer nothing is told


def finish(
    out: Path, base: str, folder: str, parts: Sequence[Stretch], folds: Sequence[int], judged: dict[int, Judged], *,
    by_file: bool, unused: list[tuple[str, str]], notes: Sequence[str], steps: dict[str, int], minutes: float,
) -> AdaptResult:  # fmt: skip
    """Write the judges of both folds, the model and the reports.

    Args:
        out: the adaptation's folder; ``runs`` has the trainings.
        base, folder: the model that it began with, as it was named, and where it lies.
        parts, folds: all stretches.
        judged: by number, those that were judged.
        by_file: whether folds are of whole files.
        unused: path and reason of files that were not used.
        notes: lines about the footage.
        steps: of the trainings.
        minutes: that the adaptation took.

    Raises:
        DataError: too little could be judged.
    """
    fold_of = [folds[k] for k in judged]
    readings = {k: _reading(judged, folds, k) for k in range(FOLDS)}
    held_out = _held_out(parts, folds, judged, readings)
    if len(held_out) < _FEWEST:
        raise DataError(
            f"{len(held_out)} stretches move, sound, and are no loop: too few to tell whether an adaptation is better"
        )
    skills = {
        "before": skill([found.before.offsets for found in judged.values()], fold_of),
        "after": skill([found.after.offsets for found in judged.values()], fold_of),
    }
    better, why = _verdict(base, held_out, skills["after"])
    halves = [] if by_file else ["folds: the halves of each file, so figures are of other parts of the same files"]
    least = min(steps.values())
    short = [f"by the clock: only {least} steps of a training; more --minutes, more steps"] * (least < _FEW_STEPS)
    all_notes = [*notes, *short, *halves, *_not_kept(folder, base, better)]
    files = {part.file: fold if by_file else None for part, fold in zip(parts, folds, strict=True)}
    result = AdaptResult(
        out, base, better, why, files, unused, all_notes, steps, held_out, skills, minutes
    )  # fmt: skip
    for k, reading in readings.items():
        _write_model(out / "runs" / str(k), out / "folds" / str(k), reading, f"# Judge of fold {k}\n\n{why}\n")
    _write_result(out, folder, result, read(list(judged.values())))
    return result


def _reading(judged: dict[int, Judged], folds: Sequence[int], fold: int) -> Reading:
    """How the judge of a fold is read: by what other towers made of what it has learned from."""
    return read([found for k, found in judged.items() if folds[k] != fold])


def _held_out(
    parts: Sequence[Stretch], folds: Sequence[int], judged: dict[int, Judged], readings: dict[int, Reading]
) -> list[HeldOut]:
    """Stretches that move and sound, with what both models make of them."""
    calibrated = {
        fold: fitted([claim for k, found in judged.items() if folds[k] != fold for claim in found.before.offsets])
        for fold in readings
    }
    told = []
    for k, found in judged.items():
        part, fold = parts[k], folds[k]
        reading = readings[fold]
        known = all(found.distances[kind] <= reading.widened[kind] for kind in found.distances)
        before = said(found.before.offsets, calibrated[fold], True)
        after = said(found.after.offsets, reading.calibrations.sync, known)
        delay = next((c.delay for c in found.after.offsets if c.whole and c.delay is not None), None)
        if before is None or after is None or delay is None:
            continue
        furthest = min(_FURTHEST, (part.end - part.start) / 2)
        told.append(HeldOut(part.file, part.start, fold, delay, furthest, before, after))
    return told


def _verdict(base: str, held_out: Sequence[HeldOut], after: Skill | None) -> tuple[bool, str]:
    """Whether the adapted towers are better, and why."""
    old = HeldOutCounts.of([stretch.before for stretch in held_out])
    new = HeldOutCounts.of([stretch.after for stretch in held_out])
    n = len(held_out)
    counted = f"best offset right in {new.right} of {n} stretches that its towers had not seen, before in {old.right}"
    if after is None or not after.tells:
        return False, f"no better: nothing tells right offsets from wrong ones after it ({counted}): model is {base}"
    gained = sum(stretch.after.right and not stretch.before.right for stretch in held_out)
    lost = sum(stretch.before.right and not stretch.after.right for stretch in held_out)
    if not gained or binomtest(gained, gained + lost, alternative="greater").pvalue > _CHANCE:
        return False, f"no better than by chance: {counted} ({gained} gained, {lost} lost): model is {base}"
    if new.named_right <= new.named - new.named_right + new.deceived:
        wrong = new.named - new.named_right + new.deceived
        return False, f"no better: {counted}; {new.named_right} answers right, {wrong} wrong: model is {base}"
    return True, f"better: {counted}; it answers {new.named} of them, {new.named_right} rightly"


def _not_kept(folder: str, base: str, better: bool) -> list[str]:
    """That heads which were fitted on the towers of before are left out."""
    config = load(folder).config
    heads = [name for name, there in (("separator", config.separator), ("classifiers", config.labels)) if there]
    if not better or not heads:
        return []
    return [
        f"not kept: the {' and the '.join(heads)} of {base}, which know the towers of before; {base} has them, and "
        "avlearn pretrain separate_world separator.base=MODEL teaches a separator"
    ]


def _write_model(run: Path, target: Path, reading: Reading, card: str) -> None:
    """A trained model with how it is read; it appears whole."""
    model = reading.apply(load(run))
    part = unfinished(target)
    shutil.rmtree(part, ignore_errors=True)
    save(model, part, card)
    save_calibrations(model.calibrations, part)
    _replace(part, target)


def _replace(part: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)


def _write_result(out: Path, folder: str, result: AdaptResult, reading: Reading) -> None:
    """The model, the page, and last the figures: with these the adaptation is finished."""
    target = out / "model"
    if result.better:
        card = (out / "runs" / "all" / "model" / "README.md").read_text(encoding="utf-8")
        lines = "\n".join(result.lines())
        _write_model(out / "runs" / "all", target, reading, f"{card}\n## Adapted\n\n```\n{lines}\n```\n")
    else:
        part = unfinished(target)
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part)
        _replace(part, target)
    curves = {
        name: [json.loads(row) for row in (out / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        for name in result.steps
    }
    write_page(result, out / "report.html", curves)
    write_text(out / "report.json", json.dumps(result.to_dict(), indent=1) + "\n")
