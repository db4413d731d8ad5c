"""Held-out judgments: how scores are read, what counts as better, and that abstaining stays where nothing is told."""

from dataclasses import replace

import numpy as np
import pytest

from avlearn.adapt.finish import _verdict
from avlearn.adapt.judge import Judged, Said, Skill, fitted, read, said, skill
from avlearn.adapt.report import HeldOut
from avlearn.apply.calibrate_clip import Claim, ClipEvidence
from avlearn.apply.localize.on_screen import OnScreenEvidence
from avlearn.apply.sync.offset_estimate import OffsetEvidence

NONE = np.zeros((1, 1), np.float32)


def judged(count, sure, near=0.9, noise=5.0, seed=0):
    """Stretches whose right claims stand out by so many standard deviations."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        offsets = [
            Claim(OffsetEvidence(*rng.normal(sure * right, 1, 3)), right, whole, 0.3 if right else None)
            for right, whole in ((True, False), (False, False), (True, True), (False, True))
        ]
        seen = [Claim(OnScreenEvidence(*rng.normal(sure * right, 1, 3)), right) for right in (True, False, False)]
        evidence = ClipEvidence(str(k), NONE, NONE, NONE, NONE, {}, tuple(offsets), tuple(seen))
        before = replace(evidence, offsets=())
        far = {"video": near * (1 + 0.5 * k / count), "audio": near}
        found.append(Judged(before, evidence, far, {"video": noise, "audio": 1.0}))
    return found


def test_what_is_in_distribution_reaches_to_held_out_stretches_but_not_to_noise():
    reading = read(judged(100, 3.0))
    assert reading.widened["video"] == pytest.approx(0.9 * 1.475, abs=0.01) and reading.widened["audio"] == 1.0
    assert read(judged(100, 3.0, noise=1.1)).widened["video"] == 1.0  # noise would be known, too


def test_sure_evidence_is_read_as_such_and_none_as_none():
    sure = read(judged(60, 4.0)).calibrations
    own, foreign = OffsetEvidence(4, 4, 4), OffsetEvidence(0, 0, 0)
    claims = (Claim(own, True, True, 0.2), Claim(foreign, False, True))
    told = said(claims, sure.sync, True)
    assert told.right and told.named and not told.deceived
    assert not said(claims, sure.sync, False).named  # unlike what it knows
    assert said(claims, None, True) == Said(True, None, True, None)
    assert said((), sure.sync, True) is None
    assert sure.on_screen is not None and read(judged(60, 0.0)).calibrations.on_screen is None


def test_skill_is_of_folds_that_were_not_fitted_on():
    folds = [k % 2 for k in range(60)]
    sure = skill([found.after.offsets for found in judged(60, 4.0)], folds)
    assert sure.tells and sure.auc > 0.95 and sure.prior == pytest.approx(0.25) and sure.claims == 240
    assert not skill([found.after.offsets for found in judged(60, 0.0)], folds).tells
    # Each fold says the opposite of the other: only who fits on a fold itself finds anything in it.
    flipped = [
        [replace(claim, right=claim.right if fold else not claim.right) for claim in found.after.offsets]
        for found, fold in zip(judged(60, 4.0), folds, strict=True)
    ]
    assert not skill(flipped, folds).tells


def test_claims_that_are_alike_calibrate_nothing():
    claims = [Claim(OffsetEvidence(1, 1, 1), False)] * 9
    assert fitted(claims) is None and fitted([]) is None and skill([claims] * 4, [0, 1, 0, 1]) is None


def held(before, after, confidence=0.9):
    """Stretches of which so many are right, of ten."""

    def one(right):
        return Said(right, confidence, True, 0.1)

    return [HeldOut("a", k, 0, 0.5, 2.0, one(k < before), one(k < after)) for k in range(10)]


TELLS, SAYS_NOTHING = Skill(40, 0.1, 0.25, 0.9), Skill(40, 0.25, 0.25, 0.5)


@pytest.mark.parametrize(("stretches", "told", "better"), [
    (held(2, 8), TELLS, True),
    (held(2, 8), SAYS_NOTHING, False),
    (held(2, 8), None, False),
    (held(8, 8), TELLS, False),
    (held(0, 5, confidence=0.9), TELLS, False),  # as many of its answers are wrong as right
    (held(5, 8), TELLS, False),  # three are gained: by chance in one of eight cases
    (held(2, 8, confidence=0.1), TELLS, False),  # it answers nothing
])  # fmt: skip
def test_better_is_what_answers_rightly_and_more_often(stretches, told, better):
    found, why = _verdict("default", stretches, told)
    assert found == better and why.startswith("better" if better else "no better")
    assert f"of {len(stretches)}" in why and (better or "model is default" in why)
