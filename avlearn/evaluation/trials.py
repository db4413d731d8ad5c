"""Which clips a probe learns from, which choose, and which test it: splits, folds, and episodes of few shots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.evaluation.classifiers import Choice

_PARTS = 5  # of the training clips of a fold, of which each chooses once
_FEW = 2000  # training clips: of more, one part that chooses tells as much


@dataclass(frozen=True)
class Trial:
    """Indices of clips.

    Attributes:
        choices: clips to learn from and clips that choose what cannot be learned; of several, all count alike.
        fitted: clips to fit on in the end.
        test: clips to test on.
    """

    choices: tuple[Choice, ...]
    fitted: np.ndarray
    test: np.ndarray

    def among(self, known: np.ndarray, labels: np.ndarray) -> "Trial | None":
        """The trial on those clips alone for which ``known [N]`` is true.

        None where that leaves fewer than two classes to learn, or nothing to choose by or to test on.
        """

        def kept(index: np.ndarray) -> np.ndarray:
            return index[known[index]]

        def learns(train: np.ndarray) -> bool:
            return len(set(labels[train])) > 1

        pairs = [(kept(train), kept(val)) for train, val in self.choices]
        choices = tuple((train, val) for train, val in pairs if learns(train) and len(val))
        trial = Trial(choices, kept(self.fitted), kept(self.test))
        return trial if learns(trial.fitted) and len(trial.test) and (choices or not pairs) else None


def split_trial(splits: Sequence[str], seed: int = 0) -> Trial:
    """Training, validation and test by the manifest's splits, else 60/20/20 by a fixed shuffle.

    Where there are no validation clips, a fifth of the training clips is taken.

    Raises:
        DataError: there are too few.
    """
    train, val, test = (np.flatnonzero([split == name for split in splits]) for name in ("train", "val", "test"))
    rng = np.random.default_rng(seed)
    if len(train) and len(test):
        if not len(val):
            val, train = _dealt(train, rng)
    else:
        order = rng.permutation(len(splits))
        first, second = round(0.6 * len(splits)), round(0.8 * len(splits))
        train, val, test = order[:first], order[first:second], order[second:]
        if not (len(train) and len(val) and len(test)):
            raise DataError(f"{len(splits)} clips are too few to split into training, validation and test")
    return Trial(((train, val),), train, test)


def _dealt(train: np.ndarray, rng: np.random.Generator) -> Choice:
    """A fifth, by lot, and the rest."""
    order = rng.permutation(len(train))
    held = max(len(order) // _PARTS, 1)
    return train[order[:held]], train[order[held:]]


def fold_trials(rows: Sequence[Row], seed: int = 0) -> list[Trial]:
    """A trial for each fold of the manifest, as corpora publish them.

    What cannot be learned is chosen within the training clips, by cross-validation where they are few, and the
    classifier is then fitted on all of them.

    Raises:
        DataError: the manifest has no folds, or one of them nothing to learn from or to test on.
    """
    count = len(rows[0].folds)
    if not count or any(len(row.folds) != count for row in rows):
        raise DataError(
            "the manifest has no folds: give a table with the column folds, as avlearn scan --corpus writes it"
        )
    trials = []
    for number, splits in enumerate(zip(*(row.folds for row in rows), strict=True), 1):
        train = np.flatnonzero([split in ("train", "val") for split in splits])
        test = np.flatnonzero([split == "test" for split in splits])
        if len(train) < _PARTS or not len(test):
            raise DataError(f"fold {number} has {len(train)} clips to learn from and {len(test)} to test on")
        parts = np.array_split(np.random.default_rng(seed).permutation(train), _PARTS)
        choices = [(np.concatenate(parts[:k] + parts[k + 1 :]), parts[k]) for k in range(_PARTS)]
        trials.append(Trial(tuple(choices[: _PARTS if len(train) <= _FEW else 1]), train, test))
    return trials


def shot_trials(rows: Sequence[Row], labels: np.ndarray, shots: int, episodes: int, seed: int = 0) -> list[Trial]:
    """Episodes: ``shots`` clips a class drawn from those that are no test clips; the test clips are those of all.

    Args:
        rows: clips.
        labels: ``[N]`` of them; -1 for a clip that cannot be used.
        shots: clips a class.
        episodes: how many draws.
        seed: of the first.

    Raises:
        DataError: a class has too few clips.
    """
    whole = split_trial([row.split for row in rows])
    pool = np.setdiff1d(np.concatenate(whole.choices[0]), np.flatnonzero(labels < 0))
    trials = []
    for episode in range(episodes):
        order = np.random.default_rng(seed + episode).permutation(pool)
        drawn = [order[labels[order] == label][:shots] for label in np.unique(labels[labels >= 0])]
        least = min(drawn, key=len)
        if len(least) < shots:
            few = next(k for k, own in zip(np.unique(labels[labels >= 0]), drawn, strict=True) if own is least)
            name = next(row.labels[0] for row, label in zip(rows, labels, strict=True) if label == few)
            raise DataError(f"{shots} shots need so many training clips a class: '{name}' has {len(least)}")
        trials.append(Trial((), np.concatenate(drawn), whole.test))
    return trials
