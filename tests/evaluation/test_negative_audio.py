"""The threshold of maps under negative audio is chosen on other clips than those that are measured."""

import numpy as np

from avlearn.config import ModelConfig
from avlearn.evaluation import negative_audio
from avlearn.models.audiovisual import AudioVisual


def test_clips_that_choose_the_threshold_are_not_measured(monkeypatch):
    model, count = AudioVisual(ModelConfig()), 9
    numbered = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None], (count, 4, 4))
    kinds = (negative_audio.OWN, *negative_audio.KINDS)
    seen = {}

    def numbers(maps: dict[str, np.ndarray]) -> list[list[int]]:
        return [maps[kind][:, 0, 0].round().astype(int).tolist() for kind in negative_audio.KINDS]

    def choose(maps: dict[str, np.ndarray]) -> float:
        seen["chosen"] = numbers(maps)
        return 0.5

    def measure(own: np.ndarray, truth: np.ndarray, negatives: dict[str, np.ndarray], threshold: float) -> list:
        seen["measured"] = [own[:, 0, 0].round().astype(int).tolist(), *numbers(negatives)]
        assert len(own) == len(truth) and threshold == 0.5
        return []

    monkeypatch.setattr(
        negative_audio, "heard_with", lambda *_: {kind: (numbered, [None] * count, np.ones(count)) for kind in kinds}
    )
    monkeypatch.setattr(negative_audio, "mean_boxes", lambda rows, *_: np.tile([0.0, 0.0, 0.5, 0.5], (count, 1)))
    monkeypatch.setattr(negative_audio, "universal_threshold", choose)
    monkeypatch.setattr(negative_audio, "negative_audio", measure)
    monkeypatch.setattr(negative_audio, "on_screen_probability", lambda model, evidence, levels: np.zeros(count))
    negative_audio.negative_audio_metrics(model, None, [None] * count, seed=0)
    assert seen["chosen"] == [[0, 2, 4, 6, 8]] * 3
    assert seen["measured"] == [[1, 3, 5, 7]] * 4
