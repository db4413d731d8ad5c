import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from avlearn.metrics.recognition import mean_per_class, recognition, top_k


@pytest.fixture
def probe() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.choice(6, 200, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    scores = rng.normal(size=(200, 6))
    scores[np.arange(200), labels] += 1
    return scores, labels


def test_accuracies_equal_the_reference(probe):
    scores, labels = probe
    for k in (1, 3):
        expected = top_k_accuracy_score(labels, scores, k=k)
        assert top_k(scores, labels, k).value == pytest.approx(expected)
    expected = balanced_accuracy_score(labels, scores.argmax(1))
    assert mean_per_class(scores, labels).value == pytest.approx(expected)


def test_references(probe):
    scores, labels = probe
    first = top_k(scores, labels)
    always = np.bincount(labels).max() / 200
    assert first.prior == always and first.prior_name == "majority class"
    assert mean_per_class(scores, labels).prior == pytest.approx(1 / 6)
    named = recognition(scores, labels, "video", 0.3)
    assert [f.name for f in named] == ["top-1, video", "top-5, video", "mean per class, video"]
    assert (named[0].prior, named[0].prior_name, named[0].chance) == (0.3, "random init", pytest.approx(1 / 6))
    assert top_k(np.zeros((200, 6)), labels).value == pytest.approx(1 / 6)


def test_chance_is_one_class_of_all(probe):
    scores, labels = probe
    assert mean_per_class(scores, labels).chance == pytest.approx(1 / 6)
    rare = np.minimum(labels, 1)
    assert mean_per_class(scores, rare).chance == pytest.approx(1 / 6)
    assert mean_per_class(scores, rare).prior == pytest.approx(1 / 2)
