"""Stretches judged by towers that have not seen them, and what may be said of others after that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from avlearn.apply.calibrate import RECOGNIZED, SKILL
from avlearn.apply.calibrate_clip import Claim, ClipEvidence, clip_evidence
from avlearn.apply.confidence import calibrate, probability
from avlearn.apply.run_many import Tool
from avlearn.media.source import Source, opened_once
from avlearn.metrics.sync import auc
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.calibration import Calibrations
from avlearn.models.folder import load
from avlearn.models.in_distribution import InDistribution

SURE = 0.5  # confidence from which `avlearn sync` names an offset
_INSIDE = 0.95  # of held-out stretches that are to be in-distribution
_KINDS = ("video", "audio")


@dataclass(frozen=True)
class Judged:
    """A stretch as two models see it: the base, and towers that learned from the other fold.

    Attributes:
        before, after: evidence by the base, and by those towers.
        distances: of its description, by kind, over what is in-distribution for those towers: 1 is the limit.
        noise: the same of noise in its place.
    """

    before: ClipEvidence
    after: ClipEvidence
    distances: dict[str, float]
    noise: dict[str, float]


@opened_once
def judge(path: Source, *, base: str, towers: str, device: str, precision: str, other: Source, seed: int) -> Judged:
    """Evidence of a stretch by the base and by adapted towers, with the same delays.

    Args:
        path: a copy, in sync as far as that is known.
        base, towers: names or paths of the models.
        device, precision: as for `avlearn.load`.
        other: another copy, whose audio does not belong to this one.
        seed: of noise and delays.

    Raises:
        MediaError: the copy cannot be read.
    """
    before = clip_evidence(path, _opened(base, device, precision), other=other, seed=seed)
    model = _opened(towers, device, precision)
    after = clip_evidence(path, model, other=other, seed=seed)
    known = {kind: model.in_distribution[kind] for kind in _KINDS if kind in model.in_distribution}
    return Judged(
        before, after,
        {kind: _distance(found, getattr(after, kind)) for kind, found in known.items()},
        {kind: _distance(found, getattr(after, f"{kind}_noise")) for kind, found in known.items()},
    )  # fmt: skip


@lru_cache(maxsize=3)
def _opened(name: str, device: str, precision: str) -> AudioVisual:
    return load(name, device, precision)


def _distance(known: InDistribution, described: np.ndarray) -> float:
    return float(known.distance(torch.from_numpy(described)).median() / known.limit)


@dataclass(frozen=True)
class Reading:
    """How the scores of towers are read, by stretches that other towers of the same training had not seen.

    Attributes:
        calibrations: of offsets, and of what is on screen; None where the evidence tells nothing.
        widened: by how much what is in-distribution reaches further than the training's own clips tell, by kind.
    """

    calibrations: Calibrations
    widened: dict[str, float]

    def apply(self, model: AudioVisual) -> AudioVisual:
        """A model that is read so."""
        model.in_distribution = {
            kind: replace(found, limit=found.limit * self.widened.get(kind, 1.0))
            for kind, found in model.in_distribution.items()
        }
        model.calibrations = self.calibrations
        return model


def read(judged: Sequence[Judged]) -> Reading:
    """Fit how scores are read on stretches that were judged by towers that had not seen them."""
    widened = {}
    for kind in _KINDS:
        own = [found.distances[kind] for found in judged if kind in found.distances]
        noise = [found.noise[kind] for found in judged if kind in found.noise]
        reach = max(float(np.quantile(own, _INSIDE)), 1.0) if own else 1.0
        # Where noise would be known too, nothing is told by it.
        widened[kind] = reach if np.mean(np.array(noise) <= reach) <= 0.5 else 1.0
    sync = fitted([claim for found in judged for claim in found.after.offsets])
    seen = fitted([claim for found in judged for claim in found.after.on_screen])
    if seen is not None:
        own_audio = [claim for found in judged for claim in found.after.on_screen if claim.right]
        if np.mean([probability(claim.evidence, seen) >= SURE for claim in own_audio]) < RECOGNIZED:
            seen = None
    return Reading(Calibrations(sync, seen), widened)


def fitted(claims: Sequence[Claim]) -> dict[str, Any] | None:
    """The map from evidence to probability; None where all claims are alike."""
    right = np.array([claim.right for claim in claims], bool)
    if right.all() or not right.any():
        return None
    return calibrate([claim.evidence for claim in claims], right)


@dataclass(frozen=True)
class Said:
    """What a model makes of a stretch whose delay is known.

    Attributes:
        right: whether its best offset is right to 80 ms (to a step of the model).
        confidence: in it; None where the model has no calibration.
        known: whether the stretch is in-distribution.
        fooled: confidence in an offset with another stretch's audio, where there is none; None where that was not
            judged.
    """

    right: bool
    confidence: float | None
    known: bool
    fooled: float | None

    @property
    def named(self) -> bool:
        """Whether it answers."""
        return self.known and self.confidence is not None and self.confidence >= SURE

    @property
    def deceived(self) -> bool:
        """Whether it answers where there is nothing to tell."""
        return self.known and self.fooled is not None and self.fooled >= SURE


def said(claims: Sequence[Claim], calibration: Mapping[str, Any] | None, known: bool) -> Said | None:
    """What a model says of all of a stretch; None where that is still, silent, or a loop."""

    def confidence(claim: Claim | None) -> float | None:
        return None if claim is None or calibration is None else probability(claim.evidence, calibration)

    own = next((claim for claim in claims if claim.whole and claim.delay is not None), None)
    foreign = next((claim for claim in claims if claim.whole and claim.delay is None), None)
    return None if own is None else Said(own.right, confidence(own), known, confidence(foreign))


@dataclass(frozen=True)
class Skill:
    """Quality of the confidence in offsets, held out: mean square error beside that of the prior, and the AUC."""

    claims: int
    brier: float
    prior: float
    auc: float

    @property
    def tells(self) -> bool:
        """Whether the evidence tells more than the share of right ones alone."""
        return self.brier < (1 - SKILL) * self.prior


def skill(judged: Sequence[Sequence[Claim]], folds: Sequence[int]) -> Skill | None:
    """Of claims of each stretch, read by what was fitted on the other folds; None where that cannot be fitted."""
    probabilities, right, prior = [], [], []
    for held in sorted(set(folds)):
        others = [c for claims, fold in zip(judged, folds, strict=True) if fold != held for c in claims]
        calibration = fitted(others)
        if calibration is None:
            return None
        share = float(np.mean([claim.right for claim in others]))
        for claims in (claims for claims, fold in zip(judged, folds, strict=True) if fold == held):
            probabilities += [probability(claim.evidence, calibration) for claim in claims]
            right += [claim.right for claim in claims]
            prior += [share] * len(claims)
    said, truth = np.array(probabilities), np.array(right, bool)
    if truth.all() or not truth.any():
        return None
    return Skill(
        len(truth),
        round(float(((said - truth) ** 2).mean()), 4),
        round(float(((np.array(prior) - truth) ** 2).mean()), 4),
        round(auc(said[truth], said[~truth]).value, 4),
    )


JUDGE = Tool("avlearn.adapt/1", "avlearn.adapt.judge:judge", "", lambda _: "judged", lambda _: 0, lambda _: {})
