"""Accuracy of a model's classifiers on labelled clips."""

from collections import Counter

import numpy as np
import torch

from avlearn.data.manifest import Row
from avlearn.evaluation.evaluator import CandidateClips, Evaluator, NotMeasurableError
from avlearn.evaluation.recognition import cached_features
from avlearn.evaluation.result import EvaluatorResult
from avlearn.evaluation.selection import solos
from avlearn.metrics import MetricResult


class ClassificationEvaluator(Evaluator):
    """Top-1 accuracy of the classifiers of the model, on clips with one of its labels."""

    task = "classification"

    def choose(self, listed: CandidateClips) -> list[Row]:
        labels = self.subject.model.config.labels
        if not labels:
            raise NotMeasurableError("the model has no classifiers")
        # Of a world, clips that show one thing, which sounds; elsewhere labels are all that is known.
        shown = {*solos(listed.rows), *(row for row in listed.rows if not row.truth)}
        rows = [row for row in listed.rows if row in shown and len(row.labels) == 1 and row.labels[0] in labels]
        if not rows:
            raise NotMeasurableError("no clip has one label, of those that the model knows")
        return rows

    @torch.inference_mode()
    def measure(self, rows: list[Row]) -> EvaluatorResult:
        model = self.subject.model
        names = list(model.config.labels)
        truth = np.array([names.index(row.labels[0]) for row in rows])
        features = cached_features(model, self.subject.decoded(rows), truth)
        most = Counter(truth.tolist()).most_common(1)[0][1] / len(truth)
        metrics = []
        for kind, values in features.kinds().items():
            scores = model.classifiers[kind](torch.from_numpy(values).to(model.device))
            right = float((scores.argmax(1).cpu().numpy() == truth).mean())
            metrics.append(
                MetricResult(
                    self.task, f"top-1, {kind}, own classifier", right, 1 / len(names), most, "most frequent",
                    oracle=1.0, n=len(rows),
                )
            )  # fmt: skip
        return EvaluatorResult(metrics)
