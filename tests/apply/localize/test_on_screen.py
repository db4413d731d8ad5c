"""Is what makes the sound on screen?"""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from avlearn.apply.confidence import calibrate
from avlearn.apply.localize.on_screen import OnScreenEvidence, on_screen_evidence, on_screen_probability
from avlearn.config import ModelConfig
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load, save


@pytest.fixture
def model():
    return AudioVisual(ModelConfig()).eval()


def test_silence_is_nothing_whatever_the_evidence(model):
    evidence = [OnScreenEvidence(1.0, 1.0, 1.0)] * 2
    found = on_screen_probability(model, evidence, np.array([0.0, 0.1]))
    assert found[0] == 0 and found[1] > 0.9


def test_without_a_calibration_timing_decides(model):
    low, even, high = on_screen_probability(model, [OnScreenEvidence(9, 9, t) for t in (-0.2, 0.0, 0.2)], np.ones(3))
    assert low < 0.05 and even == 0.5 and high > 0.95


def test_a_calibration_is_used_kept_beside_the_weights_and_dropped_with_them(model, tmp_path):
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.5
    evidence = [OnScreenEvidence(*map(float, rng.normal(0.3 * yes, 0.1, 3))) for yes in right]
    folder = tmp_path / "model"
    save(model, folder, "# a copy\n")
    (folder / "localize.json").write_text(json.dumps(calibrate(evidence, right)))
    calibrated = load(folder)
    said = on_screen_probability(calibrated, evidence, np.ones(400))
    assert ((said > 0.5) == right).mean() > 0.95
    assert asdict(evidence[0]).keys() == calibrated.calibrations.on_screen["weights"].keys()
    save(calibrated, folder, "# retrained\n")
    assert load(folder).calibrations.on_screen is None


def test_audio_of_the_moment_gives_more_evidence_than_that_of_another(model):
    torch.manual_seed(0)
    placed = torch.nn.functional.normalize(torch.randn(1, 128, 25, 8, 8), dim=1)
    own = placed[:, :, :, 3, 5]
    heat = torch.einsum("bdtyx,bdt->byx", placed, own).numpy() / 25
    (true,) = on_screen_evidence(model, placed, own, heat)
    (late,) = on_screen_evidence(model, placed, own.roll(4, 2), heat)
    assert true.height == pytest.approx(1, abs=0.1)
    assert true.timing > 0.3 > -0.3 > late.timing
    assert true.fit > late.fit


def test_audio_of_other_times_is_taken_from_before_as_from_after(model, monkeypatch):
    asked = []

    def scores(placed, heard, scale, first, offsets):
        asked.append(offsets)
        return torch.zeros(len(placed), len(offsets))

    monkeypatch.setattr("avlearn.apply.localize.on_screen.offset_scores", scores)
    on_screen_evidence(model, torch.zeros(1, 128, 25, 8, 8), torch.zeros(1, 128, 25), np.zeros((1, 8, 8)))
    assert torch.equal(asked[0], -asked[0].flip(0)) and 0 in asked[0]


def test_where_there_is_no_other_time_the_audio_counts_as_unlike_it(model):
    placed = torch.nn.functional.normalize(torch.ones(1, 128, 1, 8, 8), dim=1)
    (found,) = on_screen_evidence(model, placed, placed[:, :, :, 0, 0], np.zeros((1, 8, 8)))
    assert found.fit == pytest.approx(1, abs=1e-5)
    assert 1.5 < found.timing <= 2.0  # above the least similarity, less the soft maximum's allowance for many
