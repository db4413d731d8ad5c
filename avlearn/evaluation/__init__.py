"""Evaluation on held-out clips: evaluators by task, each metric beside its references."""

from avlearn.evaluation.evaluator import CandidateClips, Evaluator, NotMeasurableError, Subject
from avlearn.evaluation.recognition import cached_features
from avlearn.evaluation.result import ClassMetrics, Evaluation, EvaluatorResult
from avlearn.evaluation.run import EVALUATORS, evaluate, register_evaluator

__all__ = [
    "EVALUATORS",
    "CandidateClips",
    "ClassMetrics",
    "Evaluation",
    "Evaluator",
    "EvaluatorResult",
    "NotMeasurableError",
    "Subject",
    "cached_features",
    "evaluate",
    "register_evaluator",
]
