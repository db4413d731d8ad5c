"""A model calibrated on clips like those that it is to be used on: in-distribution statistics and confidences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from avlearn.apply.calibrate_clip import Claim, ClipEvidence
from avlearn.apply.confidence import calibrate, probability
from avlearn.apply.verdict import ADVICE
from avlearn.errors import DataError, ModelError
from avlearn.files import printable
from avlearn.media.source import Source
from avlearn.metrics.sync import auc
from avlearn.models.calibration import Calibrations
from avlearn.models.in_distribution import LABELLED, InDistribution

LEAST = 20  # clips that a calibration stands on
_FOLDS = 5
_NEARLY_ALL = 0.95  # of the clips
SKILL = 0.05  # share of the prior's error that evidence has to take away, held out
RECOGNIZED = 0.8  # of windows with their own audio: with less, "nothing on screen" would be said of too many


@dataclass(frozen=True)
class KnownClips:
    """Counts of the clips that are in-distribution, by their video or by their audio.

    Attributes:
        kind: ``video`` or ``audio``.
        clips: how many there are.
        held_out: of them by statistics of the others, in five folds.
        noise: of noise in the place of each, by the same statistics.
        before: of them by the model's former statistics; None where it had none.
        kept: whether these stay, because so few clips are not told from noise, and nearly all are like them.
    """

    kind: str
    clips: int
    held_out: int
    noise: int
    before: int | None
    kept: bool = False

    @property
    def tells(self) -> bool:
        """Whether statistics of these clips tell them from noise."""
        return self.noise <= self.clips / 2

    def text(self) -> str:
        """Human-readable text."""
        before = "not measured before" if self.before is None else f"{self.before} before"
        return (
            f"in-distribution by {self.kind}: {self.held_out} of {self.clips} held-out clips ({before}), "
            f"noise {self.noise} of {self.clips}{': too few to tell it, so the former statistics stay' * self.kept}"
        )


@dataclass(frozen=True)
class HeldOutConfidence:
    """Quality of a calibrated probability on clips that it was not fitted on, in five folds.

    Attributes:
        name: what it is the probability of.
        clips, claims, right: how many clips, claims about them, and right ones among these.
        brier: mean square error of the probability; ``prior``: of the share of right ones said of all.
        auc: of right over wrong ones, where chance is 0.5.
        named, named_right: claims of 0.5 or more, and the right ones among them.
        reason: why it is not used; else "".
    """

    name: str
    clips: int
    claims: int
    right: int
    brier: float | None = None
    prior: float | None = None
    auc: float | None = None
    named: int = 0
    named_right: int = 0
    reason: str = ""

    @property
    def tells(self) -> bool:
        """Whether the evidence tells more than the prior."""
        return self.brier is not None and self.prior is not None and self.brier < (1 - SKILL) * self.prior

    def text(self) -> str:
        """Human-readable text."""
        said = f"{self.name}: {self.claims} claims of {self.clips} clips, {self.right} of them right"
        if self.brier is not None:
            said += (
                f"; held out: Brier score {self.brier:.3f} (prior {self.prior:.3f}), AUC {self.auc:.3f} "
                f"(chance 0.5), {self.named_right} of {self.named} claims of 0.5 or more are right"
            )
        return said + (f"; not calibrated: {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Calibrated:
    """Measurements of a model on clips.

    Attributes:
        clips: how many.
        in_distribution: statistics of ``video`` and ``audio`` like theirs, and of what the classifiers know.
        calibrations: of offsets and of what is on screen, where these were measured. That of separated tracks needs
            the audio of each source alone, and is not there.
        known, confidences: the figures.
    """

    clips: int
    in_distribution: dict[str, InDistribution]
    calibrations: Calibrations
    known: tuple[KnownClips, ...]
    confidences: tuple[HeldOutConfidence, ...]

    def lines(self) -> list[str]:
        """Human-readable text."""
        tracks = "confidence in a track: not calibrated: that needs the audio of each source alone"
        figures: list[KnownClips | HeldOutConfidence] = [*self.known, *self.confidences]
        return [figure.text() for figure in figures] + [tracks]


def clip_options(clips: Sequence[Source]) -> list[dict[str, object]]:
    """Options of `avlearn.apply.calibrate_clip.clip_evidence` for each of several clips."""
    # Neighbours may be pieces of one recording.
    return [{"other": clips[(k + len(clips) // 2) % len(clips)], "seed": k} for k in range(len(clips))]


def calibrated_on(
    found: Sequence[ClipEvidence], former: dict[str, InDistribution], *, labels: bool = False
) -> Calibrated:
    """Fit all that clips allow: in-distribution statistics, and the confidence in offsets and in what is on screen.

    Args:
        found: of each clip.
        former: in-distribution statistics that the model has had.
        labels: whether the model has classifiers, which know what they knew.

    Raises:
        DataError: there are fewer than `LEAST` clips, or too few to tell them from noise where the model does not know
            them already.
        ModelError: the model tells neither offsets nor sources of such clips: to call them known would make it say
            things that it does not know.
    """
    if len(found) < LEAST:
        raise DataError(f"{len(found)} clips can be used: a calibration stands on {LEAST} at least")
    statistics, known = {}, []
    for kind in ("video", "audio"):
        statistics[kind], figure = _in_distribution(kind, found)
        if not figure.tells:
            # With such statistics anything would be known.
            if figure.before is None or figure.before < _NEARLY_ALL * figure.clips:
                raise DataError(f"{figure.clips} clips are too few to tell their {kind} from noise: give more")
            statistics[kind], figure = former[kind], replace(figure, kept=True)
        known.append(figure)
    if labels:
        labelled = {kind: former.get(LABELLED + kind, former.get(kind)) for kind in ("video", "audio")}
        statistics |= {LABELLED + kind: kept for kind, kept in labelled.items() if kept is not None}
    sync, offsets = _confidence("confidence in an offset", [clip.offsets for clip in found])
    on_screen, seen = _confidence("probability of a source on screen", [clip.on_screen for clip in found])
    if not (offsets.tells or seen.tells):
        measured = ", ".join(f"{figure.name}: AUC {figure.auc}" for figure in (offsets, seen) if figure.auc is not None)
        raise ModelError(f"the model tells nothing of such clips ({measured or 'no claim'}; chance 0.5): {ADVICE}")
    recognized = seen.named_right / max(seen.right, 1)
    if on_screen and recognized < RECOGNIZED:
        on_screen = None
        seen = replace(seen, reason=f"only {recognized:.0%} of the clips' own audio is recognized as on screen")
    return Calibrated(len(found), statistics, Calibrations(sync, on_screen), tuple(known), (offsets, seen))


def _in_distribution(kind: str, found: Sequence[ClipEvidence]) -> tuple[InDistribution, KnownClips]:
    """Statistics of all clips, and how they hold for those that they were not measured on."""
    own = [torch.from_numpy(getattr(clip, kind)) for clip in found]
    noise = [torch.from_numpy(getattr(clip, f"{kind}_noise")) for clip in found]
    inside = unlike = 0
    for fold in range(_FOLDS):
        held = range(fold, len(found), _FOLDS)
        statistics = _fitted([own[k] for k in range(len(found)) if k % _FOLDS != fold])
        inside += sum(statistics.contains(own[k]) for k in held)
        unlike += sum(statistics.contains(noise[k]) for k in held)
    before = [clip.known[kind] for clip in found]
    figure = KnownClips(kind, len(found), inside, unlike, None if None in before else sum(map(bool, before)))
    return _fitted(own), figure


def _fitted(described: Sequence[torch.Tensor]) -> InDistribution:
    clips = torch.arange(len(described)).repeat_interleave(torch.tensor([len(each) for each in described]))
    statistics = InDistribution.fit(torch.cat(list(described)), clips)
    assert statistics is not None  # which needs two clips
    return statistics


def _confidence(name: str, claims: Sequence[tuple[Claim, ...]]) -> tuple[dict[str, Any] | None, HeldOutConfidence]:
    """The map from evidence to probability by the claims of each clip, and its figures; None where it has no ground."""
    claims = [each for each in claims if each]
    evidence = [claim.evidence for each in claims for claim in each]
    right = np.array([claim.right for each in claims for claim in each], bool)
    figure = HeldOutConfidence(name, len(claims), len(right), int(right.sum()))
    if len(claims) < LEAST:
        return None, replace(figure, reason=f"that takes {LEAST} clips that move, sound, and are no loop")
    if right.all() or not right.any():
        return None, replace(figure, reason="all of them are alike")
    fold = np.repeat(np.arange(len(claims)) % _FOLDS, [len(each) for each in claims])
    said, prior = np.zeros(len(right)), np.zeros(len(right))
    for held in range(_FOLDS):
        fitted = calibrate([e for e, f in zip(evidence, fold, strict=True) if f != held], right[fold != held])
        said[fold == held] = [probability(e, fitted) for e, f in zip(evidence, fold, strict=True) if f == held]
        prior[fold == held] = right[fold != held].mean()
    named = said >= 0.5
    return calibrate(evidence, right), replace(
        figure,
        brier=round(float(((said - right) ** 2).mean()), 4),
        prior=round(float(((prior - right) ** 2).mean()), 4),
        auc=round(auc(said[right], said[~right]).value, 4),
        named=int(named.sum()),
        named_right=int((named & right).sum()),
    )


@dataclass(frozen=True)
class CalibrateResult:
    """Where a calibrated model went, and what was measured.

    Attributes:
        out, model: its folder, and the model that it was.
        data: what was given as clips.
        calibrated: what was measured.
        failed: path and reason of each clip that could not be used.
    """

    out: str
    model: str
    data: list[str]
    calibrated: Calibrated
    failed: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "schema": "avlearn.calibrate/1",
            "out": self.out,
            "model": self.model,
            "data": self.data,
            "clips": self.calibrated.clips,
            "in_distribution": [asdict(figure) for figure in self.calibrated.known],
            "confidences": [asdict(figure) for figure in self.calibrated.confidences],
            "failed": [{"path": path, "reason": reason} for path, reason in self.failed],
        }

    def text(self) -> str:
        """Human-readable text."""
        lines = [f"{printable(path)}: error: {reason}" for path, reason in self.failed]
        return "\n".join([*lines, *self.calibrated.lines(), f"wrote {printable(self.out)}"])
