"""Classifiers on frozen features: what they are, what chooses, and what they say of classes that they never saw."""

import numpy as np
import pytest

from avlearn.evaluation import classifiers
from avlearn.evaluation.classifiers import NearestCentroid, class_scores, fit_chosen


def blobs(rng: np.random.Generator, each: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(each * classes) % classes
    return rng.normal(size=(len(labels), 20)) + 5 * np.eye(20)[labels], labels


def parts(count: int) -> tuple[list, np.ndarray, np.ndarray]:
    """A third each to learn, to choose and to test."""
    first, second, third = np.array_split(np.arange(count), 3)
    return [(first, second)], first, third


@pytest.mark.parametrize("kind", ["logistic", "svm", "knn"])
def test_each_kind_tells_classes_apart_and_knows_nothing_of_labels_by_lot(kind):
    rng = np.random.default_rng(0)
    values, labels = blobs(rng, 60)
    choices, fitted, test = parts(len(labels))
    chosen = fit_chosen(kind, values, labels, choices, fitted)
    assert chosen.score(values[test], labels[test]) > 0.9
    shuffled = rng.permutation(labels)
    by_lot = fit_chosen(kind, values, shuffled, choices, fitted)
    assert 0.1 < by_lot.score(values[test], shuffled[test]) < 0.55


def test_an_svm_and_neighbours_do_not_mind_the_length_of_features():
    rng = np.random.default_rng(1)
    values, labels = blobs(rng, 30)
    choices, fitted, test = parts(len(labels))
    stretched = values * rng.uniform(0.1, 10, (len(values), 1))
    for kind in ("svm", "knn"):
        one, other = (fit_chosen(kind, v, labels, choices, fitted) for v in (values, stretched))
        np.testing.assert_allclose(
            class_scores(one, values[test], 3), class_scores(other, stretched[test], 3), rtol=1e-3, atol=1e-3
        )


def test_nearer_neighbours_count_for_more_as_wu_et_al_weigh_them():
    """One of class 0 right beside, two of class 1 farther away: exp(1 / 0.07) against 2 exp(cosine / 0.07)."""
    angle = np.array([0.0, 0.5, 0.5])
    values = np.stack([np.cos(angle), np.sin(angle) * [1, 1, -1]], 1)
    labels = np.array([0, 1, 1])
    (three,) = [k for k in classifiers._knn(3) if k.n_neighbors == 3]
    scores = class_scores(three.fit(values, labels), np.array([[1.0, 0.0]]), 2)
    weights = np.exp(np.cos(angle) / 0.07)
    np.testing.assert_allclose(scores[0], [weights[0] / weights.sum(), weights[1:].sum() / weights.sum()])
    assert [k.n_neighbors for k in classifiers._knn(4)] == [3, 1]


def test_how_many_neighbours_is_chosen_on_the_clips_that_choose():
    """Single wrong labels mislead the nearest neighbour, and the vote of many is right."""
    rng = np.random.default_rng(2)
    values, labels = blobs(rng, 100, 2)
    choices, fitted, _ = parts(len(labels))
    noisy = labels.copy()
    wrong = rng.choice(fitted, len(fitted) // 3, replace=False)
    noisy[wrong] = 1 - noisy[wrong]
    assert fit_chosen("knn", values, noisy, choices, fitted).n_neighbors > 3


def test_several_choices_count_alike_and_the_last_fit_is_on_all():
    rng = np.random.default_rng(3)
    values, labels = blobs(rng, 20)
    order = np.arange(len(labels))
    folds = [(order[order % 5 != k], order[order % 5 == k]) for k in range(5)]
    chosen = fit_chosen("knn", values, labels, folds, order)
    assert chosen.n_samples_fit_ == len(labels)


@pytest.mark.parametrize("kind", ["logistic", "svm", "knn"])
@pytest.mark.parametrize("classes", [[1, 3], [0, 1, 3]])
def test_a_class_that_was_not_learned_is_never_named(kind, classes):
    rng = np.random.default_rng(4)
    values, numbers = blobs(rng, 20, len(classes))
    labels = np.array(classes)[numbers]
    choices, fitted, test = parts(len(labels))
    scores = class_scores(fit_chosen(kind, values, labels, choices, fitted), values[test], 5)
    assert scores.shape == (len(test), 5)
    assert (scores.argmax(1) == labels[test]).mean() > 0.9
    missing = sorted(set(range(5)) - set(classes))
    assert (scores[:, missing] < scores[:, classes].min()).all()


def test_centroids_are_those_of_centred_features_of_unit_length():
    values = np.array([[4.0, 1.0], [4.0, 3.0], [8.0, 2.0]])  # two of class 0, one of class 2
    found = NearestCentroid().fit(values, np.array([0, 0, 2]))
    np.testing.assert_allclose(found.mean_, [6.0, 2.0])
    scores = class_scores(found, np.array([[5.0, 2.0], [100.0, 2.0]]), 3)
    np.testing.assert_allclose(scores, [[1.0, -1e9, -1.0], [-1.0, -1e9, 1.0]], atol=1e-6)
