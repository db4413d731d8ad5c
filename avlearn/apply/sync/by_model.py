"""`sync`: by how much a file's audio is off its video, and whether that changes."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from avlearn.apply.confidence import probability
from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.sync.drift import Course
from avlearn.apply.sync.offset_estimate import OffsetEstimate, OffsetEvidence, estimate_offset
from avlearn.apply.sync.offsets import PHASES, STILL, OffsetCurves, offset_curves
from avlearn.apply.verdict import ADVICE, CANNOT_TELL, SILENT
from avlearn.files import printable
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual

if TYPE_CHECKING:  # the networks load slowly, and few ask them
    from avlearn.apply.sync.fix import FixResult
    from avlearn.apply.sync.released_answer import ReleasedSyncResult

_SURE = 0.5  # confidence below which no offset is named
_CANNOT = "cannot be synchronized"
_COARSE = 0.16  # seconds a step of the model lasts, from which on small offsets cannot be measured
_FEW = 0.5  # of the model's frames a second: a video with fewer moves in jumps
_FURTHEST = 10.0  # seconds that --max-offset allows


@dataclass(frozen=True)
class SyncResult:
    """The offset between audio and video.

    Offsets are positive when the audio leads (the repair delays it by that much).

    Attributes:
        path: the file.
        status: ``in sync``, ``out of sync``, or ``undecidable``.
        offset: seconds; of the longest segment where there are steps, at the start of the file where it drifts;
            None where the file cannot be synchronized.
        best: seconds, the offset that fits best, also where that is not good enough to be named; None where the audio
            is silent. The confidence is of this one.
        drift: milliseconds a minute by which the offset grows; None where it does not significantly.
        steps: one dict an edit, in order: ``time`` (seconds from the start, good to about a second), ``before``
            and ``after`` (offsets, seconds).
        confidence: probability in [0, 1] that the offset is right within a step of the model.
        calibrated: whether that probability was held to clips with known delays; else it is the share of the
            posterior that lies there, which tends to be too sure.
        verdict: ``in sync (+3 ms, within 40 ms)``, ``audio leads by 120 ms``, ``cannot be synchronized``,
            ``this model cannot tell``, ...
        reason: why it cannot; else "".
        tolerance: seconds that count as in sync.
        offsets: ``[O]`` seconds, the grid of the curve; empty where the audio is silent.
        scores: ``[O]`` mean similarity at each offset, steps and drift taken out (NaN where too little audio overlaps).
        windows: one dict a window: ``start``, ``offset``, ``confidence`` (share of the window's posterior), ``fresh``
            (share of it that moves and was not seen and heard before: only that counts).
        evidence: what the confidence stands on; None where the audio is silent.
        in_distribution: whether ``video`` and ``audio`` are like the training data; None where that was never measured.
        notice: a line where the file is unlike the training data, else None.
        notes: further lines for people, of the file: of quiet audio, of a loop.
        expert: who says so: ``model``, or the expert that was sure where the model was not, as ``speech``.
        experts: what the experts said that were asked.
        others: what released networks say, where they were asked (see `sync_with_released`).
        advice: further lines, of what may help: of another model, or a wider search.
        fixed: what was written, where that was asked for.
        not_fixed: why it was not, where it was asked for; else "".
        system: the released system that answered in place of our model; else "".
        speakers: what it says of each person who is seen, as of
            `avlearn.apply.sync.released_answer.ReleasedSyncResult`.
    """

    path: str
    status: str
    offset: float | None
    best: float | None
    drift: float | None
    steps: list[dict[str, Any]]
    confidence: float
    calibrated: bool
    verdict: str
    reason: str
    tolerance: float
    offsets: np.ndarray
    scores: np.ndarray
    windows: list[dict[str, Any]]
    evidence: OffsetEvidence | None
    in_distribution: dict[str, bool | None]
    notice: str | None
    notes: tuple[str, ...] = ()
    expert: str = "model"
    experts: tuple[ExpertAnswer, ...] = ()
    others: "tuple[ReleasedSyncResult, ...]" = ()
    advice: tuple[str, ...] = ()
    fixed: "FixResult | None" = None
    not_fixed: str = ""
    system: str = ""
    speakers: tuple[dict[str, Any], ...] = ()

    @property
    def details(self) -> list[str]:
        """Lines below the file's row in a table: of other networks, and of the fix."""
        why = self.not_fixed.removeprefix(f"{printable(self.path)} is ")
        notes = self.fixed.notes if self.fixed else ()
        return (
            [line for answer in self.others for line in answer.text().splitlines()]
            + [why] * bool(why)
            + [f"note: {note}" for note in notes]
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.sync/2``: the attributes by name; offsets in seconds.

        ``others`` is there where others were asked, ``fixed`` or ``not_fixed`` where a fix was asked for, ``system``
        where one answered, ``speakers`` where it tells of each person.
        """
        values = asdict(self)
        values["experts"] = [answer.to_dict() for answer in self.experts]
        values["others"] = [answer.to_dict() for answer in self.others]
        for name in ("others", "fixed", "not_fixed", "system", "speakers"):
            if not values[name]:
                del values[name]
        values["offsets"] = [round(float(v), 4) for v in self.offsets]
        values["scores"] = [None if np.isnan(v) else round(float(v), 5) for v in self.scores]
        return {"schema": "avlearn.sync/2", **values}

    def text(self, advice: bool = True) -> str:
        """Human-readable text; of many files, advice is given once for all of them."""
        by = "" if self.expert == "model" else f", by {self.expert}"
        sure = f"confidence {self.confidence:.2f}{'' if self.calibrated else ', not calibrated'}{by}"
        said = f"{printable(self.path)}: {self.verdict} ({self.reason or sure})"
        notes = self.notes + self.advice * advice
        more = [answer.text() for answer in self.others] + ([self.fixed.text()] if self.fixed else [])
        return "\n".join([said, *(f"note: {note}" for note in notes), *more])


@unchanged
@opened_once
def sync_by_model(
    path: Source, model: AudioVisual, *, max_offset: float | None = None, tolerance: float = 0.04
) -> SyncResult:
    """Find the offset between a file's audio and its video, and whether it changes.

    Every window of the video is compared with the audio at all offsets on a grid of a fraction of the
    model's step. The windows' best offsets tell of edits and of a drift; with these taken out, the windows'
    curves are added up and the peak is interpolated.

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`.
        max_offset: seconds searched on each side; by default half of what the video lasts, from 2.24 to 5.
        tolerance: seconds that count as in sync.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    curves = offset_curves(path, model, max_offset)
    if curves is None:
        return _undecidable(path, SILENT, tolerance, model)
    found = estimate_offset(curves, model)
    if found is None:
        reason = f"there is no audio within {curves.offsets[-1]:.1f} s of the video"
        return _undecidable(path, reason, tolerance, model, _further(curves))
    calibration = model.calibrations.sync
    confidence = probability(found.evidence, calibration) if calibration else found.mass
    unlike = curves.in_distribution.reason()
    refusal, reason, advice = _why_not(curves, found, confidence, unlike, model)
    course = found.timeline.course(found.offset, float(curves.starts[-1] + curves.lengths[-1]))
    inside, verdict = describe_course(course, tolerance)
    return SyncResult(
        path=str(path),
        status="undecidable" if reason else "in sync" if inside else "out of sync",
        offset=None if reason else round(course.offset, 4),
        best=round(found.offset, 4),
        drift=None if reason else course.drift,
        steps=[] if reason else list(course.steps),
        confidence=round(confidence, 4),
        calibrated=calibration is not None,
        verdict=refusal or verdict,
        reason=reason,
        tolerance=tolerance,
        offsets=curves.offsets,
        scores=found.scores,
        windows=_windows(curves, found),
        evidence=found.evidence,
        in_distribution=curves.in_distribution.result(),
        notice=unlike,
        notes=curves.notes + _loop(curves),
        advice=coarse_step_note(model) + advice,
    )


def _windows(curves: OffsetCurves, found: OffsetEstimate) -> list[dict[str, Any]]:
    """One dict a window that has audio."""
    return [
        {
            "start": round(float(start), 3),
            "offset": round(peak.offset, 4),
            "confidence": round(peak.mass, 4),
            "fresh": round(float(fresh), 3),
        }
        for start, fresh, peak in zip(curves.starts[found.known], curves.fresh[found.known], found.peaks, strict=True)
    ]


def _why_not(
    curves: OffsetCurves, found: OffsetEstimate, confidence: float, unlike: str | None, model: AudioVisual
) -> tuple[str, str, tuple[str, ...]]:
    """Verdict, reason and advice of a file that cannot be synchronized; all empty where it can."""
    if curves.motion < STILL:
        return _CANNOT, "the video does not move", ()
    if unlike:
        return CANNOT_TELL, "; ".join([unlike, *_jumps(curves, model)]), (ADVICE,)
    if confidence < _SURE:
        reasons = [f"no offset stands out, confidence {confidence:.2f}", *_jumps(curves, model)]
        return _CANNOT, "; ".join(reasons), _further(curves)
    if min(found.index, len(curves.offsets) - 1 - found.index) < PHASES:
        edge = f"the best offset lies at the end of the {curves.offsets[-1]:.1f} s that were searched"
        return _CANNOT, edge, _further(curves)
    return "", "", ()


def _jumps(curves: OffsetCurves, model: AudioVisual) -> list[str]:
    """That the file has few frames."""
    if curves.fps >= _FEW * model.config.fps:
        return []
    return [
        f"the video has {curves.fps:g} frames a second, the model's training {model.config.fps:g}: motion is seen "
        f"in jumps of {1000 / curves.fps:.0f} ms, and a copy with more frames would help"
    ]


def _loop(curves: OffsetCurves) -> tuple[str, ...]:
    """That the file is a loop, whose offset is known but for whole periods."""
    if not curves.period:
        return ()
    again = f"the file comes again every {curves.period:.1f} s"
    return (f"{again}: that is no further evidence, and an offset that differs by as much would look the same",)


def _further(curves: OffsetCurves) -> tuple[str, ...]:
    """A hint for audio that lies further off than was searched."""
    if curves.period or curves.offsets[-1] > _FURTHEST - 0.5:
        return ()
    return (f"--max-offset {_FURTHEST:g} looks further",)


def coarse_step_note(model: AudioVisual) -> tuple[str, ...]:
    """A line where a model's steps are too long to measure small offsets."""
    if model.step <= _COARSE:
        return ()
    return (
        f"a step of this model lasts {model.step * 1000:.0f} ms, too long to measure small offsets: train one with "
        "model.video_options.temporal_stride=1, where the encoder has that, or another encoder",
    )


def _undecidable(
    path: Source, reason: str, tolerance: float, model: AudioVisual, advice: tuple[str, ...] = ()
) -> SyncResult:
    """Of a file that gives no curve."""
    none = np.zeros(0)
    return SyncResult(
        str(path), "undecidable", None, None, None, [], 0.0, model.calibrations.sync is not None,
        _CANNOT, reason, tolerance, none, none, [], None, {"video": None, "audio": None}, None, advice=advice,
    )  # fmt: skip


def milliseconds(offset: float) -> str:
    """An offset in words: ``+40 ms``."""
    return f"{round(offset * 1000):+d} ms"


def describe_offset(offset: float, inside: bool, tolerance: float) -> str:
    """A verdict of a file with one offset, which is inside of a tolerance or is not."""
    if inside:
        return f"in sync ({milliseconds(offset)}, within {tolerance * 1000:.0f} ms)"
    return f"audio {_leads(offset)}"


def _leads(offset: float) -> str:
    if round(offset * 1000) == 0:
        return "is in sync"
    return f"{'leads' if offset > 0 else 'lags'} by {abs(round(offset * 1000))} ms"


def describe_course(course: Course, tolerance: float) -> tuple[bool, str]:
    """Whether a file's offset is within a tolerance (seconds) throughout, and the verdict that says so."""
    if all(abs(value) <= tolerance for value in course.values):
        return True, describe_offset(course.offset, True, tolerance)
    said = f"audio {_leads(course.values[0])}"
    if course.drift:
        said += f" at the start and {_leads(course.values[-1])} at the end, a drift of {course.drift:+.0f} ms a minute"
    return False, said + "".join(f", from {edit['time']:.1f} s on it {_leads(edit['after'])}" for edit in course.steps)
