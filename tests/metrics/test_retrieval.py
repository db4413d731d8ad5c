import tracemalloc

import numpy as np
import pytest

from avlearn.metrics.retrieval import hits, recall_at


def in_blocks(similarity, rows=None):
    return lambda: np.split(similarity, range(rows, len(similarity), rows)) if rows else [similarity]


def test_recall_differs_by_direction():
    # Audio 0 is the nearest of every video; each audio's nearest video is its own.
    similarity = np.array([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
    audio, video, more, _ = recall_at(in_blocks(similarity), (1, 2))
    assert audio.value == pytest.approx(1 / 3) and audio.name == "R@1 of 3, video to audio"
    assert video.value == 1.0 and video.name == "R@1 of 3, audio to video"
    assert audio.chance == pytest.approx(1 / 3) and audio.n == 3
    assert more.value == 1.0


def test_a_constant_scorer_gets_chance_and_nan_gets_nothing():
    assert recall_at(in_blocks(np.zeros((10, 10))), (3,))[0].value == pytest.approx(0.3)
    assert [found.value for found in recall_at(in_blocks(np.full((4, 4), np.nan)), (1,))] == [0.0, 0.0]
    scores = np.array([[np.nan, 0.0], [1.0, np.nan]])
    assert hits(scores, np.array([1, 0]), 1).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rows", [1, 7, 16, 40])
def test_blocks_of_any_size_give_what_the_ranks_in_the_whole_matrix_give(rows):
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 12, (40, 40)) + 4.0 * np.eye(40)  # with ties
    similarity[rng.random((40, 40)) < 0.05] = np.nan
    similarity[3, 3] = np.nan
    found = recall_at(in_blocks(similarity, rows), (1, 5))
    expected = [hits(one, np.arange(40), k).mean() for k in (1, 5) for one in (similarity, similarity.T)]
    assert [metric.value for metric in found] == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) == 4  # each tells something


def test_memory_does_not_grow_with_the_square_of_the_clips():
    count = 3000  # of which the whole matrix takes 72 MB

    def blocks():
        for first in range(0, count, 10):
            block = np.zeros((10, count))
            block[np.arange(10), first + np.arange(10)] = 1
            yield block

    tracemalloc.start()
    found = recall_at(blocks, (1,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [metric.value for metric in found] == [1.0, 1.0]
    assert peak < 3e6


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (0, 0)])
def test_shape_is_checked(shape):
    with pytest.raises(ValueError, match="square"):
        recall_at(in_blocks(np.zeros(shape)), (1,))


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((0, 3)), np.zeros((2, 2, 2))])
def test_scores_are_of_items_and_candidates(scores):
    with pytest.raises(ValueError, match=r"\[items, candidates\]"):
        hits(scores, np.zeros(len(scores), int), 1)
