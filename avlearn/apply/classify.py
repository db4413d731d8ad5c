"""`classify`: labels over time from video, audio, or both."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avlearn.apply.embed import embed_file
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.label_overlay import check_overlay, label_stretches, write_label_overlay
from avlearn.apply.preview import Cost, preview_file, recognize_at, window_cost
from avlearn.apply.recognize import RecognizedWindow, recognize_windows
from avlearn.apply.rows import Rows
from avlearn.apply.sound_kind import SURE, WINDOW, sound_kind
from avlearn.apply.verdict import CANNOT_TELL, SILENT, not_measured
from avlearn.apply.windows import check_finite, probe_both
from avlearn.errors import MissingExtraError, ModelError
from avlearn.files import printable
from avlearn.media.probe import probe
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.models.fuse import fuse_recognizer
from avlearn.models.in_distribution import LABELLED
from avlearn.models.preview import load_preview
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import load_recognizer, recognizer_folder
from avlearn.models.sound_kinds import KINDS

Progress = Callable[[str, float, float], None]


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
            of sound; where that is silent, ``label`` is None. Of a model also ``in_distribution``: whether this window
            by itself is like the training data; None where that was never measured.
        notice: a line where the file is unlike the training data, or where that is not known; else None.
        expert: who answered: ``model``, or, where that cannot tell, ``sound`` (`avlearn.apply.sound_kind`).
        confidence: that ``sound`` is right of its likeliest kind, named or not, in [0, 1]; None where it was not asked.
        talking_face: confidence in [0, 1] that a face is seen that speaks what is heard, of files that hold speech;
            None where nobody looked.
        window_seconds: that a window lasts.
        video: the overlay, where one was written.
        cost: of a file of which a few windows were looked at; else None.
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
    window_seconds: float = 0.0
    video: str | None = None
    cost: Cost | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        cost = None if self.cost is None else asdict(self.cost)
        return {"schema": "avlearn.classify/1", **self.__dict__, "cost": cost}

    def text(self) -> str:
        """Human-readable text."""
        written = [f"wrote {printable(self.video)}"] if self.video else []
        return "\n".join([*self._said(), *written])

    def _said(self) -> list[str]:
        name = printable(self.path)
        if self.reason:
            return [f"{name}: {self.verdict}: {self.reason}"]
        if self.expert == "sound":
            label, _ = self.labels["audio"][0]
            face = (self.talking_face or 0) >= SURE
            seen = f", and a face that speaks it is seen ({self.talking_face:.2f})" if face else ""
            return [f"{name}: {label} (confidence {self.confidence:.2f}, by the kind of sound){seen}"]
        lines = [name]
        for kind, ranked in self.labels.items():
            lines.append(f"  {kind:6}" + "  ".join(f"{label} {p:.2f}" for label, p in ranked))
        lines += [f"  {self.cost.text()}"] if self.cost else []
        return lines + ([f"note: {self.notice}"] if self.notice else [])


def load_classifier(name_or_path: str, device: str = "cpu", precision: str = "32") -> AudioVisual | Recognizer:
    """A recognizer, or a model, as `avlearn.load` finds it."""
    if recognizer_folder(name_or_path) is not None:
        return fuse_recognizer(load_recognizer(name_or_path, device, precision))
    return load(name_or_path, device, precision)


@unchanged
@opened_once
def classify_file(
    path: Source,
    model: AudioVisual | Recognizer,
    *,
    top: int = 5,
    budget: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> ClassifyResult:
    """Label a file by a recognizer, or by a model's linear classifiers.

    Of a file that is unlike the training data of the classifiers, the kind of sound is told instead.

    Args:
        path: any file with what the model takes.
        model: from `load_classifier`.
        top: labels that are listed.
        budget: windows that a recognizer looks at, those that its preview picks; by default all, and of a file that
            has no more. Not with ``out``.
        out: a video to write, one of `avlearn.media.writer.VIDEO_SUFFIXES`: the file with its labels over time as a
            strip under the frames. Grey is where nobody can tell.
        progress: is told what is done, and how many seconds of how many.

    Raises:
        ModelError: the model has no classifiers, or no preview where there is a budget.
        MediaError: the file cannot be read, or has no video or no audio.
        OutputError: the overlay cannot be written.
    """
    say = progress or (lambda *_: None)
    if out is not None:
        check_overlay(path, Path(out), overwrite=True)
    if isinstance(model, Recognizer):
        result = _recognized(path, model, top, budget, say)
    elif budget is None:
        result = _labelled(path, model, top, say)
    else:
        raise ModelError("a budget of windows is for recognizers, of avlearn finetune")
    if out is None:
        return result
    told = result.verdict != CANNOT_TELL
    stretches = label_stretches(result.windows, result.window_seconds, told)
    write_label_overlay(path, stretches, Path(out), lambda done, of: say("drawing", done, of))
    return replace(result, video=str(out))


def _labelled(path: Source, model: AudioVisual, top: int, say: Progress) -> ClassifyResult:
    """What a model's classifiers tell; of a file unlike their training data, the kind of sound."""
    if not model.config.labels:
        raise ModelError("this model has no labels: its folder carries no classifier")
    seconds = probe_both(path).duration
    check = InDistributionCheck(model, of=LABELLED)
    say("looking", 0, seconds)
    starts, video, audio = embed_file(path, model, check)
    say("looking", seconds, seconds)
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
            "in_distribution": inside,
        }
        for start, row, inside in zip(starts, probabilities["both"], check.windows(), strict=True)
    ]
    known, reason = check.result(), check.reason()
    notice = not_measured(known, calibrated=True)
    result = ClassifyResult(
        str(path), "labelled", "", known, labels, rows, notice, window_seconds=model.config.seconds
    )  # fmt: skip
    return _by_sound(path, result, reason, model.device, top) if reason else result


