import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix

from avlearn.metrics.labelling import (
    average_precision,
    class_accuracy,
    class_average_precision,
    confusion,
    label_hits,
    mean_average_precision,
    mean_class_accuracy,
    modality_confusion,
    top_k_labels,
)
from avlearn.metrics.recognition import top_k


@pytest.fixture
def several():
    """Scores and several labels of 60 clips of 7 classes, of which one has no clip."""
    rng = np.random.default_rng(0)
    truth = rng.random((60, 7)) < 0.3
    truth[:, 6] = False
    truth[~truth.any(1), 2] = True
    return np.round(rng.random((60, 7)) + 0.3 * truth, 1), truth  # rounded: many ties


@pytest.fixture
def single():
    rng = np.random.default_rng(1)
    labels = rng.choice(4, 200, p=[0.7, 0.1, 0.1, 0.1])
    scores = rng.random((200, 4)) + 0.4 * np.eye(4)[labels]
    return scores, np.eye(4, dtype=bool)[labels], labels


def test_average_precision_is_that_of_scikit_learn(several):
    scores, truth = several
    ours = class_average_precision(scores, truth)
    assert np.isnan(ours[6])
    for k in range(6):
        assert ours[k] == pytest.approx(average_precision_score(truth[:, k], scores[:, k]))


def test_average_precision_of_weighted_clips(several):
    scores, truth = several
    weights = np.random.default_rng(2).integers(0, 4, (3, 60)).astype(float)
    ours = average_precision(scores[:, 0], truth[:, 0], weights)
    theirs = [average_precision_score(truth[:, 0], scores[:, 0], sample_weight=row) for row in weights]
    np.testing.assert_allclose(ours, theirs)


def test_map_leaves_out_classes_without_clips_and_says_so(several):
    scores, truth = several
    found = mean_average_precision(scores, truth)
    assert found.name == "mAP of 6 classes (1 without clips left out)"
    assert found.value == pytest.approx(average_precision_score(truth[:, :6], scores[:, :6], average="macro"))
    assert found.interval[0] < found.value < found.interval[1]
    assert found.chance == pytest.approx(truth[:, :6].mean())
    guess = mean_average_precision(np.zeros(scores.shape), truth)
    assert guess.value == pytest.approx(guess.chance)
    assert mean_average_precision(truth.astype(float), truth).value == 1
    with pytest.raises(ValueError, match="no clip has a label"):
        mean_average_precision(scores, np.zeros_like(truth))


def test_top_k_of_one_label_is_that_of_the_probe(single):
    scores, truth, labels = single
    for k in (1, 2):
        ours = top_k_labels(scores, truth, k)
        assert ours.value == top_k(scores, labels, k).value
        assert ours.prior == top_k(scores, labels, k).prior
        assert ours.chance == pytest.approx(k / 4)
        assert ours.interval[0] < ours.value < ours.interval[1]


def test_any_of_several_labels_is_right():
    scores, truth = np.array([[0.1, 0.7, 0.2]] * 2), np.array([[True, False, True], [True, True, False]])
    assert label_hits(scores, truth, 1).tolist() == [0, 1]
    assert label_hits(scores, truth, 2).tolist() == [1, 1]
    found = top_k_labels(scores, truth, 1)
    assert found.chance == pytest.approx(2 / 3)
    assert found.prior == 1.0  # class 0, of both


def test_mean_per_class_counts_rare_and_frequent_alike(single):
    scores, truth, labels = single
    right = scores.argmax(1) == labels
    expected = np.mean([right[labels == k].mean() for k in range(4)])
    found = mean_class_accuracy(scores, truth)
    assert found.value == pytest.approx(expected)
    assert (found.chance, found.prior) == (pytest.approx(0.25), pytest.approx(0.25))
    assert found.interval[0] < found.value < found.interval[1]
    np.testing.assert_allclose(class_accuracy(scores, truth), [right[labels == k].mean() for k in range(4)])


def test_confusion_is_that_of_scikit_learn(single):
    scores, truth, labels = single
    assert (confusion(scores, truth) == confusion_matrix(labels, scores.argmax(1))).all()
    assert confusion(np.array([[0.0, 0.0, 1.0]]), np.array([[True, True, False]])).tolist() == [
        [0, 0, 1],
        [0, 0, 1],
        [0, 0, 0],
    ]


def test_modality_confusion():
    truth = np.eye(2, dtype=bool)[[0, 0, 0, 0]]
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    scores = {
        "audio": np.array([right, right, wrong, wrong]),
        "video": np.array([right, wrong, right, wrong]),
        "both": np.array([wrong, wrong, right, wrong]),
    }
    found = modality_confusion(scores, truth)
    assert [metric.value for metric in found] == [0.5, 0.25, 0.25]
    assert not any(metric.higher_is_better for metric in found)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="both must be"):
        label_hits(np.zeros((2, 3)), np.zeros((2, 4), bool), 1)
