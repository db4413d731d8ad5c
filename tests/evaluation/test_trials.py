"""Splits, folds and episodes: who learns, who chooses, who tests."""

from pathlib import Path

import numpy as np
import pytest

from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.evaluation.trials import Trial, fold_trials, shot_trials


def rows(count: int, folds: int = 0, **changes) -> list[Row]:
    return [
        Row(
            Path(f"{k}.mp4"), labels=("abc"[k % 3],),
            folds=tuple("test" if k % folds == f else "train" for f in range(folds)) if folds else (), **changes,
        )
        for k in range(count)
    ]  # fmt: skip


def test_each_fold_tests_its_own_and_learns_from_all_others():
    trials = fold_trials(rows(30, 5))
    assert len(trials) == 5
    assert sorted(np.concatenate([trial.test for trial in trials]).tolist()) == list(range(30))
    for trial in trials:
        assert sorted([*trial.fitted, *trial.test]) == list(range(30))
        assert sorted(np.concatenate([val for _, val in trial.choices]).tolist()) == sorted(trial.fitted.tolist())
        for train, val in trial.choices:
            assert sorted([*train, *val]) == sorted(trial.fitted.tolist())


def test_of_many_clips_one_part_chooses():
    (trial,) = fold_trials([Row(Path(f"{k}"), folds=("test" if k < 5 else "train",)) for k in range(2006)])
    ((train, val),) = trial.choices
    assert (len(trial.fitted), len(train), len(val)) == (2001, 1600, 401)


def test_what_a_fold_leaves_out_is_in_none_of_its_parts():
    clips = [Row(Path(f"{k}"), folds=(("train", "test", "")[k % 3], "train" if k else "test")) for k in range(30)]
    first, _ = fold_trials(clips)
    assert not any(k % 3 == 2 for k in [*first.fitted, *first.test])


@pytest.mark.parametrize(
    ("clips", "said"),
    [
        (rows(9), "the manifest has no folds"),
        ([*rows(9, 3), *rows(3, 2)], "the manifest has no folds"),
        ([Row(Path(f"{k}"), folds=("train",)) for k in range(9)], "fold 1 has 9 clips to learn from and 0 to test on"),
    ],
)
def test_folds_that_are_none_are_refused(clips, said):
    with pytest.raises(DataError, match=said):
        fold_trials(clips)


def test_shots_are_drawn_a_class_and_never_from_the_test_clips():
    clips = [Row(Path(f"{k}"), labels=("abc"[k % 3],), split=("train", "train", "test")[k % 7 % 3]) for k in range(90)]
    labels = np.arange(90) % 3
    labels[:6] = -1
    trials = shot_trials(clips, labels, 4, 20)
    assert len({tuple(sorted(trial.fitted)) for trial in trials}) == 20
    for trial in trials:
        assert sorted(labels[trial.fitted].tolist()) == [0] * 4 + [1] * 4 + [2] * 4
        assert all(clips[k].split == "train" for k in trial.fitted)
        assert trial.test.tolist() == [k for k in range(90) if clips[k].split == "test"]
    again = shot_trials(clips, labels, 4, 2)
    assert again[1].fitted.tolist() == trials[1].fitted.tolist()


def test_too_few_clips_for_the_shots_are_named():
    clips = [*rows(30, split="train"), *rows(9, split="test"), Row(Path("x"), labels=("d",), split="train")]
    with pytest.raises(DataError, match="3 shots need so many training clips a class: 'd' has 1"):
        shot_trials(clips, np.array([*np.arange(30) % 3, *np.arange(9) % 3, 3]), 3, 2)


def test_a_trial_among_clips_that_have_a_kind():
    first, second = (np.array([0, 1, 2]), np.array([3])), (np.array([1, 3]), np.array([0, 2]))
    trial = Trial((first, second), np.array([0, 1, 2]), np.array([4, 5]))
    labels = np.array([0, 1, 0, 1, 1, 0])
    found = trial.among(np.array([True, True, True, False, True, False]), labels)
    assert found is None  # one choice has nothing that chooses, the other one class to learn
    found = trial.among(np.array([True, True, False, True, True, False]), labels)
    assert [[part.tolist() for part in pair] for pair in found.choices] == [[[0, 1], [3]]]
    assert (found.fitted.tolist(), found.test.tolist()) == ([0, 1], [4])
    assert trial.among(np.array([1, 1, 1, 1, 0, 0], bool), labels) is None  # nothing to test on
    assert trial.among(np.ones(6, bool), np.zeros(6, int)) is None
    assert Trial((), first[0], first[1]).among(np.ones(6, bool), labels) is not None  # nothing is to be chosen
