"""Where the sound comes from by our model, and where it cannot tell, by experts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from avlearn.apply.localize.expert_maps import ExpertMaps
from avlearn.apply.localize.file_maps import file_maps
from avlearn.apply.localize.localization import Localization
from avlearn.apply.localize.on_screen import on_screen_probability
from avlearn.apply.sync.check import SyncCheck, check_sync
from avlearn.apply.verdict import CANNOT_TELL, NOTHING_ON_SCREEN, SILENT
from avlearn.apply.windows import SILENCE
from avlearn.errors import MissingExtraError
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual

EXPLAINED = 0.5  # probability from which something on screen counts as making the sound
VISIBLE = 0.6  # how strongly a map is drawn at least where the verdict is that nobody can tell
_CHANCE = 3  # windows, of which four see an instant: fewer that count as explained say nothing


def localize_with_experts(
    path: Source, model: AudioVisual, progress: Callable[[str, float], None] | None = None
) -> Localization:
    """`localize_by_model`, and where the model cannot tell, the face that speaks, or what moves with the sound.

    The maps of motion are a guess, and kept: they show more than those of a model that does not know such files.

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`.
        progress: is told what is done, and how many seconds.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    say = progress or (lambda *_: None)
    looked = localize_by_model(path, model, lambda done: say("looking", done))
    if looked.verdict != CANNOT_TELL:
        return looked
    answers = ask_experts(path, lambda done: say("looking at motion", done), looked.delay, model.device)
    return by_experts(looked, answers)


def ask_experts(
    path: Source,
    progress: Callable[[float], None] | None = None,
    delay: float = 0.0,
    device: torch.device | None = None,
) -> list[ExpertMaps]:
    """Speech, and where it is sure nowhere, motion.

    Args:
        path: any file with video and audio.
        progress: is told how many seconds are done.
        delay: seconds by which the audio is moved later against the video.
        device: of the networks.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    from avlearn.apply.localize.motion import motion_localization  # heavy: only where they are asked
    from avlearn.apply.localize.speech import speech_localization

    try:
        speech = speech_localization(path, device)
    except MissingExtraError as error:
        speech = ExpertMaps("speech", None, np.zeros(0), str(error))
    return [speech] if speech.sure.any() else [speech, motion_localization(path, progress, delay)]


def by_experts(looked: Localization, answers: Sequence[ExpertMaps]) -> Localization:
    """A result whose maps are those of the last expert that was asked, and whose verdict, too, where it is sure."""
    last, experts = answers[-1], tuple(answers)
    reasons = "; ".join([looked.reason, *(f"{answer.expert}: {answer.reason}" for answer in answers)])
    if last.found is None:
        drawn = _visible(looked.found.levels, looked.drawn)
        return replace(looked, audible=None, calibrated=False, drawn=drawn, reason=reasons, experts=experts)
    sure = last.sure
    drawn = last.audible if sure.any() else _visible(last.found.levels, last.audible)
    looked = replace(looked, found=last.found, drawn=drawn, maps_by=last.expert, experts=experts)
    if not sure.any():
        return replace(looked, audible=None, calibrated=False, reason=reasons)
    looked = replace(looked, audible=last.audible, calibrated=True)
    whole = sure[last.found.levels >= SILENCE].mean() > 0.9
    return replace(
        looked, verdict="on screen" if whole else "partly on screen", reason="" if whole else last.reason,
        notice=None, expert=last.expert,
    )  # fmt: skip


def _visible(levels: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """``[N]``, how strongly maps are drawn of which nobody is sure: to be seen all the same, but not in silence."""
    drawn: np.ndarray = np.where(levels < SILENCE, 0.0, np.maximum(strength, VISIBLE))
    return drawn


def localize_by_model(path: Source, model: AudioVisual, progress: Callable[[float], None]) -> Localization:
    """Where our model finds the sound.

    Args:
        path, model: as for `localize_with_experts`.
        progress: is told how many seconds are done.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    checked = check_sync(path, model)
    found = file_maps(path, model, progress, checked.delay)
    audible = on_screen_probability(model, found.evidence, found.levels)
    calibrated = model.calibrations.on_screen is not None
    why = checked.undecided_reason(model, calibrated) or ""
    verdict = _verdict(audible, found.levels < SILENCE, checked.fresh_at(found.times), checked, why)
    return Localization(
        found=found,
        audible=audible,
        drawn=audible,
        calibrated=calibrated,
        verdict=verdict,
        reason=SILENT if verdict == "silent" else why if verdict in (CANNOT_TELL, "partly on screen") else "",
        in_distribution=checked.in_distribution,
        delay=checked.delay,
        notes=checked.notes,
        notice=why if checked.unlike else None,
    )


def _verdict(audible: np.ndarray, silent: np.ndarray, fresh: np.ndarray, checked: SyncCheck, why: str) -> str:
    """Of windows ``[N]``, of which repetitions count once, by a model that cannot tell for a reason, or can."""
    if silent.all():
        return "silent"
    if checked.unlike:
        return CANNOT_TELL
    explained = audible[~silent] >= EXPLAINED
    share = explained.mean()
    if share < 0.5 and (explained * fresh[~silent]).sum() < _CHANCE:
        return CANNOT_TELL if why else NOTHING_ON_SCREEN
    return "on screen" if share > 0.9 else "partly on screen"
