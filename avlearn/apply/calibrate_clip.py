"""The evidence of a clip for a calibration: descriptions of its windows, and claims about it whose truth is known."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.localize.maps import stitched_map, views
from avlearn.apply.localize.on_screen import OnScreenEvidence, on_screen_evidence
from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.apply.sync.offset_estimate import OffsetEvidence, estimate_offset
from avlearn.apply.sync.offsets import PHASES, STILL, OffsetCurves, offset_curves, seconds_searched
from avlearn.apply.windows import SILENCE, EncodedWindow, windows
from avlearn.errors import MediaError
from avlearn.media import stream
from avlearn.media.probe import probe
from avlearn.media.source import Source, opened, opened_once
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.in_distribution import describe_audio, describe_video
from avlearn.models.two_tower import frames_to_input
from avlearn.signal.level import level, noise_as_loud

_WINDOWS = 8  # of a clip that are described and mapped
_LONGEST = 30.0  # seconds of a clip that are looked at
_FURTHEST = 2.0  # seconds that the audio is moved


@dataclass(frozen=True)
class Claim:
    """The evidence for a claim, and whether the claim is right.

    Attributes:
        evidence: for it.
        right: whether it is.
        whole: whether it is of all of the clip, not of a stretch.
        delay: seconds by which the clip's own audio was moved, of an offset; None where the audio is another's.
    """

    evidence: OffsetEvidence | OnScreenEvidence
    right: bool
    whole: bool = False
    delay: float | None = None


@dataclass(frozen=True)
class ClipEvidence:
    """The evidence that a clip gives of a model.

    Attributes:
        path: the clip.
        video, audio: float32 ``[N, V]`` of `describe_video` and ``[N, V']`` of `describe_audio`, of its windows.
        video_noise, audio_noise: ``[1, V]`` and ``[N, V']`` of noise in their place, the audio's as loud.
        known: whether ``video`` and ``audio`` are in-distribution by the model's statistics; None: it has none.
        offsets: that an offset is right to a step of the model: with the clip's own audio moved by known delays, and
            with another's audio, where none is. Empty where the clip is still, silent, or a loop.
        on_screen: that what sounds is on screen, of windows with their own audio, where that is so, with noise, and
            with another clip's. Silent windows are left out.
    """

    path: str
    video: np.ndarray
    audio: np.ndarray
    video_noise: np.ndarray
    audio_noise: np.ndarray
    known: dict[str, bool | None]
    offsets: tuple[Claim, ...]
    on_screen: tuple[Claim, ...]


@opened_once
@torch.inference_mode()
def clip_evidence(path: Source, model: AudioVisual, *, other: Source, seed: int) -> ClipEvidence:
    """The evidence that a clip gives of a model, from its first half minute.

    Args:
        path: a clip in sync, whose sound comes from what is in view.
        model: from `avlearn.load`, with a common space.
        other: another clip, whose audio does not belong to this one.
        seed: of noise and delays.

    Raises:
        MediaError: the clip cannot be read, or has no video or no audio.
    """
    rng = np.random.default_rng(seed)
    found = list(islice(windows(path, model, model.config.seconds), _WINDOWS))
    described = {
        "video": torch.cat([describe_video(w.features, _batch(w, model)) for w in found]).cpu(),
        "audio": torch.cat([describe_audio(w.audio_features) for w in found]).cpu(),
    }
    noise = [model.audio_features(noise_as_loud(w.audio, rng)) for w in found]
    frames = torch.from_numpy(rng.integers(0, 256, found[0].frames.shape, np.uint8))[None].to(model.device)
    reference = model.in_distribution
    own = offset_curves(path, model, _reach(path, model), end=_LONGEST)
    others, unrelated = _with_audio_of(other, path, model)
    return ClipEvidence(
        str(path), described["video"].numpy(), described["audio"].numpy(),
        describe_video(model.video_features(frames_to_input(frames)), frames).cpu().numpy(),
        torch.cat([describe_audio(features) for features in noise]).cpu().numpy(),
        {kind: reference[kind].contains(values) if kind in reference else None for kind, values in described.items()},
        tuple(_offset_claims(own, unrelated, model, rng)), tuple(_on_screen_claims(model, found, noise, others)),
    )  # fmt: skip


def _batch(window: EncodedWindow, model: AudioVisual) -> Tensor:
    """A window's frames, uint8 ``[1, T, H, W, 3]``."""
    return torch.from_numpy(window.frames)[None].to(model.device)


def _audio_features(path: Source, model: AudioVisual) -> Iterator[Tensor]:
    """Features ``[1, D, T]`` of windows of a file's audio that are not silent."""
    config = model.config
    normalizer = audio_normalizer(path)
    pieces = stream(
        normalizer.source, config.seconds, config.seconds, video=False, mono=True, sample_rate=config.sample_rate
    )
    samples = round(config.seconds * config.sample_rate)
    with closing(pieces):
        for clip in islice(pieces, _WINDOWS):
            audio = torch.from_numpy(normalizer(clip.audio)).to(model.device)
            if audio.shape[1] == samples and level(audio) >= SILENCE:
                yield model.audio_features(audio)


def _on_screen_claims(
    model: AudioVisual, found: list[EncodedWindow], noise: list[Tensor], others: list[Tensor]
) -> Iterator[Claim]:
    """That what sounds is on screen: true of a window's own audio, false of noise and of another clip's."""
    for number, window in enumerate(found):
        if level(window.audio) < SILENCE:
            continue
        seen = views(model, frames_to_input(_batch(window, model)))
        placed = model.project_video(window.features)
        played = [(window.audio_features, True), (noise[number], False)]
        played += [(others[number % len(others)], False)] if others else []
        for features, right in played:
            steps = min(placed.shape[2], features.shape[2])
            heard = model.project_audio(features[:, :, :steps])
            heat = stitched_map(seen[:, :, :, :steps], heard).cpu().numpy()
            [evidence] = on_screen_evidence(model, placed[:, :, :steps], heard, heat)
            yield Claim(evidence, right)


def _reach(path: Source, model: AudioVisual) -> float:
    """Seconds on each side that curves need, to be looked at from all delays."""
    return seconds_searched(min(probe(path).duration, _LONGEST)) + _FURTHEST + 2 * model.step


def _with_audio_of(
    other: Source, path: Source, model: AudioVisual
) -> tuple[list[Tensor], OffsetCurves | None]:  # fmt: skip
    """Features of another clip's audio, and the curves of this one's video with it; none where it cannot be read."""
    try:
        with opened(other) as unrelated:
            features = list(_audio_features(unrelated, model))
            return features, offset_curves(path, model, _reach(path, model), audio=unrelated, end=_LONGEST)
    except MediaError:  # it is told by its own row
        return [], None


def _offset_claims(
    own: OffsetCurves | None, unrelated: OffsetCurves | None, model: AudioVisual, rng: np.random.Generator
) -> Iterator[Claim]:
    """That an offset is right: of stretches of one window, two, four and so on, with audio moved, and with another's.

    A delay is made by looking along the curves from there: they are those of the file with its audio moved by it.

    Args:
        own: curves with the clip's own audio; None where it is silent.
        unrelated: with another's; None where there is none.
        model: the towers.
        rng: of the stretches and the delays.
    """
    if own is None or own.motion < STILL or own.period:
        return
    count = len(own.starts)
    lengths = sorted({2**k for k in range(count.bit_length())} | {count})
    for length in lengths:
        begin = int(rng.integers(0, count - length + 1))
        part = slice(begin, begin + length)
        lasts = float(own.starts[part][-1] + own.lengths[part][-1] - own.starts[begin])
        furthest = min(_FURTHEST, lasts / 2)
        moved = round(rng.uniform(-furthest, furthest) / own.grid)
        searched = round(seconds_searched(lasts) / model.step) * PHASES
        found = estimate_offset(_delayed(own, part, moved, searched), model)
        if found is not None:
            delay = moved * own.grid
            yield Claim(found.evidence, abs(found.offset + delay) <= model.step, length == count, delay)
        if unrelated is not None and not unrelated.period:
            found = estimate_offset(_delayed(unrelated, part, moved, searched), model)
            if found is not None:
                yield Claim(found.evidence, False, length == count)


def _delayed(curves: OffsetCurves, part: slice, moved: int, searched: int) -> OffsetCurves:
    """Curves of some windows as if the audio came later.

    Args:
        curves: of the file, searched as far as this needs.
        part: which windows.
        moved: by how many points of the grid.
        searched: points on each side.
    """
    middle = len(curves.offsets) // 2
    columns = slice(middle + moved - searched, middle + moved + searched + 1)
    return replace(
        curves,
        offsets=curves.offsets[middle - searched : middle + searched + 1],
        starts=curves.starts[part] - curves.starts[part.start],
        lengths=curves.lengths[part],
        scores=curves.scores[part, columns],
        steps=curves.steps[part, columns],
        fresh=curves.fresh[part],
    )
