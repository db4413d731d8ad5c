"""Weights of the frame's cells for each source, over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.shot_sources import maps_of_shots
from avlearn.apply.localize.sources import SoundSource
from avlearn.objectives.similarity import peak_weights

_FADE = 0.08  # seconds in which sources fade out where the video ends, and into others at a cut


@dataclass(frozen=True)
class Cast:
    """The sources of a shot: the others do not take part in its separation.

    Attributes:
        start, end: seconds; infinite at the film's ends.
        sources: their numbers, from 0.
    """

    start: float
    end: float
    sources: tuple[int, ...]


@dataclass(frozen=True)
class SourceWeights:
    """Weights of the frame's cells for each source, over time.

    Attributes:
        times: ``[N]`` seconds.
        weights: float32 ``[K, N, Y, X]``, each sums to one; a source that is away keeps its last place.
        there: float32 ``[K, N]``, 1 where the source is in the video.
        end: seconds at which the video ends.
        casts: of the shots; all sources take part in all of a film without cuts.
    """

    times: np.ndarray
    weights: np.ndarray
    there: np.ndarray
    end: float
    casts: tuple[Cast, ...] = ()

    def weights_at(self, instants: np.ndarray) -> Tensor:
        """Linear between the times that are known: ``[K, T, Y, X]``."""
        after = np.searchsorted(self.times, instants).clip(1, max(len(self.times) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(self.times) - 1)
        apart = np.maximum(self.times[after] - self.times[before], 1e-9)
        share = ((instants - self.times[before]) / apart).clip(0, 1)[:, None, None].astype(np.float32)
        return torch.from_numpy(self.weights[:, before] * (1 - share) + self.weights[:, after] * share)

    def presence_at(self, instants: np.ndarray) -> np.ndarray:
        """How much each source is in the video, in [0, 1]: float32 ``[K, T]``; none is once the video has ended."""
        shown = np.stack([np.interp(instants, self.times, there) for there in self.there])
        return (shown * ((self.end - instants) / _FADE).clip(0, 1)).astype(np.float32)

    def casts_at(self, instants: np.ndarray) -> list[tuple[list[int], np.ndarray]]:
        """Sources that are separated together, and how much that counts at instants: ``[T]``, all adding up to one."""
        if not self.casts:
            return [(list(range(len(self.weights))), np.ones(len(instants), np.float32))]
        found: dict[tuple[int, ...], np.ndarray] = {}
        for cast in self.casts:
            if cast.sources and instants[0] < cast.end + _FADE and instants[-1] > cast.start - _FADE:
                begun, over = instants - cast.start, cast.end - instants
                counts = np.minimum(begun / _FADE + 0.5, over / _FADE + 0.5).clip(0, 1).astype(np.float32)
                found[cast.sources] = found.get(cast.sources, 0) + counts
        return [(list(sources), counts) for sources, counts in found.items()]


def source_weights(
    sources: Sequence[SoundSource], found: FileMaps, shape: tuple[int, int], scale: float, end: float
) -> SourceWeights:
    """Weights of sources, of the kind that the separator is queried with in training (see `peak_weights`).

    Args:
        sources: K of them.
        found: the maps that they were found in.
        shape: Y, X of the features.
        scale: sharpness of the weights.
        end: seconds at which the video ends.
    """
    maps = F.adaptive_avg_pool2d(torch.from_numpy(found.maps), shape)
    count = len(found.times)
    weights = np.zeros((len(sources), count, *shape), np.float32)
    there = np.zeros((len(sources), count), np.float32)
    for k, source in enumerate(sources):
        known = np.flatnonzero(np.isfinite(source.boxes[:, 0]))
        there[k, known] = 1
        inside = torch.from_numpy(np.stack([cells_in_box(source.boxes[n], shape) for n in known]))
        own = maps[known]
        flat = own.masked_fill(~inside, float("-inf")).flatten(1).argmax(1)
        peaks = torch.stack([flat // shape[1], flat % shape[1]], 1)
        last = np.searchsorted(known, np.arange(count), side="right") - 1
        weights[k] = peak_weights(own, peaks, scale).numpy()[last.clip(0)]
    times, maps_of_times = _times_in_shots(found)
    there = np.where(maps_of_times >= 0, there[:, maps_of_times], 0)
    return SourceWeights(times, weights[:, maps_of_times.clip(0)], there, end, _casts(sources, found))


def _casts(sources: Sequence[SoundSource], found: FileMaps) -> tuple[Cast, ...]:
    if len(found.shots) < 2:
        return ()
    starts = [-np.inf, *(shot.start for shot in found.shots[1:])]
    here = [
        tuple(k for k, source in enumerate(sources) if np.isfinite(source.boxes[own, 0]).any())
        for own in maps_of_shots(found)
    ]
    return tuple(Cast(*each) for each in zip(starts, [*starts[1:], np.inf], here, strict=True))


def _times_in_shots(found: FileMaps) -> tuple[np.ndarray, np.ndarray]:
    """Times, and the number of the map that holds at each, -1 where none does: what is between shots is in neither."""
    if len(found.shots) < 2:
        return found.times, np.arange(len(found.times))
    times, numbers = [], []
    for shot, own in zip(found.shots, maps_of_shots(found), strict=True):
        fade = min(_FADE, shot.end - shot.start) / 2
        edges = [shot.start + fade, shot.end - fade]
        times += [edges[0], *found.times[own].clip(*edges), edges[1]]
        numbers += [own[0], *own, own[-1]] if len(own) else [-1, -1]
    return np.array(times), np.array(numbers)


def cells_in_box(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Cells of a map whose centres a box holds, or the one that its centre lies in: bool ``[Y, X]``."""
    rows, columns = ((np.arange(side) + 0.5) / side for side in shape)
    inside = ((rows >= box[1]) & (rows <= box[3]))[:, None] & ((columns >= box[0]) & (columns <= box[2]))
    if not inside.any():
        centre = (box[1] + box[3]) / 2, (box[0] + box[2]) / 2
        inside[tuple(min(int(at * side), side - 1) for at, side in zip(centre, shape, strict=True))] = True
    return inside
