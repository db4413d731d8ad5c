"""Mixtures: the right clips, at the right levels, the same ones every time."""

import numpy as np

from avlearn.data.mixing import SPREAD, Mixing, MixtureList

LABELS = np.eye(4, dtype=bool)[[0, 1, 2, 3, 0, 1, 2, 3]]
NAMES = [f"clip{k}" for k in range(8)]


def test_sources_differ_and_levels_lie_within_the_spread():
    rng = np.random.default_rng(0)
    for sources in (2, 3):
        for _ in range(20):
            clips, gains = Mixing(sources).draw(LABELS, rng)
            assert clips.shape == gains.shape == (8, sources + 1)
            assert (clips[:, 0] == np.arange(8)).all()
            assert all(len(set(row)) == sources + 1 for row in clips.tolist())
            level = 20 * np.log10(gains[:, :sources])
            assert (np.abs(level[:, 1:] - level[:, :1]) <= SPREAD + 1e-4).all()
            assert (gains[:, -1] == 0).all()


def test_pairs_of_one_class_and_sounds_off_the_screen_are_drawn_on_demand():
    rng = np.random.default_rng(0)
    clips, gains = Mixing(2, same_class_share=1.0, offscreen_share=1.0).draw(LABELS, rng)
    assert (clips[:, 0] % 4 == clips[:, 1] % 4).all() and (gains > 0).all()
    shares = [Mixing(2, 0.5, 0.25).draw(LABELS, rng) for _ in range(200)]
    same = np.mean([(c[:, 0] % 4 == c[:, 1] % 4).mean() for c, _ in shares])
    heard = np.mean([(g[:, -1] > 0).mean() for _, g in shares])
    # Half on purpose, and one in seven of the others by chance.
    assert abs(same - (0.5 + 0.5 / 7)) < 0.05 and abs(heard - 0.25) < 0.05


def test_few_clips_repeat_rather_than_fail():
    clips, _ = Mixing(3).draw(LABELS[:2], np.random.default_rng(0))
    assert clips.shape == (2, 4) and set(clips.ravel()) == {0, 1}


def test_a_list_is_fixed_and_its_digest_tells_lists_apart():
    labels = [str(k % 4) for k in range(8)]
    one = MixtureList.of(labels, 2, False, 5)
    again = MixtureList.of(labels, 2, False, 5)
    assert one.digest(NAMES) == again.digest(NAMES)
    assert one.digest(NAMES) != MixtureList.of(labels, 2, False, 6).digest(NAMES)
    assert one.digest(NAMES) != one.digest([*NAMES[:-1], "other"])
    assert all(labels[a] != labels[b] for a, b in one.clips)
    same = MixtureList.of(labels, 2, True, 5)
    assert len(same.clips) == 8 and all(labels[a] == labels[b] and a != b for a, b in same.clips)
    assert len(MixtureList.of(labels, 3, True, 5).clips) == 0
    assert MixtureList.of(labels, 4, False, 5).clips.shape == (8, 4)
