"""The tracks that `avlearn separate` gives of two things that sound in one video."""

import tempfile

import numpy as np
import soundfile
from scipy.optimize import linear_sum_assignment

from avlearn.apply.separate.file import separate_file
from avlearn.apply.separate.result import SeparateResult
from avlearn.data.manifest import Row
from avlearn.evaluation.evaluator import NO_COMMON_SPACE, CandidateClips, Evaluator, NotMeasurableError
from avlearn.evaluation.multi_source import duet
from avlearn.evaluation.result import EvaluatorResult
from avlearn.evaluation.scene_objects import SceneObject
from avlearn.evaluation.selection import duets
from avlearn.evaluation.separation import NO_SEPARATOR, ideal_mask_tracks
from avlearn.metrics import MetricResult
from avlearn.metrics.separation import separation
from avlearn.models.audiovisual import AudioVisual


class DuetEvaluator(Evaluator):
    """Separation of whole clips of a world with two sounding things, as the command does it."""

    task = "separation"

    def choose(self, listed: CandidateClips) -> list[Row]:
        model = self.subject.model
        if model.separator is None:
            raise NotMeasurableError(NO_SEPARATOR)
        if not self.subject.common_space:
            raise NotMeasurableError(NO_COMMON_SPACE)
        if model.separator.config.conditioning == "none":
            raise NotMeasurableError("a separator that sees nothing cannot tell two things apart")
        rows = [row for row in duets(listed.rows, model) if row.offset is None]  # `separate_file` takes whole files
        if not rows:
            raise NotMeasurableError("no clip shows two sounding things")
        return rows

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        return EvaluatorResult(duet_metrics(self.subject.model, rows))


def duet_metrics(model: AudioVisual, rows: list[Row]) -> list[MetricResult]:
    """SI-SDRi and assignment of whole clips with two sounding things, separated as a user would.

    A track is that of the thing whose box its place is nearer to. Where one source alone was found, what is left is
    the other's track.

    Args:
        model: one with a separator.
        rows: clips of a world, with truth and stems, at the model's sample rate.
    """
    estimates, references = [], []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            sounding, truth = duet(row)
            result = separate_file(row.path, model, folder, sources=2)
            found = _in_order(result, sounding, row)
            samples = min(truth.shape[1], found.shape[1])
            estimates.append(found[:, :samples])
            references.append(truth[:, :samples])
    samples = min(found.shape[1] for found in estimates)
    given, truth = (np.stack([tracks[:, :samples] for tracks in kind]) for kind in (estimates, references))
    return separation(given, truth, ideal_mask_tracks(model, truth)["phase-sensitive"], "two in one video")


def _in_order(result: SeparateResult, sounding: list[SceneObject], row: Row) -> np.ndarray:
    """The tracks of two things, in their order: ``[2, S]``."""
    tracks = [soundfile.read(track.audio, dtype="float32", always_2d=True)[0].mean(1) for track in result.tracks]
    boxes = np.array([thing.box(0.0, row.duration, row.fps) for thing in sounding])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    found = np.array([track.place for track in result.sources], float).reshape(-1, 2)
    far = np.square(centres[:, None] - found[None]).sum(-1)
    order = [len(result.sources)] * len(sounding)  # the residual
    for thing, track in zip(*linear_sum_assignment(far), strict=True):
        order[thing] = int(track)
    return np.stack([tracks[k] for k in order])
