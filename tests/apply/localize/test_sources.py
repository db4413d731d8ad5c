"""Places that stand out of the maps, followed over time."""

import numpy as np
import pytest

from avlearn.apply.localize.sources import find_sources

TIMES = np.arange(20) * 0.5


def bump(x: float, y: float, height: float = 1.0) -> np.ndarray:
    at = (np.arange(16) + 0.5) / 16
    return height * np.exp(-((at[None] - x) ** 2 + (at[:, None] - y) ** 2) / (2 * 0.07**2))


def centres(source) -> np.ndarray:
    return (source.boxes[:, :2] + source.boxes[:, 2:]) / 2


def test_two_that_move_keep_their_numbers():
    rng = np.random.default_rng(0)
    x = np.linspace(0.2, 0.8, len(TIMES))
    maps = np.stack([bump(a, 0.25) + bump(1 - a, 0.75, 0.8) for a in x]) + rng.normal(0, 0.01, (len(TIMES), 16, 16))
    one, two = find_sources(TIMES, maps, 2)
    assert (one.id, two.id) == (1, 2)
    np.testing.assert_allclose(centres(one), np.stack([x, np.full_like(x, 0.25)], 1), atol=0.05)
    np.testing.assert_allclose(centres(two), np.stack([1 - x, np.full_like(x, 0.75)], 1), atol=0.05)
    # Half height of such a bump lies 1.18 of its std from its middle.
    np.testing.assert_allclose(one.boxes[:, 2] - one.boxes[:, 0], 2 * 1.18 * 0.07, atol=0.08)
    assert [s.id for s in find_sources(TIMES, maps, 1)] == [1]


def test_a_box_holds_what_is_above_half_the_height():
    heat = np.zeros((8, 8))
    heat[4, 2:6] = 0.4, 0.6, 1.0, 0.45  # the last of them lies below half
    (source,) = find_sources(TIMES, np.repeat(heat[None], len(TIMES), 0), 1)
    np.testing.assert_allclose(source.boxes[0], [3 / 8, 4 / 8, 5 / 8, 5 / 8])


def test_one_that_is_away_for_a_moment_is_the_same_and_one_for_a_moment_is_none():
    maps = np.stack([bump(0.2, 0.2) * (n not in (8, 9)) + bump(0.8, 0.8, 0.9) * (n in (8, 9)) for n in range(20)])
    (steady,) = find_sources(TIMES[:16], np.stack([maps[n] if n != 9 else maps[7] for n in range(16)]), 4)
    assert np.isnan(steady.boxes[8]).all() and np.isfinite(steady.boxes[[7, 9]]).all()
    assert steady.heights[8] == 0


def test_loudness_is_shared_by_height_and_only_counts_while_there():
    maps = np.stack([bump(0.2, 0.2) + bump(0.8, 0.8) * (n < 10) for n in range(20)])
    levels = np.where(TIMES < 5, 0.1, 0.01)
    one, two = find_sources(TIMES, maps, 2, levels, np.where(TIMES < 5, 1.0, 0.0))
    assert two.loudness == pytest.approx(-23.01, abs=0.1)
    assert one.loudness == pytest.approx(10 * np.log10((0.005 + 0.0001) / 2), abs=0.1)
    assert (one.audible, two.audible) == (0.5, 1.0)
    (loud,) = find_sources(TIMES, np.stack([bump(0.2, 0.2)] * 20), 2, np.where(TIMES < 5, 0.1, 0.0))
    assert np.isfinite(loud.boxes[:10]).all() and np.isnan(loud.boxes[10:]).all()  # in silence there is none


def test_nothing_stands_out_of_flat_maps_and_what_is_faint_is_none():
    assert find_sources(TIMES, np.zeros((20, 16, 16)), 4) == []
    maps = np.stack([bump(0.2, 0.2) + bump(0.8, 0.8, 0.4)] * 20)
    assert len(find_sources(TIMES, maps, 4)) == 1
    assert len(find_sources(TIMES, np.stack([bump(0.2, 0.2) + bump(0.8, 0.8, 0.6)] * 20), 4)) == 2
    assert len(find_sources(TIMES[:1], maps[:1], 4)) == 1  # a file of one window
