"""`classify`: labels over time from video, audio, or both."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avlearn.apply.embed import embed_file
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.verdict import CANNOT_TELL, not_measured
from avlearn.apply.windows import check_finite, probe_both
from avlearn.errors import ModelError
from avlearn.files import printable
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.in_distribution import LABELLED


@dataclass(frozen=True)
class ClassifyResult:
    """Labels of a file.

    Attributes:
        path: the file.
        verdict: ``labelled``, or ``this model cannot tell`` of a file unlike its training data: the labels are then the
            nearest of those that it knows, and no answer.
        reason: why it cannot tell; else "".
        in_distribution: whether ``video`` and ``audio`` are like the training data; None where that was never measured.
        labels: for ``video``, ``audio`` and ``both``: the best ``(label, probability)``, best first,
            averaged over windows.
        windows: one dict a window: ``start`` (seconds), ``label``, ``probability`` from both.
        notice: a line where the file is unlike the training data, or where that is not known; else None.
    """

    path: str
    verdict: str
    reason: str
    in_distribution: dict[str, bool | None]
    labels: dict[str, list[tuple[str, float]]]
    windows: list[dict[str, Any]]
    notice: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"schema": "avlearn.classify/1", **self.__dict__}

    def text(self) -> str:
        """Human-readable text."""
        lines = [printable(self.path)]
        if self.reason:
            said = f"{printable(self.path)}: {self.verdict}: {self.reason}"
            lines = [said, "  the nearest of the labels it knows, no answer:"]
        for name, ranked in self.labels.items():
            lines.append(f"  {name:6}" + "  ".join(f"{label} {p:.2f}" for label, p in ranked))
        return "\n".join(lines + ([f"note: {self.notice}"] if self.notice and not self.reason else []))


@unchanged
@opened_once
def classify_file(path: Source, model: AudioVisual, *, top: int = 5) -> ClassifyResult:
    """Label a file by the model's linear classifiers, or abstain where it is unlike what they were fitted on.

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
    known, reason = check.result(), check.reason() or ""
    verdict = CANNOT_TELL if reason else "labelled"
    return ClassifyResult(
        str(path), verdict, reason, known, labels, rows, reason or not_measured(known, calibrated=True)
    )
