"""What evaluates a model on held-out clips: evaluators by task, each figure beside its references."""

from avlearn.evaluation.evaluator import Evaluator, Listed, NotMeasurableError, Subject
from avlearn.evaluation.recognition import cached_features
from avlearn.evaluation.result import ClassFigures, Evaluation, Measured
from avlearn.evaluation.run import EVALUATORS, evaluate, register_evaluator

__all__ = [
    "EVALUATORS",
    "ClassFigures",
    "Evaluation",
    "Evaluator",
    "Listed",
    "Measured",
    "NotMeasurableError",
    "Subject",
    "cached_features",
    "evaluate",
    "register_evaluator",
]
