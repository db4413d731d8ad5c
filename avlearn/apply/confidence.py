"""The probability that a readout is right: Platt's map from the evidence for it (Platt, 1999)."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

import numpy as np
from scipy.special import expit

from avlearn.errors import ModelError

FORMAT = "avlearn.confidence/1"


def check_calibration(kind: type[Any], calibration: Mapping[str, Any]) -> None:
    """Refuse a calibration of other evidence than ``kind``, before the work whose result it would judge.

    Raises:
        ModelError: it lacks a weight, as in a model folder of another version.
    """
    if missing := [f.name for f in fields(kind) if f.name not in calibration["weights"]]:
        raise ModelError(f"the model's calibration has no weight for {', '.join(missing)}: calibrate it anew")


def probability(evidence: Any, calibration: Mapping[str, Any]) -> float:
    """From 0 to 1; it falls with none of the evidence.

    Args:
        evidence: a dataclass of numbers: evidence for the claim.
        calibration: what `calibrate` returned for such evidence.

    Raises:
        ModelError: see `check_calibration`.
    """
    check_calibration(type(evidence), calibration)
    weights = calibration["weights"]
    logit = calibration["bias"] + sum(weights[f.name] * getattr(evidence, f.name) for f in fields(evidence))
    return float(expit(logit))


def calibrate(evidence: Sequence[Any], right: np.ndarray) -> dict[str, Any]:
    """Fit the map: logistic regression with weights of zero or more, by maximum likelihood with a weak prior.

    Targets are drawn in from 0 and 1 as by Platt (1999), which keeps the map from being surer than its examples.

    Args:
        evidence: N dataclasses of one kind, of numbers: evidence for the claim.
        right: ``[N]`` whether each claim was right.

    Returns:
        JSON types: ``format``, ``weights`` by name, and ``bias``.
    """
    from scipy.optimize import minimize

    x = np.array([astuple(e) for e in evidence])
    positive = int(right.sum())
    negative = len(right) - positive
    target = np.where(right, (positive + 1) / (positive + 2), 1 / (negative + 2))
    spread = x.std(0) + 1e-9
    scaled = (x - x.mean(0)) / spread

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        logit = scaled @ p[1:] + p[0]
        error = 1 / (1 + np.exp(-logit)) - target
        value = (np.logaddexp(0, logit) - target * logit).sum() + 0.5 * (p[1:] ** 2).sum()
        return value, np.concatenate([[error.sum()], scaled.T @ error + p[1:]])

    limits = [(None, None)] + [(0, None)] * x.shape[1]
    found = minimize(loss, np.zeros(1 + x.shape[1]), jac=True, bounds=limits).x
    weights = found[1:] / spread
    return {
        "format": FORMAT,
        "weights": {f.name: round(float(w), 5) for f, w in zip(fields(evidence[0]), weights, strict=True)},
        "bias": round(float(found[0] - weights @ x.mean(0)), 5),
    }
