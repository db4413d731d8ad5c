"""The map from evidence to the probability that an offset is right."""

import numpy as np
import pytest

from avlearn.apply.confidence import calibrate, probability
from avlearn.apply.sync.offset_estimate import OffsetEvidence
from avlearn.errors import ModelError


def drawn(count, seed):
    """Evidence whose height alone decides, with a known probability."""
    rng = np.random.default_rng(seed)
    heights = rng.uniform(0, 0.4, count)
    evidence = [OffsetEvidence(float(h), *map(float, rng.uniform(0, 1, 2))) for h in heights]
    true = 1 / (1 + np.exp(-30 * (heights - 0.2)))
    return evidence, true, rng.random(count) < true


def test_it_finds_the_probability():
    evidence, _, right = drawn(4000, 0)
    calibration = calibrate(evidence, right)
    held, true, _ = drawn(500, 1)
    said = np.array([probability(e, calibration) for e in held])
    assert np.abs(said - true).mean() < 0.02


def test_no_evidence_speaks_against():
    evidence, _, right = drawn(300, 2)
    flipped = [OffsetEvidence(-e.height, e.margin, e.agreement) for e in evidence]
    calibration = calibrate(flipped, right)
    assert all(w >= 0 for w in calibration["weights"].values())
    assert probability(flipped[0], calibration) == pytest.approx(right.mean(), abs=0.1)


def test_examples_that_can_be_told_apart_leave_it_unsure():
    evidence = [OffsetEvidence(h, 0.0, 0.0) for h in (0.1, 0.2, 0.8, 0.9)]
    calibration = calibrate(evidence, np.array([False, False, True, True]))
    assert (
        0
        < probability(OffsetEvidence(0.0, 0, 0), calibration)
        < 0.5
        < probability(OffsetEvidence(1.0, 0, 0), calibration)
        < 1
    )


def test_a_calibration_of_other_evidence_is_refused():
    with pytest.raises(ModelError, match="no weight for margin, agreement: calibrate it anew"):
        probability(OffsetEvidence(0.5, 1.0, 1.0), {"weights": {"height": 1.0}, "bias": 0.0})
