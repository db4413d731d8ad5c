"""A file's audio separated in stretches, as if it were in one piece."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.feature_file import FeatureFile
from avlearn.apply.localize.source_weights import SourceWeights
from avlearn.apply.normalize_audio import AudioNormalizer
from avlearn.apply.parallel import in_order
from avlearn.apply.separate.masks import CONTEXT, separate_window, stretch_grid
from avlearn.apply.separate.track_confidence import TrackSimilarity, track_similarity
from avlearn.media import stream
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual

_STRETCH = 10.0  # seconds that are separated at a time, at least


@dataclass(frozen=True)
class Stretch:
    """A part of a file's audio, and what each source explains of it.

    Attributes:
        audio: float32 ``[C, S]``.
        tracks: float32 ``[K, C, S]``.
        similarity: of the tracks with the places of the sources.
    """

    audio: np.ndarray
    tracks: np.ndarray
    similarity: TrackSimilarity


def separate_stretches(
    path: Source,
    normalizer: AudioNormalizer,
    model: AudioVisual,
    features: FeatureFile,
    weights: SourceWeights,
    rate: int,
    workers: int,
    delay: float,
) -> Generator[Stretch, None, None]:
    """A file's whole audio, separated by K sources, stretch by stretch in order.

    Stretches begin where the transform, the U-Net and the video's steps begin alike. What their masks are made from
    on both sides is there and thrown away: the file in one piece would give the same.

    Args:
        path: the file.
        normalizer: of its audio.
        model: with a separator.
        features: of the whole video.
        weights: of the sources.
        rate: of the file's audio, samples a second.
        workers: threads that separate.
        delay: seconds by which the audio is moved later against the video.
    """
    step, grid = model.step, stretch_grid(model, rate)
    size, margin = ceil(_STRETCH * rate / grid) * grid, round(CONTEXT * rate)
    before, lead = _moved(delay, rate, step)

    def stretches() -> Iterator[tuple[np.ndarray, int, slice, Tensor]]:
        clips = stream(path, (size + 2 * margin) / rate, size / rate, video=False, audio_delay=lead / rate)
        for number, clip in enumerate(clips):
            count = clip.audio.shape[1]
            kept = slice(margin if number else lead, count if count < size + 2 * margin else size + margin)
            begin = round(before * step * rate) + number * size
            shown = features.read(round(begin / rate / step), ceil(count / rate / step) + 1)
            yield clip.audio, begin, kept, shown

    @torch.inference_mode()
    def separated(cut: tuple[np.ndarray, int, slice, Tensor]) -> Stretch:
        audio, begin, kept, shown = cut
        if not len(weights.weights):
            return Stretch(audio[:, kept], np.zeros((0, *audio[:, kept].shape), np.float32), TrackSimilarity.none(0))
        cells = weights.weights_at(begin / rate + np.arange(shown.shape[2]) * step)
        queries = torch.einsum("bdtyx,ktyx->bkdt", shown, cells).to(model.device)
        mixed = normalizer(normalizer.downmix(audio))
        given, heard = (torch.from_numpy(part).to(model.device) for part in (audio, mixed))
        instants = (begin + np.arange(audio.shape[1])) / rate
        tracks = np.zeros((len(cells), *audio.shape), np.float32)
        for cast, counts in weights.casts_at(instants):
            tracks[cast] += separate_window(model, given, rate, queries[:, cast], heard).cpu().numpy() * counts
        tracks *= weights.presence_at(instants)[:, None]
        steps = slice(round(kept.start / rate / step), round(kept.stop / rate / step))
        alone = normalizer.downmix(tracks) * normalizer.gain
        similarity = track_similarity(model, mixed, alone, rate, shown, cells, steps)
        return Stretch(audio[:, kept], tracks[:, :, kept], similarity)

    with closing(in_order(separated, stretches(), workers)) as found:
        yield from found


def _moved(delay: float, rate: int, step: float) -> tuple[int, int]:
    """Whole steps of the video, and samples of the audio beyond them, by which the audio is moved later.

    Masks that are led by half a step too early or too late hold little of the audio: it has to meet the video to the
    sample, on a grid that begins less than a step of the video before it.
    """
    samples = round(delay * rate)
    steps = floor(samples / rate / step + 1e-9)
    return steps, samples - round(steps * step * rate)
