"""Is a track the sound of its own place?"""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from avlearn.apply.confidence import calibrate
from avlearn.apply.separate.track_confidence import TrackEvidence, TrackSimilarity, track_confidence, track_similarity
from avlearn.config import ModelConfig
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load, save


@pytest.fixture
def model():
    return AudioVisual(ModelConfig()).eval()


def test_a_silent_track_has_no_evidence_and_no_confidence(model):
    heard = TrackSimilarity(np.array([[0.9, 0.2, 0.1], [0, 0, 0]]), np.array([1.0, 0.0]), np.array([0.5, 0.0, 1.0]))
    first, second = heard.evidence()
    assert first == TrackEvidence(0.9, pytest.approx(0.7), pytest.approx(np.log10(0.5), abs=1e-4))
    assert second is None
    assert track_confidence(model, first) > 0.9 and track_confidence(model, second) == 0


def test_stretches_count_by_how_loud_the_track_is_there():
    loud = TrackSimilarity(np.array([[4 * 0.8, 4 * 0.1]]), np.array([4.0]), np.array([1.0, 1.0]))
    soft = TrackSimilarity(np.array([[1 * -0.2, 1 * 0.1]]), np.array([1.0]), np.array([0.0, 1.0]))
    (found,) = (TrackSimilarity.none(1) + loud + soft).evidence()
    assert found.fit == pytest.approx(0.6) and found.margin == pytest.approx(0.5)
    assert found.share == pytest.approx(np.log10(0.5), abs=1e-4)


def test_without_a_calibration_the_margin_decides(model):
    low, even, high = (track_confidence(model, TrackEvidence(9, margin, 0)) for margin in (-0.2, 0.0, 0.2))
    assert low < 0.05 and even == 0.5 and high > 0.95


def test_a_calibration_is_used_kept_beside_the_weights_and_dropped_with_them(model, tmp_path):
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.5
    evidence = [TrackEvidence(*map(float, rng.normal(0.3 * yes, 0.1, 3))) for yes in right]
    folder = tmp_path / "model"
    save(model, folder, "# a copy\n")
    (folder / "separate.json").write_text(json.dumps(calibrate(evidence, right)))
    calibrated = load(folder)
    said = np.array([track_confidence(calibrated, each) for each in evidence])
    assert ((said > 0.5) == right).mean() > 0.95
    assert asdict(evidence[0]).keys() == calibrated.calibrations.tracks["weights"].keys()
    save(calibrated, folder, "# retrained\n")
    assert load(folder).calibrations.tracks is None


def test_tracks_at_each_others_places_have_less_evidence():
    """What is seen is made to look as what is heard sounds."""
    model, rate = load("default"), 16000
    t = np.arange(3 * rate) / rate
    tracks = np.stack([np.sin(2 * np.pi * hz * t) * (0.6 + 0.4 * np.sign(np.sin(2 * np.pi * pace * t)))
                       for hz, pace in ((300, 1.3), (2500, 0.9))]).astype(np.float32)[:, None]  # fmt: skip
    with torch.inference_mode():
        heard = model.project_audio(model.audio_features(torch.from_numpy(tracks[:, 0])))
    steps = heard.shape[2]
    placed = torch.zeros(1, heard.shape[1], steps, 8, 8)
    placed[0, :, :, 2, 2], placed[0, :, :, 5, 5] = heard
    weights = torch.zeros(2, steps, 8, 8)
    weights[0, :, 2, 2] = weights[1, :, 5, 5] = 1
    model.project_video = lambda features: features
    found = [
        track_similarity(model, tracks.sum(0), tracks, rate, placed, w, slice(0, steps))
        for w in (weights, weights.flip(0))
    ]
    right, wrong = (one.evidence() for one in found)
    for true, false in zip(right, wrong, strict=True):
        assert true.fit == pytest.approx(1, abs=1e-3) and true.fit > false.fit
        assert true.margin > 0 > false.margin
        assert true.share == false.share
