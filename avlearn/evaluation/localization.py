"""Localization in scenes of one thing that sounds and one that moves in silence."""

from collections.abc import Sequence

import numpy as np
import torch

from avlearn.apply.localize.maps import stitched_map, views
from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.evaluation.evaluator import NO_COMMON_SPACE, CandidateClips, Evaluator, NotMeasurableError, Subject
from avlearn.evaluation.result import EvaluatorResult
from avlearn.evaluation.scene_objects import motion_map, scene_objects
from avlearn.evaluation.selection import AROUND, one_of_two
from avlearn.evaluation.untrained import untrained
from avlearn.evaluation.windows import WindowCuts, cut_windows, on_grid
from avlearn.metrics import MetricResult
from avlearn.metrics.ciou import off_centre
from avlearn.metrics.localization import box_mask, control, localization
from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives.fusion import ShiftBCE, cam

_CELLS = 8  # of the motion's map, on a side


class LocalizationEvaluator(Evaluator):
    """Localization on clips of a world that show one sounding and one silent thing, of another or of the same class."""

    task = "localization"

    def choose(self, listed: CandidateClips) -> list[Row]:
        if not (self.subject.common_space or self.subject.fused):
            raise NotMeasurableError(NO_COMMON_SPACE)
        return choose_one_of_two(self.subject, listed)

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        subject, metrics = self.subject, []
        for name, twins in (("other class", False), ("twin", True)):
            chosen = [row for row in rows if ("twins" in row.flags) == twins]
            if chosen:
                cache = subject.decoded(chosen)
                metrics += localization_metrics(subject.model, cache, chosen, name, subject.fused)
        return EvaluatorResult(metrics)


def choose_one_of_two(subject: Subject, listed: CandidateClips) -> list[Row]:
    """Clips that show one sounding and one silent thing.

    Raises:
        NotMeasurableError: there is none.
    """
    rows = one_of_two(listed.rows, subject.model)
    if not rows:
        raise NotMeasurableError("no clip shows one sounding and one silent thing, with their places")
    return rows


def localization_metrics(
    model: AudioVisual, cache: ClipCache, rows: list[Row], name: str, objective: ShiftBCE | None = None
) -> list[MetricResult]:
    """Metrics of localization; of boxes that leave the middle free; their control with shifted audio.

    The last ones are those of the same network before any training, where it has a common space.

    Args:
        model: one with a common space, or of ``objective``.
        cache: decoded clips of a world, each with one sounding and one silent thing.
        rows: of the clips, with truth.
        name: what to add to the metrics'.
        objective: whose class activation is the map (`avlearn.objectives.fusion.cam`).
    """
    cut = on_grid(model, np.full(len(rows), AROUND * model.step), 2 * AROUND * model.step)
    aligned, late, early = shifted_maps(model, cache, cut, (AROUND, 0, 2 * AROUND), objective)
    count, size = round(model.config.seconds * cache.fps), model.config.size
    starts = np.round(cut.video_starts * cache.fps).astype(int)
    motion = np.stack([motion_map(cache.video[i, s : s + count], _CELLS) for i, s in enumerate(starts)])
    boxes, silent = (mean_boxes(rows, cut.video_starts, model.config.seconds, kind) * size for kind in (True, False))
    metrics = localization(aligned, motion, boxes, silent, size, name=name)
    off = off_centre(box_mask(boxes, size))
    if off.any():
        metrics += localization(aligned[off], motion[off], boxes[off], None, size, name=f"{name}, off centre")[:3]
    before: list[MetricResult] = []
    if objective is None:
        (random,) = shifted_maps(untrained(model), cache, cut, (AROUND,))
        before = localization(random, None, boxes, silent, size, name=f"{name}, untrained network")
    shifted = np.concatenate([late, early])
    return [
        *metrics,
        control(shifted, np.tile(boxes, (2, 1)), np.tile(silent, (2, 1)), size, name),
        *(MetricResult(f.task, f.name, f.value, f.chance, oracle=f.oracle, n=f.n) for f in before),
    ]


@torch.inference_mode()
def shifted_maps(
    model: AudioVisual, cache: ClipCache, cut: WindowCuts, firsts: Sequence[int], objective: ShiftBCE | None = None
) -> list[np.ndarray]:
    """Maps of videos with audio from steps ``firsts`` of the audio's windows on: ``[N, Y, X]`` for each."""
    found: list[list[np.ndarray]] = [[] for _ in firsts]
    for frames, audio in cut_windows(model, cache, cut):
        if objective is not None:
            for maps, first in zip(found, firsts, strict=True):
                maps.append(cam(objective, model, frames, audio, first).cpu().numpy())
            continue
        seen, heard = views(model, frames), model.project_audio(model.audio_features(audio))
        for maps, first in zip(found, firsts, strict=True):
            maps.append(stitched_map(seen, heard[:, :, first : first + seen.shape[3]]).cpu().numpy())
    return [np.concatenate(maps) for maps in found]


def mean_boxes(rows: list[Row], starts: np.ndarray, seconds: float, sounding: bool) -> np.ndarray:
    """Boxes over windows of each clip's first thing that sounds, or does not: ``[N, 4]`` as fractions."""
    return np.array(
        [
            next(thing for thing in scene_objects(row) if thing.sounding == sounding).box(start, seconds, row.fps)
            for row, start in zip(rows, starts, strict=True)
        ]
    )
