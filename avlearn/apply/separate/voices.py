"""`separate` of people who talk: each face that is seen gets its own voice, by its lips."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.separate.by_system import separate_by_system
from avlearn.apply.separate.result import SeparateResult
from avlearn.apply.separate.shown_faces import ShownFaces
from avlearn.apply.sync.lip_curves import judge_lips, lip_curves
from avlearn.apply.sync.speech import speech_sync
from avlearn.apply.windows import probe_both
from avlearn.media import ClipReader, Window
from avlearn.media.source import Source, opened_once
from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE, VOICES, load_speech_sync
from avlearn.models.voices import Voices, seen_as_cropped

_REACH = 1.0  # seconds on each side within which lips are held against a track
_NEAR = 0.08  # seconds by which a track that fits its lips may be off
_SHORTEST = 20  # crops of a track of a face that is looked at
_LEAST = 1.0  # seconds of audio


@opened_once
def separate_voices(
    path: Source, /, system: Voices, out_dir: str | Path, *, answer: ExpertAnswer | None = None, **options: Any
) -> SeparateResult:
    """`separate_by_system`, with the offset of the file as lips tell it, and each track held against its face's lips.

    Args:
        path: any file with video and audio.
        system: of `avlearn.models.voices.open_voices`.
        out_dir, options: as for `separate_by_system`.
        answer: of `speech_sync`, where it was asked before.

    Raises:
        AvlearnError, ModelError, MediaError, OutputError: as `separate_by_system`.
    """
    answer = answer or speech_sync(path, device=system.device)
    offset = 0.0 if answer.offset is None or answer.best is None else answer.best
    fits = answer.confidence if answer.best is not None and abs(answer.best - offset) <= _NEAR else 0.0
    info = probe_both(path)
    begins = max(info.audio.start - info.start, 0.0)
    judge = partial(_confidences, offset, begins, fits, system.device)
    return separate_by_system(path, system, out_dir, offset=offset, judge=judge, **options)


def _confidences(
    offset: float, begins: float, fits: float, device: torch.device, shown: ShownFaces, wavs: Sequence[Path]
) -> list[float]:
    """Probability that each track fits its face's lips where it should: as `speech_sync` tells offsets.

    A track is made to fit lips. So none is surer than that the lips fit the audio as it was: ``fits``.
    """
    found = [_confidence(shown, k, wav, -offset, begins, device) for k, wav in enumerate(wavs)]
    return [round(min(confidence, fits), 4) for confidence in found]


def _confidence(shown: ShownFaces, number: int, wav: Path, ahead: float, begins: float, device: torch.device) -> float:
    """Of a track in which what is seen in the first frame is heard at ``ahead`` seconds.

    Before ``begins`` the file has no audio: no lips are held against that.
    """
    model, lags = load_speech_sync(device), np.arange(-round(_REACH * VOICES), round(_REACH * VOICES) + 1)
    reader, total = ClipReader(sample_rate=SAMPLE_RATE, mono=True, video=False), None
    for start, mouths in shown.mouths(number):
        begin = max(start + ahead - _REACH, begins)
        length = start + ahead + len(mouths) / MOUTHS + _REACH - begin
        if len(mouths) < _SHORTEST or length < _LEAST:
            continue
        audio = reader.read(wav, [Window(begin, length)])[0].audio
        if audio is None or audio.shape[1] < _LEAST * SAMPLE_RATE:
            continue
        crops = torch.from_numpy(np.stack([seen_as_cropped(mouth) for mouth in mouths])).to(device)
        similarity = model.similarity(crops, torch.from_numpy(audio[0]).to(device)).cpu().numpy()
        curves = lip_curves(similarity, round((start + ahead - begin) * VOICES), lags, seed=number)
        if curves.searched.any():
            total = curves if total is None else total + curves
    if total is None:
        return 0.0
    found, confidence = judge_lips(total, lags)
    return confidence if abs(found) <= _NEAR else 0.0
