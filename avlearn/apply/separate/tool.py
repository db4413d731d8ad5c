"""All that `avlearn separate` does with a file, by whatever model separates: ours, or a released system."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from avlearn.apply.separate.file import separate_file
from avlearn.apply.separate.result import SeparateResult
from avlearn.apply.source_choice import NoSuchFaceError, When
from avlearn.apply.verdict import CANNOT_TELL
from avlearn.errors import MissingExtraError
from avlearn.media.source import Source, opened_once
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.released.systems import SeparateSystem


@opened_once
def separate_tool(
    path: Source, /, model: AudioVisual | SeparateSystem, out_dir: str | Path, **options: Any
) -> SeparateResult:
    """`separate_file`, or `separate_by_system`, which take the same options.

    Where our model cannot tell, and lips are seen that fit the audio, people who talk get their voices instead.
    """
    if isinstance(model, AudioVisual):
        result = separate_file(path, model, out_dir, **options)
        return _with_voices(result, path, model, out_dir, options) if result.verdict == CANNOT_TELL else result
    from avlearn.apply.separate.by_system import separate_by_system
    from avlearn.apply.separate.voices import separate_voices
    from avlearn.models.voices import Voices

    if isinstance(model, Voices):
        return separate_voices(path, model, out_dir, **options)
    return separate_by_system(path, model, out_dir, **options)


def _with_voices(
    result: SeparateResult, path: Source, model: AudioVisual, out_dir: str | Path, options: dict[str, Any]
) -> SeparateResult:
    """The voices of faces in place of tracks of which our model cannot tell whose they are."""
    from avlearn.apply.separate.voices import separate_voices
    from avlearn.apply.sync.speech import speech_sync
    from avlearn.models.voices import open_voices

    if any(isinstance(choice, When | int) for choice in options.get("choices", ())):
        return result
    try:
        answer = speech_sync(path, device=model.device)
    except MissingExtraError as error:
        return replace(result, notes=(*result.notes, str(error)))
    if answer.offset is None:
        return replace(result, reason=f"{result.reason}; speech: {answer.reason}")
    system = open_voices(device=model.device)
    try:
        return separate_voices(path, system, out_dir, answer=answer, **options)
    except NoSuchFaceError as error:  # what is asked for may be a thing
        return replace(result, reason=f"{result.reason}; speech: {error}")
