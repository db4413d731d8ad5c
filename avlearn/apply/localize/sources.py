"""Sources of the sound: peaks of the maps, followed over time."""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import label, maximum_filter
from scipy.optimize import linear_sum_assignment

from avlearn.apply.windows import SILENCE

STANDS_OUT = 0.5  # of the strongest peak's height: chosen on validation clips of two sources, and of one
APART = 0.2  # of the frame: a peak nearer than this to a stronger one is part of it
REACH = 0.25  # of the frame: how far a source may move from one map to the next
_GAP = 2.0  # seconds for which a source may be away
_LASTS = 1.0  # seconds that a source has to be there in all, or half of a shorter file


@dataclass(frozen=True)
class SoundSource:
    """Something in the video that makes sound.

    Attributes:
        id: 1 for the strongest, then 2, ...
        boxes: float32 ``[N, 4]`` x0, y0, x1, y1 as fractions of the frame at the maps' times; NaN where it is not
            there.
        heights: float32 ``[N]``, similarity at its peak above the map's median; 0 where it is not there.
        loudness: dB of full scale while it is there. The audio's energy is shared among the sources that are there by
            their heights, which says how well each fits the whole audio: an estimate, no separation. NaN where
            levels are not known.
        audible: probability in [0, 1] that something on screen makes the sound, over the maps in which it is there.
    """

    id: int
    boxes: np.ndarray
    heights: np.ndarray
    loudness: float
    audible: float


@dataclass(frozen=True)
class _Peak:
    """Of one map: centre (x, y), box, and height above the map's median."""

    centre: tuple[float, float]
    box: tuple[float, float, float, float]
    height: float


@dataclass
class _Track:
    """Peaks of one source by the number of their map, in order."""

    peaks: dict[int, _Peak] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return next(reversed(self.peaks))

    @property
    def strength(self) -> float:
        return sum(peak.height for peak in self.peaks.values())


def find_sources(
    times: np.ndarray, maps: np.ndarray, most: int, levels: np.ndarray | None = None, audible: np.ndarray | None = None
) -> list[SoundSource]:
    """Peaks that stand out of the maps and last, linked from map to map by nearness.

    Args:
        times: ``[N]`` seconds, rising, of the maps.
        maps: ``[N, Y, X]`` similarity of place and audio.
        most: sources at most; the strongest are taken.
        levels: ``[N]`` root mean square of the audio, of full scale; in silence there is no source.
        audible: ``[N]`` in [0, 1], that something on screen makes it; 1 by default.

    Returns:
        Sources, strongest first; none where the maps are flat.
    """
    audible = np.ones(len(times)) if audible is None else np.asarray(audible, float)
    heard = np.ones(len(times), bool) if levels is None else np.asarray(levels) >= SILENCE
    peaks = [_peaks(heat) if loud else [] for heat, loud in zip(maps, heard, strict=True)]
    tracks = _lasting(_linked(times, peaks), times)
    tracks = sorted(tracks, key=lambda track: -track.strength)[:most]
    heights = np.zeros((len(tracks), len(times)), np.float32)
    boxes = np.full((len(tracks), len(times), 4), np.nan, np.float32)
    for k, track in enumerate(tracks):
        for n, peak in track.peaks.items():
            heights[k, n], boxes[k, n] = peak.height, peak.box
    shares = heights / np.maximum(heights.sum(0), 1e-9)
    found = []
    for k in range(len(tracks)):
        there = heights[k] > 0
        loudness = float("nan")
        if levels is not None:
            loudness = float(10 * np.log10((np.square(levels) * shares[k])[there].mean()))
        found.append(SoundSource(k + 1, boxes[k], heights[k], loudness, float(audible[there].mean())))
    return found


def _peaks(heat: np.ndarray) -> list[_Peak]:
    """Local maxima that stand out, strongest first, each with its own part of what is above half its height."""
    heat = np.asarray(heat, np.float64)
    height = heat - np.median(heat)
    top = height.max()
    if top <= 1e-6:
        return []
    rows, columns = np.nonzero((height == maximum_filter(height, 3)) & (height >= STANDS_OUT * top))
    sides = np.array(heat.shape)
    centres = (np.stack([rows, columns], 1) + 0.5) / sides
    order = np.argsort(-height[rows, columns], kind="stable")
    kept: list[int] = []
    for k in order:
        if all(np.abs(centres[k] - centres[j]).max() >= APART for j in kept):
            kept.append(k)
    every = (np.moveaxis(np.indices(heat.shape), 0, -1) + 0.5) / sides
    nearest = np.square(every[:, :, None] - centres[kept]).sum(-1).argmin(-1)
    found = []
    for number, k in enumerate(kept):
        own = (nearest == number) & (height >= height[rows[k], columns[k]] / 2)
        parts, _ = label(own)
        y, x = np.nonzero(parts == parts[rows[k], columns[k]])
        box = (x.min() / sides[1], y.min() / sides[0], (x.max() + 1) / sides[1], (y.max() + 1) / sides[0])
        found.append(_Peak((centres[k][1], centres[k][0]), box, float(height[rows[k], columns[k]])))
    return found


def _linked(times: np.ndarray, peaks: list[list[_Peak]]) -> list[_Track]:
    """Each map's peaks to the tracks that are nearest, all together; what is near none begins one."""
    ended: list[_Track] = []
    tracks: list[_Track] = []
    for n, found in enumerate(peaks):
        ended += [track for track in tracks if times[n] - times[track.last] > _GAP]
        tracks = [track for track in tracks if times[n] - times[track.last] <= _GAP]
        taken = set()
        if tracks and found:
            before = np.array([track.peaks[track.last].centre for track in tracks])
            far = np.abs(before[:, None] - np.array([peak.centre for peak in found])).max(-1)
            # Above the reach all costs alike: no link is stretched to make another possible.
            for i, j in zip(*linear_sum_assignment(np.minimum(far, REACH)), strict=True):
                if far[i, j] < REACH:
                    tracks[i].peaks[n] = found[j]
                    taken.add(j)
        tracks += [_Track({n: peak}) for j, peak in enumerate(found) if j not in taken]
    return ended + tracks


def _lasting(tracks: list[_Track], times: np.ndarray) -> list[_Track]:
    hop = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    least = min(_LASTS / hop if hop else 1, len(times) / 2)
    return [track for track in tracks if len(track.peaks) >= least]
