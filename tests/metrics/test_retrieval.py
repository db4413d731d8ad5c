import numpy as np
import pytest

from avlearn.metrics.retrieval import hits, recall_at


def test_recall_differs_by_direction():
    # Audio 0 is the nearest of every video; each audio's nearest video is its own.
    similarity = np.array([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
    sound, picture = recall_at(similarity, 1)
    assert sound.value == pytest.approx(1 / 3) and "video to audio" in sound.name
    assert picture.value == 1.0 and "audio to video" in picture.name
    assert sound.chance == pytest.approx(1 / 3) and sound.n == 3
    assert recall_at(similarity, 2)[0].value == 1.0


def test_a_constant_scorer_gets_chance_and_nan_gets_nothing():
    assert recall_at(np.zeros((10, 10)), 3)[0].value == pytest.approx(0.3)
    assert recall_at(np.full((4, 4), np.nan), 1)[0].value == 0.0
    scores = np.array([[np.nan, 0.0], [1.0, np.nan]])
    assert hits(scores, np.array([1, 0]), 1).tolist() == [0.0, 0.0]


def test_shape_is_checked():
    with pytest.raises(ValueError, match="square"):
        recall_at(np.zeros((3, 4)), 1)


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((0, 3)), np.zeros((2, 2, 2))])
def test_scores_are_of_items_and_candidates(scores):
    with pytest.raises(ValueError, match=r"\[items, candidates\]"):
        hits(scores, np.zeros(len(scores), int), 1)
