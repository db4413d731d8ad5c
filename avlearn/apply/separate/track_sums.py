"""Stretches of a separated file written to its tracks, and added up."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from avlearn.apply.separate.stretches import Stretch
from avlearn.apply.separate.track_confidence import TrackSimilarity
from avlearn.apply.separate.track_quality import MaskSums
from avlearn.apply.separate.tracks import WavFiles


@dataclass
class TrackSums:
    """Over the stretches of a file.

    Attributes:
        similarity: of tracks and places.
        masks: of the tracks of the sources.
        energy: ``[K]`` of the tracks that are written.
        input_energy: of the file's audio.
        samples: how many there are.
    """

    similarity: TrackSimilarity
    masks: MaskSums
    energy: np.ndarray
    input_energy: float = 0.0
    samples: int = 0

    def add(self, stretch: Stretch, onscreen: bool) -> np.ndarray:
        """Add a stretch; its tracks ``[K, C, S]``, all sources in one where ``onscreen``, and what they leave.

        Sources beyond those that have a track go to what is left.
        """
        given = stretch.tracks.sum(0, keepdims=True) if onscreen else stretch.tracks[: len(self.energy) - 1]
        tracks = np.concatenate([given, stretch.audio[None] - given.sum(0, keepdims=True)])
        self.similarity += stretch.similarity
        self.masks.add(stretch.audio, stretch.tracks)
        self.energy += np.square(tracks, dtype=np.float64).sum((1, 2))
        self.input_energy += float(np.square(stretch.audio, dtype=np.float64).sum())
        self.samples += stretch.audio.shape[1]
        return tracks


def write_tracks(
    stretches: Generator[Stretch, None, None],
    files: WavFiles,
    sources: int,
    onscreen: bool,
    progress: Callable[[int], None],
) -> TrackSums:
    """Write all stretches of ``sources``, and add them up; ``progress`` is told how many samples are written.

    What gives the stretches is closed, and so are the files.
    """
    sums = TrackSums(TrackSimilarity.none(sources), MaskSums(sources, files.rate), np.zeros(len(files.paths)))
    with files, closing(stretches):
        for stretch in stretches:
            files.write(sums.add(stretch, onscreen))
            progress(sums.samples)
    return sums
