"""Localization with audio of nothing in the video: how much is marked, and whether such audio is told apart."""

from dataclasses import replace

import numpy as np
import torch

from avlearn.apply.localize.maps import stitched_map, views
from avlearn.apply.localize.on_screen import OnScreenEvidence, on_screen_evidence, on_screen_probability
from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.evaluation.evaluator import NO_COMMON_SPACE, CandidateClips, Evaluator, NotMeasurableError
from avlearn.evaluation.localization import choose_one_of_two, mean_boxes
from avlearn.evaluation.result import EvaluatorResult
from avlearn.evaluation.windows import WindowCuts, cut_windows
from avlearn.metrics import MetricResult
from avlearn.metrics.localization import box_mask, enlarge
from avlearn.metrics.negative_audio import negative_audio, universal_threshold
from avlearn.metrics.sync import auc
from avlearn.models.audiovisual import AudioVisual
from avlearn.signal.level import level, noise_as_loud

OWN, KINDS = "on screen", ("silence", "noise", "off screen")


class NegativeAudioEvaluator(Evaluator):
    """Localization under audio of nothing in the video, on clips that show one sounding and one silent thing."""

    task = "localization"

    def choose(self, listed: CandidateClips) -> list[Row]:
        if not self.subject.common_space:
            raise NotMeasurableError(NO_COMMON_SPACE)
        rows = choose_one_of_two(self.subject, listed)
        if len(rows) < 2:
            raise NotMeasurableError("one clip alone has no other's audio")
        return rows

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        subject = self.subject
        return EvaluatorResult(negative_audio_metrics(subject.model, subject.decoded(rows), rows, subject.seed))


@torch.inference_mode()
def heard_with(
    model: AudioVisual, cache: ClipCache, start: float, seed: int
) -> dict[str, tuple[np.ndarray, list[OnScreenEvidence], np.ndarray]]:
    """Each clip's video with its own audio and with audio of nothing in it.

    Args:
        model: the towers.
        cache: N decoded clips.
        start: seconds at which the windows begin.
        seed: of the noise, as loud as the clip's own audio, and of whose audio it is that comes from off screen.

    Returns:
        By `OWN` and `KINDS`: maps ``[N, Y, X]``, evidence (a list of N), levels ``[N]``.
    """
    count = len(cache.video)
    starts = np.full(count, start)
    rng = np.random.default_rng(seed)
    own = WindowCuts(starts, starts, model.config.seconds)
    others = replace(own, audio_clips=(np.arange(count) + rng.integers(1, count, count)) % count)
    found: dict[str, tuple[list[np.ndarray], list[OnScreenEvidence], list[np.ndarray]]]
    found = {kind: ([], [], []) for kind in (OWN, *KINDS)}
    for (frames, audio), (_, other) in zip(
        cut_windows(model, cache, own), cut_windows(model, cache, others), strict=True
    ):
        seen, placed = views(model, frames), model.project_video(model.video_features(frames))
        for kind, played in zip(found, (audio, audio * 0, noise_as_loud(audio, rng), other), strict=True):
            heard = model.project_audio(model.audio_features(played))
            heat = stitched_map(seen, heard).cpu().numpy()
            maps, evidence, levels = found[kind]
            maps.append(heat)
            evidence += on_screen_evidence(model, placed, heard, heat)
            levels.append(level(played).cpu().numpy())
    return {kind: (np.concatenate(maps), ev, np.concatenate(levels)) for kind, (maps, ev, levels) in found.items()}


def negative_audio_metrics(model: AudioVisual, cache: ClipCache, rows: list[Row], seed: int) -> list[MetricResult]:
    """What is marked in silence, noise and audio from off screen, and how well these are told from audio on screen.

    The threshold of the maps is chosen on every other clip, and the areas are those of the rest.

    Args:
        model: one with a common space.
        cache: decoded clips of a world, each with one sounding thing.
        rows: of the clips, with truth.
        seed: of the audio.
    """
    size = model.config.size
    found = heard_with(model, cache, 0.0, seed)
    maps = {kind: enlarge(found[kind][0], size) for kind in found}
    boxes = mean_boxes(rows, np.zeros(len(rows)), model.config.seconds, True) * size
    threshold = universal_threshold({kind: maps[kind][::2] for kind in KINDS})
    negatives = {kind: maps[kind][1::2] for kind in KINDS}
    areas = negative_audio(maps[OWN][1::2], box_mask(boxes, size)[1::2], negatives, threshold)
    said = {kind: on_screen_probability(model, evidence, levels) for kind, (_, evidence, levels) in found.items()}
    return areas + [
        replace(
            auc(said[OWN], said[kind]), task="localization", name=f"audible: on screen or {kind} (AUC)", prior=None,
            prior_name="",
        )
        for kind in KINDS
    ]  # fmt: skip