def _windows(path: Source, model: Recognizer, budget: int | None) -> tuple[Iterator[RecognizedWindow], Cost | None]:
    """Windows of a file, recognized: all, or those that a preview picks, and what these cost."""
    if budget is None or budget * model.config.seconds >= probe(path).duration:  # a preview would cost more
        return recognize_windows(path, model), None
    preview = load_preview(model)
    previewed = preview_file(path, model, preview)
    picked = previewed.starts[preview.pick(previewed.sides, budget)]
    return recognize_at(path, model, picked), window_cost(model, preview).of(len(previewed.starts), budget)


def _recognized(path: Source, model: Recognizer, top: int, budget: int | None, say: Progress) -> ClassifyResult:
    """What a recognizer tells of windows, one after the other, and on average; nothing of a file unlike its clips."""
    check, config, seconds = InDistributionCheck(model), model.config, probe(path).duration
    rows: list[dict[str, Any]] = []
    found = Rows()
    windows, cost = _windows(path, model, budget)
    for window in windows:
        if "video" in model.encoders:
            check.add_video(window.features["video"].float(), window.frames)
        if "audio" in model.encoders:
            check.add_audio(window.features["audio"].float())
        values = window.probabilities.cpu().numpy()
        found.append(values)
        best = int(values.argmax())
        told = {"label": config.labels[best], "probability": round(float(values[best]), 4)}
        rows.append({"start": round(window.start, 3), **told, "in_distribution": None})
        say("looking", min(window.start + config.seconds, seconds), seconds)
    for row, inside in zip(rows, check.windows(), strict=False):  # of a fusion network nothing is measured
        row["in_distribution"] = inside
    mean = found.array().mean(0)
    ranked = [(config.labels[i], round(float(mean[i]), 4)) for i in np.argsort(-mean)[:top]]
    taken = model.encoders or ("video", "audio")
    known, reason = {kind: held for kind, held in check.result().items() if kind in taken}, check.reason()
    if reason:
        return ClassifyResult(str(path), CANNOT_TELL, reason, known, {}, [], reason)
    notice = not_measured(known, calibrated=True)
    return ClassifyResult(
        str(path), "labelled", "", known, {config.inputs: ranked}, rows, notice, window_seconds=config.seconds,
        cost=cost,
    )  # fmt: skip


def _by_sound(path: Source, result: ClassifyResult, reason: str, device: torch.device, top: int) -> ClassifyResult:
    """What the kind of sound tells of a file of which the model cannot tell for a reason."""
    heard = sound_kind(path, device)
    windows: list[dict[str, Any]] = []
    for start, shares in zip(heard.starts, heard.shares, strict=True):
        told: dict[str, Any] = {"label": None, "probability": None}
        if np.isfinite(shares).all():
            told = {"label": KINDS[int(shares.argmax())], "probability": round(float(shares.max()), 4)}
        windows.append({"start": round(float(start), 3), **told})
    asked = replace(
        result, labels={}, windows=windows, confidence=heard.confidence, notice=None, window_seconds=WINDOW
    )  # fmt: skip
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
