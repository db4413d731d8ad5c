"""How much each cell belongs to a source, between the moments that are known and at their ends."""

import numpy as np
import pytest

from avlearn.apply.localize.source_weights import SourceWeights, cells_in_box


@pytest.fixture
def moved() -> SourceWeights:
    """One source that moves from the left cell to the right one, and is away at last."""
    weights = np.array([[[[1, 0]], [[0, 1]], [[0, 1]]]], np.float32)
    return SourceWeights(np.array([1.0, 2.0, 3.0]), weights, np.array([[1, 1, 0]], np.float32), end=4.0)


def test_weights_are_linear_in_between_and_hold_at_the_ends(moved):
    found = moved.weights_at(np.array([0.0, 1.0, 1.25, 2.0, 9.0]))[0, :, 0].numpy()
    assert found == pytest.approx(np.array([[1, 0], [1, 0], [0.75, 0.25], [0, 1], [0, 1]]))


def test_a_source_fades_as_it_leaves_and_none_is_there_once_the_video_has_ended(moved):
    assert moved.presence_at(np.array([1.5, 2.5, 3.5, 4.0]))[0] == pytest.approx([1, 0.5, 0, 0])
    there = SourceWeights(moved.times, moved.weights, np.ones((1, 3), np.float32), end=4.0)
    assert there.presence_at(np.array([3.5, 3.96, 4.0, 5.0]))[0] == pytest.approx([1, 0.5, 0, 0], abs=1e-6)


def test_cells_whose_centres_lie_on_the_edge_of_a_box_are_in_it():
    inside = cells_in_box(np.array([0.25, 0.25, 0.75, 0.75]), (2, 2))
    assert inside.all()
    assert cells_in_box(np.array([0.3, 0.0, 1.0, 0.3]), (2, 2)).tolist() == [[False, True], [False, False]]


def test_a_box_without_a_centre_holds_the_cell_that_it_lies_in():
    assert cells_in_box(np.array([0.55, 0.95, 0.6, 1.0]), (2, 2)).tolist() == [[False, False], [False, True]]
