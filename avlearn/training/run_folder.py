"""The folder of a run: who may work in it, where a run goes on from, and what must be as it was."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from avlearn.errors import OutputError, RecipeError
from avlearn.files import sweep, write_text
from avlearn.recipe import Recipe
from avlearn.tasks import read_recipe
from avlearn.training.checkpoints import BEFORE, BEST, LAST, METRICS_STATE, last_good, read_checkpoint

# What a resumed run may have otherwise than it began.
FREE = ("trainer.devices", "trainer.nodes", "trainer.threads", "trainer.on_divergence")
METRICS, RECIPE = "metrics.jsonl", "recipe.yaml"


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        begun: the recipe that the run began with.
        checkpoint: what it goes on from; None for the beginning.
        step: of that checkpoint.
    """

    begun: Recipe
    checkpoint: Path | None
    step: int = 0


def check_free(run_dir: Path, resume: bool) -> None:
    """Raise OutputError where a run in the folder would be lost, or there is none to go on with."""
    finished = (run_dir / "model").exists()
    if not resume and (finished or can_resume(run_dir)):
        what = "a finished run" if finished else "a run already"
        raise OutputError(f"{run_dir} holds {what}: --resume goes on with it, --run-dir makes another")
    if resume and (not run_dir.is_dir() or (finished and not can_resume(run_dir))):
        raise OutputError(f"{run_dir} has no checkpoint to resume from")


def can_resume(run_dir: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return any((run_dir / "checkpoints" / name).exists() for name in (LAST, BEFORE))


def enter(run_dir: Path, recipe: Recipe, resume: bool, first: bool) -> Start:
    """Begin a run in the folder, or find where to go on; a run that left no checkpoint begins anew.

    Args:
        run_dir: is there.
        recipe: what is to be trained.
        resume: go on with what is there.
        first: of all processes, the one that writes.

    Raises:
        OutputError: the folder cannot be written, or all its checkpoints are damaged.
        RecipeError: the run began with another recipe.
    """
    found = last_good(run_dir / "checkpoints", say=first) if resume else None
    if found is None:
        if first:
            _begin(run_dir, recipe, resume)
        return Start(recipe, None)
    path, state = found
    begun = begun_recipe(run_dir)
    _compare(run_dir / RECIPE, begun, recipe, first)
    if first:
        _restore(run_dir, state)
        last = run_dir / "checkpoints" / LAST
        if path != last and not last.is_dir():
            last.unlink(missing_ok=True)  # damaged: the next one must not push the whole one out
    return Start(begun, path, state["global_step"])


def _begin(run_dir: Path, recipe: Recipe, resume: bool) -> None:
    if resume:
        print(f"{run_dir} has no checkpoint yet: starting from the beginning", file=sys.stderr)
    if (run_dir / RECIPE).exists():  # what a run left that was killed early
        for path in (run_dir / METRICS, run_dir / "checkpoints" / BEST, *run_dir.glob("events.out.tfevents.*")):
            path.unlink(missing_ok=True)
    sweep(run_dir)
    write_text(run_dir / RECIPE, recipe.to_yaml())


def _restore(run_dir: Path, state: dict[str, Any]) -> None:
    """Bring the folder to where the checkpoint is."""
    sweep(run_dir)
    metrics, rows = run_dir / METRICS, state["callbacks"][METRICS_STATE]["rows"]
    if metrics.exists() and not metrics.is_file():
        raise OutputError(f"{metrics} is no file: the folder is not that of a run")
    there = metrics.read_bytes() if metrics.exists() else b""
    if not there.startswith(rows.encode()):
        print(f"warning: {metrics} is damaged: its rows are taken from the checkpoint", file=sys.stderr)
    write_text(metrics, rows)  # later ones will come again
    best = run_dir / "checkpoints" / BEST
    if best.exists():
        try:
            read_checkpoint(best)
        except OutputError as error:
            print(f"warning: {error}; the best of the steps from {state['global_step']} on is kept", file=sys.stderr)
            best.unlink()


def forget_later_best(run_dir: Path, step: int) -> None:
    """Remove the best checkpoint where it comes from steps that will be made in another way."""
    best = run_dir / "checkpoints" / BEST
    with suppress(OutputError):
        if best.exists() and read_checkpoint(best)["global_step"] > step:
            best.unlink()


def begun_recipe(run_dir: Path) -> Recipe:
    """The recipe that the run in a folder began with."""
    written = run_dir / RECIPE
    try:
        return read_recipe(yaml.safe_load(written.read_text()))
    except (OSError, TypeError, ValueError, yaml.YAMLError, ValidationError, RecipeError) as error:
        raise OutputError(f"{written} is not the recipe of a run: {str(error).splitlines()[0]}") from error


def _compare(written: Path, begun: Recipe, recipe: Recipe, first: bool) -> None:
    """Raise RecipeError where a key has changed that has to stay; say what changes."""
    before, now = _flat(begun.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    differing = [key for key in before | now if before.get(key) != now.get(key)]
    for key in differing:
        if key not in FREE:
            raise RecipeError(f"{written} has {key} {before.get(key)}, the recipe {now.get(key)}: resume with the same")
    differing = [key for key in differing if key != "trainer.on_divergence"]
    if differing and first:
        changes = ", ".join(f"{key} {before[key]} -> {now[key]}" for key in differing)
        batches = [r.trainer.batch_size * r.trainer.processes for r in (begun, recipe)]
        what = f"batches of {batches[1]} clips, not {batches[0]}, other negatives, another order of clips"
        what = what if batches[0] != batches[1] else "sums in another order"
        print(f"warning: resumed with {changes}: {what}; no longer equal to the bit", file=sys.stderr)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Values by the full paths of their keys."""
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
