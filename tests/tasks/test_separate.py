"""Separation on one clock: features and sound of a mixture are cut at the same instants."""

import numpy as np

from avlearn.tasks.separate import Mixtures


def test_features_and_sound_of_a_mixture_are_of_the_same_seconds():
    """Each sample and each feature carries its own time: a crop has to agree to the step."""
    rate, step = 16000, 0.08
    seconds = np.arange(4 * rate, dtype=np.float32) / rate
    audio = np.stack([seconds + 100 * i for i in range(4)])
    steps = np.arange(50, dtype=np.float32) * step
    features = np.stack([np.stack([steps + 100 * i]) for i in range(4)])
    mixtures = Mixtures(audio, features, None, 0.0, 2.0, step, rate)
    for seed in range(20):
        item = mixtures[(seed % 4, seed)]
        assert item["index"][0] != item["index"][1]
        for k in range(2):
            level = float((item["stems"][k, -1] - item["stems"][k, 0]) / (seconds[31999] - seconds[0]))
            start = float(item["stems"][k, 0]) / level
            assert abs(start - float(item["features"][k, 0, 0])) < 1e-2


def test_pairs_of_one_class_are_drawn_on_demand():
    audio, features = np.zeros((6, 64000), np.float32), np.zeros((6, 4, 50), np.float32)
    labels = ["a", "b", "a", "b", "a", "b"]
    mixtures = Mixtures(audio, features, labels, 1.0, 2.0, 0.08, 16000)
    for seed in range(12):
        first, second = mixtures[(seed % 6, seed)]["index"].tolist()
        assert labels[first] == labels[second]
        assert first != second
