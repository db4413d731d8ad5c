"""Selection of a manifest's clips for evaluators, by their length and by what they show."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avlearn.data.manifest import Row, read_manifest
from avlearn.errors import DataError
from avlearn.evaluation.windows import OFFSETS
from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives import Objective

AROUND = 12  # steps of audio that a clip has on each side of the video, for the control of localization


def held_out(manifests: Sequence[str | Path]) -> list[Row]:
    """All clips; of a manifest with a test split, that alone."""
    rows: list[Row] = []
    for manifest in manifests:
        found = read_manifest(manifest)
        tests = [row for row in found if row.split == "test"]
        rows += tests or found
    return rows


def search_room(model: AudioVisual, objective: Objective[Any] | None) -> float:
    """Seconds of audio that the search for an offset takes beyond the video's."""
    room = (OFFSETS - 1) * model.step
    if objective is not None:
        room = max(room, (objective.spec.offsets - 1) * objective.spec.step)
    return room + 1 / model.config.fps


def long_enough(rows: Sequence[Row], model: AudioVisual, room: float) -> list[Row]:
    """Those that can be used, and hold a window of the model and ``room`` more seconds of audio."""
    return [row for row in rows if not row.reason and row.duration >= model.config.seconds + room - 1e-3]


def searchable(rows: Sequence[Row], model: AudioVisual, objective: Objective[Any] | None) -> list[Row]:
    """Clips that last as long as the search for an offset needs.

    Raises:
        DataError: there is none.
    """
    room = search_room(model, objective)
    found = long_enough(rows, model, room)
    if not found:
        raise DataError(f"no clip lasts the {model.config.seconds + room:.2f} s that the evaluation needs")
    return found


def solos(rows: Sequence[Row]) -> list[Row]:
    """Clips of a world that show one thing, which sounds."""
    return [row for row in _plain(rows) if "sources:1" in row.flags and "offscreen" not in row.flags]


def one_of_two(rows: Sequence[Row], model: AudioVisual) -> list[Row]:
    """Clips of a world that show one sounding and one silent thing, long enough for the control."""
    found = [
        row
        for row in rows
        if row.truth and "sources:1" in row.flags and "muted" in row.flags and "offscreen" not in row.flags
    ]
    return long_enough(found, model, 2 * AROUND * model.step + 1 / model.config.fps)


def duets(rows: Sequence[Row], model: AudioVisual) -> list[Row]:
    """Clips of a world that show two sounding things, at the model's sample rate."""
    return [
        row
        for row in long_enough(_plain(rows), model, 0.0)
        if row.truth
        and "sources:2" in row.flags
        and "offscreen" not in row.flags
        and row.sample_rate == model.config.sample_rate
    ]


def _plain(rows: Sequence[Row]) -> list[Row]:
    """All but those that are made hard for localization."""
    return [row for row in rows if not {"muted", "twins"} & set(row.flags)]
