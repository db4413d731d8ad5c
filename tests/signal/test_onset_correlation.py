"""Motion that goes with onsets: where it is, and where nothing can be told."""

import numpy as np
import pytest

from avlearn.signal.onset_correlation import onset_correlation

FPS = 25.0


def series(seed: int, seconds: float = 10.0):
    """Six cells that move at random, and onsets of other moments."""
    rng = np.random.default_rng(seed)
    count = round(seconds * FPS)
    motion = np.repeat(rng.random((count // 5 + 1, 6)), 5, 0)[:count] + 0.3 * rng.random((count, 6))
    onsets = (rng.random(count) < 0.06).astype(float)
    return motion, onsets


@pytest.mark.parametrize("lag", [-3, 0, 3])
def test_the_cell_that_moves_with_the_onsets_is_highest_though_they_lag_and_it_moves_least(lag):
    motion, onsets = series(0)
    motion[:, 4] = 0.2 * np.roll(onsets, lag)
    heights = onset_correlation([motion], onsets, FPS)
    assert heights.argmax() == 4 and heights[4] > 2 * np.delete(heights, 4).max()


def test_audio_of_another_moment_is_correlated_less():
    motion, onsets = series(1, 20.0)
    motion[:, 4] = onsets
    own, other = (onset_correlation([motion], np.roll(onsets, shift), FPS) for shift in (0, 250))
    assert own.max() > 2 * other.max()


def test_a_jolt_of_all_cells_decides_nothing():
    motion, onsets = series(2)
    motion[:, 4] += onsets
    motion[100, :3] += 50  # as of a camera that is pushed
    onsets[100] = 1
    assert onset_correlation([motion], onsets, FPS).argmax() == 4


def test_what_is_short_still_or_steady_tells_nothing():
    motion, onsets = series(3)
    assert onset_correlation([motion[:74]], onsets[:74], FPS) is None
    assert onset_correlation([motion[:75]], onsets[:75] + motion[:75, 0], FPS) is not None
    assert onset_correlation([np.ones_like(motion)], onsets, FPS) is None
    assert onset_correlation([motion], np.ones_like(onsets), FPS) is None
