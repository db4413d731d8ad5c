"""`classify`: labels over time from video, audio, or both."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from avlearn.apply.embed import embed_file
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.sound_kind import SURE, sound_kind
from avlearn.apply.verdict import CANNOT_TELL, SILENT, not_measured
from avlearn.apply.windows import check_finite, probe_both
from avlearn.errors import MissingExtraError, ModelError
from avlearn.files import printable
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.in_distribution import LABELLED
from avlearn.models.sound_kinds import KINDS


@dataclass(frozen=True)
class ClassifyResult:
    """Labels of a file.

    Attributes:
        path: the file.
        verdict: ``labelled``, or ``this model cannot tell``.
        reason: why it cannot tell; else "".
        in_distribution: whether ``video`` and ``audio`` are like the training data; None where that was never measured.
        labels: for ``video``, ``audio`` and ``both``: the best ``(label, probability)``, best first, averaged over
            windows. By the kind of sound, ``audio`` alone: each kind's share. None where nobody can tell.
        windows: one dict a window: ``start`` (seconds), ``label``, ``probability`` from both, or of the likeliest kind
            of sound; where that is silent, ``label`` is None.
        notice: a line where the file is unlike the training data, or where that is not known; else None.
        expert: who answered: ``model``, or, where that cannot tell, ``sound`` (`avlearn.apply.sound_kind`).
        confidence: that ``sound`` is right of its likeliest kind, named or not, in [0, 1]; None where it was not asked.
        talking_face: confidence in [0, 1] that a face is seen that speaks what is heard, of files that hold speech;
            None where nobody looked.
    """

    path: str
    verdict: str
    reason: str
    in_distribution: dict[str, bool | None]
    labels: dict[str, list[tuple[str, float]]]
    windows: list[dict[str, Any]]
    notice: str | None
    expert: str = "model"
    confidence: float | None = None
    talking_face: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"schema": "avlearn.classify/1", **self.__dict__}

    def text(self) -> str:
        """Human-readable text."""
        name = printable(self.path)
        if self.reason:
            return f"{name}: {self.verdict}: {self.reason}"
        if self.expert == "sound":
            label, _ = self.labels["audio"][0]
            face = (self.talking_face or 0) >= SURE
            seen = f", and a face that speaks it is seen ({self.talking_face:.2f})" if face else ""
            return f"{name}: {label} (confidence {self.confidence:.2f}, by the kind of sound){seen}"
        lines = [name]
        for kind, ranked in self.labels.items():
            lines.append(f"  {kind:6}" + "  ".join(f"{label} {p:.2f}" for label, p in ranked))
        return "\n".join(lines + ([f"note: {self.notice}"] if self.notice else []))


@unchanged
@opened_once
def classify_file(path: Source, model: AudioVisual, *, top: int = 5) -> ClassifyResult:
    """Label a file by the model's linear classifiers, or, where it is unlike their training data, by its kind of sound.

    Raises:
        ModelError: the model has no classifiers.
        MediaError: the file cannot be read, or has no video or no audio.
    """
    if not model.config.labels:
        raise ModelError("this model has no labels: its folder carries no classifier")
    probe_both(path)
    check = InDistributionCheck(model, of=LABELLED)
    starts, video, audio = embed_file(path, model, check)
    inputs = {"video": video, "audio": audio, "both": np.concatenate([video, audio], 1)}
    names = model.config.labels
    labels, probabilities = {}, {}
    for name, values in inputs.items():
        with torch.inference_mode():
            scores = check_finite(model.classifiers[name](torch.from_numpy(values).to(model.device)), "its features")
        probabilities[name] = scores.softmax(1).cpu().numpy()
        mean = probabilities[name].mean(0)
        best = np.argsort(-mean)[:top]
        labels[name] = [(names[i], round(float(mean[i]), 4)) for i in best]
    rows = [
        {
            "start": round(float(start), 3),
            "label": names[int(row.argmax())],
            "probability": round(float(row.max()), 4),
        }
        for start, row in zip(starts, probabilities["both"], strict=True)
    ]
    known, reason = check.result(), check.reason()
    result = ClassifyResult(str(path), "labelled", "", known, labels, rows, not_measured(known, calibrated=True))
    return _by_sound(path, result, reason, model.device, top) if reason else result


def _by_sound(path: Source, result: ClassifyResult, reason: str, device: torch.device, top: int) -> ClassifyResult:
    """What the kind of sound tells of a file of which the model cannot tell for a reason."""
    heard = sound_kind(path, device)
    windows: list[dict[str, Any]] = []
    for start, shares in zip(heard.starts, heard.shares, strict=True):
        told: dict[str, Any] = {"label": None, "probability": None}
        if np.isfinite(shares).all():
            told = {"label": KINDS[int(shares.argmax())], "probability": round(float(shares.max()), 4)}
        windows.append({"start": round(float(start), 3), **told})
    asked = replace(result, labels={}, windows=windows, confidence=heard.confidence, notice=None)
    if heard.kind is None:
        nearest = f"the sound is most like {heard.best}, confidence {heard.confidence:.2f}" if heard.best else SILENT
        return replace(asked, verdict=CANNOT_TELL, reason=f"{reason}; {nearest}", notice=reason)
    face = _talking_face(path, device) if heard.kind == "speech" else None
    return replace(asked, labels={"audio": list(heard.kinds[:top])}, expert="sound", talking_face=face)


def _talking_face(path: Source, device: torch.device) -> float | None:
    """Confidence that a face is seen whose lips fit the audio; None where faces cannot be looked for."""
    from avlearn.apply.sync.speech import speech_sync  # heavy, and seldom asked

    try:
        answer = speech_sync(path, device=device)
    except MissingExtraError:
        return None
    return answer.confidence if answer.offset is not None else 0.0
