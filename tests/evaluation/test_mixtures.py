"""Which sounds are mixed to measure a separator, and what its tracks are held against."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avlearn.data.manifest import Row
from avlearn.evaluation import separation

SAMPLES, STEPS = 4000, 5
LABELS = ["bell", "drum"] * 4


class Clips:
    """Noise of each clip, and its number as all that is seen of it."""

    def __init__(self, *_: object) -> None:
        self.features, self.steps = torch.zeros(len(LABELS), 1, STEPS), STEPS
        self.audio = np.random.default_rng(0).normal(size=(len(LABELS), SAMPLES)).astype(np.float32)

    def cut(self, clip: int, first: int) -> tuple[np.ndarray, np.ndarray]:
        return self.audio[clip], np.full((1, STEPS), clip, np.float32)


@pytest.fixture
def mixed(monkeypatch) -> list[list[set[str]]]:
    """The labels of the mixtures of each list, as they are separated by one who knows all sounds."""
    lists: list[list[set[str]]] = []
    clips = Clips()

    def mixtures(*given):
        made = make(*given)
        lists.append([{LABELS[int(seen[0, 0])] for seen in queries} for queries in made.queries])
        return made

    def separate(model: object, mixture: np.ndarray, queries: np.ndarray) -> np.ndarray:
        alone = clips.audio[queries[:, :, 0, 0].astype(int)]
        gains = np.einsum("ms,mks->mk", mixture, alone) / np.square(alone).sum(-1)
        return gains[:, :, None] * alone

    make = separation.make_mixtures
    monkeypatch.setattr(separation, "SeenClips", lambda *_: clips)
    monkeypatch.setattr(separation, "make_mixtures", mixtures)
    monkeypatch.setattr(separation, "separate_mixtures", separate)
    monkeypatch.setattr(separation, "bss_eval_metrics", lambda *_: [])
    ideal = ("phase-sensitive", "binary", "ratio")
    monkeypatch.setattr(separation, "ideal_mask_tracks", lambda model, truth: dict.fromkeys(ideal, truth))
    return lists


def test_one_who_knows_all_sounds_separates_each_kind_of_mixture(mixed):
    config = SimpleNamespace(sources=2, conditioning="film")
    separator = SimpleNamespace(config=config)
    model = SimpleNamespace(config=SimpleNamespace(separator=config, seconds=1.0), require_separator=lambda: separator)
    rows = [Row(Path(f"{k}.mp4"), labels=(label,)) for k, label in enumerate(LABELS)]
    metrics, digests = separation.separation_metrics(model, None, rows, seed=0)
    different, same = mixed
    assert len(different) == len(same) == len(LABELS) and len(set(digests)) == 2
    assert all(labels == {"bell", "drum"} for labels in different) and all(len(labels) == 1 for labels in same)
    improvements = {m.name: m.value for m in metrics if m.name.startswith("SI-SDRi")}
    for kind in ("different classes", "same class", "on and off screen"):
        assert min(value for name, value in improvements.items() if kind in name) > 15, improvements
    assert all(m.value == 1.0 for m in metrics if m.name.startswith("assignment"))
