"""Five labelled clips a class to learn from: which clips are learned from, and what the result is held against."""

import numpy as np

from avlearn.config import ModelConfig
from avlearn.evaluation import recognition
from avlearn.evaluation.clip_features import ClipFeatures
from avlearn.models.audiovisual import AudioVisual

LABELS = ["b", "a", "c"] * 20


def test_five_clips_a_class_teach_five_choose_and_the_rest_test(monkeypatch):
    """Only the trained model's features tell the classes apart."""
    model = AudioVisual(ModelConfig())
    probed = []

    def features(network: AudioVisual, cache: None, labels: np.ndarray) -> ClipFeatures:
        rng = np.random.default_rng(0)
        video = rng.normal(size=(len(labels), 40))
        if network is model:
            video[:, :30] += 8 * np.eye(3)[labels].repeat(10, axis=1)
        video[:, -1] = np.arange(len(labels))
        return ClipFeatures(video, rng.normal(size=video.shape), labels)

    def probe(*given):
        probed.append([part.video[:, -1].astype(int).tolist() for part in given[:3]])
        return real(*given)

    real = recognition.probe_features
    monkeypatch.setattr(recognition, "cached_features", features)
    monkeypatch.setattr(recognition, "probe_features", probe)
    found = {metric.name: metric for metric in recognition.recognition_metrics(model, None, LABELS, seed=0)}
    untrained, trained = probed
    assert untrained == trained
    assert sorted(clip for part in trained for clip in part) == list(range(60))
    for part, each in zip(trained, (5, 5, 10), strict=True):
        assert sorted(LABELS[clip] for clip in part) == sorted("abc" * each)
    video = found["top-1, video, 5 shots"]
    assert video.value > 0.95 and video.prior < 0.7 and video.prior_name == "random init"


def test_fewer_than_five_test_clips_a_class_say_nothing():
    assert recognition.recognition_metrics(None, None, LABELS[:42], seed=0) == []
