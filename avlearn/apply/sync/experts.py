"""Experts that `sync` asks where the model cannot tell or is not sure, and what becomes of their answers."""

from dataclasses import replace

from avlearn.apply.expert_answer import SURE, ExpertAnswer
from avlearn.apply.sync.by_model import SyncResult, describe_course, sync_by_model
from avlearn.apply.sync.drift import Course
from avlearn.apply.verdict import SILENT
from avlearn.errors import MissingExtraError
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual


@unchanged
@opened_once
def sync_with_experts(
    path: Source, model: AudioVisual, *, max_offset: float | None = None, tolerance: float = 0.04
) -> SyncResult:
    """`sync_by_model`, and where the model cannot tell or is less sure than they have to be, the first sure expert.

    Args:
        path, model, max_offset, tolerance: as for `sync_by_model`.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    result = sync_by_model(path, model, max_offset=max_offset, tolerance=tolerance)
    answered = result.status != "undecidable"
    if result.reason == SILENT or (answered and result.confidence >= SURE):
        return result
    from avlearn.apply.sync.self_calibrated import self_calibrated_sync  # heavy: only where they are asked
    from avlearn.apply.sync.speech import speech_sync

    answers: list[ExpertAnswer] = []
    for judge in (speech_sync, self_calibrated_sync):
        try:
            answers.append(judge(path, max_offset, model.device))
        except MissingExtraError as error:
            result = replace(result, advice=(*result.advice, str(error)))
            continue
        if answers[-1].offset is not None:
            return replace(_by_expert(result, answers[-1]), experts=tuple(answers))
    if answered:
        return replace(result, experts=tuple(answers))
    reasons = [result.reason, *(f"{answer.expert}: {answer.reason}" for answer in answers)]
    return replace(result, experts=tuple(answers), reason="; ".join(reasons))


def _by_expert(result: SyncResult, answer: ExpertAnswer) -> SyncResult:
    """A result that an expert stands for. Windows and evidence are the model's still."""
    assert answer.offset is not None
    course = answer.course or Course(answer.offset, (answer.offset,))
    inside, verdict = describe_course(course, result.tolerance)
    return replace(
        result,
        status="in sync" if inside else "out of sync",
        offset=round(answer.offset, 4),
        best=answer.best,
        drift=course.drift,
        steps=list(course.steps),
        confidence=answer.confidence,
        calibrated=True,
        verdict=verdict,
        reason="",
        offsets=answer.offsets,
        scores=answer.scores,
        notice=None,
        advice=(),
        expert=answer.expert,
    )
