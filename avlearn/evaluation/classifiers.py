"""Classifiers on frozen features: logistic regression, linear SVM, nearest neighbours, nearest centroid."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler, normalize
from sklearn.svm import LinearSVC

_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
_SVM_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_NEIGHBOURS = (200, 100, 50, 20, 10, 5, 3, 1)
_TEMPERATURE = 0.07  # of Wu et al. 2018
_NEVER = -1e9  # score of a class that was not learned

# Indices of clips to learn from, and of clips that choose what cannot be learned.
Choice = tuple[np.ndarray, np.ndarray]
# Values [N, ...] and labels [N] of clips, choices among them, and which of them to fit on in the end: a classifier.
Fit = Callable[[np.ndarray, np.ndarray, Sequence[Choice], np.ndarray], Any]


def _logistic(clips: int) -> list[BaseEstimator]:
    """Logistic regression on standardised features, the most regularised first."""
    return [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)) for c in _STRENGTHS]


def _svm(clips: int) -> list[BaseEstimator]:
    """Linear SVM on features of unit length (C3D: Tran et al., ICCV 2015), the most regularised first."""
    return [make_pipeline(Normalizer(), LinearSVC(C=c, dual="auto", max_iter=5000)) for c in _SVM_STRENGTHS]


def _knn(clips: int) -> list[BaseEstimator]:
    """Nearest neighbours by cosine, weighted by exp(cosine / 0.07) (Wu et al., CVPR 2018), the most of them first."""

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp(-distances / _TEMPERATURE)  # of 1 - cosine: the constant cancels

    counts = [k for k in _NEIGHBOURS if k <= clips]
    return [KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights) for k in counts]


_CANDIDATES = {"logistic": _logistic, "svm": _svm, "knn": _knn}


def fit_chosen(
    kind: str, values: np.ndarray, labels: np.ndarray, choices: Sequence[Choice], fitted: np.ndarray
) -> Pipeline:
    """The classifier of a kind that is right most often on the clips that choose; of equals, the first.

    Args:
        kind: ``logistic``, ``svm`` or ``knn``.
        values, labels: ``[N, D]`` and ``[N]`` of all clips.
        choices: what each candidate is fitted on, and held to; several are averaged.
        fitted: what the best is fitted on in the end.
    """
    best, chosen = -1.0, None
    with warnings.catch_warnings():
        # One that stops before it converges is held to the validation clips as it is, like the others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for candidate in _CANDIDATES[kind](min(len(train) for train, _ in choices)):
            scores = [
                clone(candidate).fit(values[train], labels[train]).score(values[val], labels[val])
                for train, val in choices
            ]
            if np.mean(scores) > best:
                best, chosen = float(np.mean(scores)), candidate
        return clone(chosen).fit(values[fitted], labels[fitted])


def fit_classifier(train: np.ndarray, labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray) -> Pipeline:
    """Standardise and fit a logistic regression, its regularisation chosen on validation clips."""
    first, second = np.arange(len(train)), len(train) + np.arange(len(val))
    values, all_labels = np.concatenate([train, val]), np.concatenate([labels, val_labels])
    return fit_chosen("logistic", values, all_labels, [(first, second)], first)


class NearestCentroid:
    """Cosine to the mean of each class, of features that are centred and of unit length (SimpleShot, Wang et al. 2019).

    With few clips a class it does as well as methods that are trained for it (Chen et al., ICLR 2019: "A Closer Look at
    Few-shot Classification"), and has nothing to choose.
    """

    def fit(self, values: np.ndarray, labels: np.ndarray) -> "NearestCentroid":
        """Learn from ``[N, D]`` and ``[N]``."""
        self.classes_ = np.unique(labels)
        # Each class counts once, however many clips it has.
        self.mean_ = np.mean([values[labels == label].mean(0) for label in self.classes_], 0)
        units = self._units(values)
        self.centroids_ = normalize(np.stack([units[labels == label].mean(0) for label in self.classes_]))
        return self

    def _units(self, values: np.ndarray) -> np.ndarray:
        return normalize(values - self.mean_)

    def predict_proba(self, values: np.ndarray) -> np.ndarray:
        """Cosines ``[M, C]``, which are no probabilities, but rank as such."""
        return self._units(values) @ self.centroids_.T


def fit_centroids(
    values: np.ndarray, labels: np.ndarray, choices: Sequence[Choice], fitted: np.ndarray
) -> NearestCentroid:
    """`NearestCentroid` of the clips to fit on."""
    return NearestCentroid().fit(values[fitted], labels[fitted])


def class_scores(classifier: Any, values: np.ndarray, classes: int) -> np.ndarray:
    """Scores ``[M, classes]`` of values ``[M, ...]``; a class that the classifier has not seen gets the least."""
    if hasattr(classifier, "decision_function"):
        found = classifier.decision_function(values)
        found = np.stack([-found, found], 1) if found.ndim == 1 else found
    else:
        found = classifier.predict_proba(values)
    scores = np.full((len(values), classes), _NEVER)
    scores[:, classifier.classes_] = found
    return scores
