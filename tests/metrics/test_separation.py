import warnings

import numpy as np
import pytest
import torch

from avlearn.metrics.separation import (
    LIMIT,
    assignment_accuracy,
    best_order_improvement,
    ideal_ratio_mask,
    separation,
    si_sdr,
    si_sdr_improvement,
)

RATE = 8000


def sources(count: int = 2, items: int = 3) -> np.ndarray:
    """Tones of different pitch, amplitude modulated: ``[items, count, 2 s]``."""
    rng = np.random.default_rng(0)
    t = np.arange(2 * RATE) / RATE
    pitch = rng.uniform(200, 300, (items, count, 1)) * (1 + np.arange(count))[None, :, None]
    beat = rng.uniform(2, 5, (items, count, 1))
    return np.sin(2 * np.pi * pitch * t) * (1.2 + np.sin(2 * np.pi * beat * t))


def test_si_sdr_follows_the_formula():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=4000)
    noise = rng.normal(size=4000)
    reference -= reference.mean()
    noise -= noise.mean()
    noise -= noise @ reference / (reference @ reference) * reference  # orthogonal: the ratio is known
    noise *= np.linalg.norm(reference) / np.linalg.norm(noise)
    for decibel in (-10.0, 0.0, 23.0):
        estimate = reference + noise * 10 ** (-decibel / 20)
        assert si_sdr(estimate, reference) == pytest.approx(decibel, abs=1e-9)
        assert si_sdr(-0.3 * estimate + 7, 5 * reference - 2) == pytest.approx(decibel, abs=1e-9)
        quiet = (1e-7 * estimate, 1e-7 * reference)
        assert si_sdr(*quiet) == pytest.approx(decibel, abs=1e-6)


def test_si_sdr_at_its_limits():
    reference = np.random.default_rng(2).normal(size=(2, 100))
    with warnings.catch_warnings(action="error"):
        assert (si_sdr(reference, reference) == LIMIT).all()
    assert (si_sdr(np.zeros_like(reference), reference) == -LIMIT).all()
    assert np.isnan(si_sdr(reference, np.zeros_like(reference))).all()


def test_improvement_is_over_the_mixture():
    truth = sources()
    mixture = truth.sum(1)
    same = np.repeat(mixture[:, None], 2, 1)
    assert si_sdr_improvement(same, truth, mixture).value == pytest.approx(0, abs=1e-9)
    leaky = truth + 0.1 * truth[:, ::-1]
    metric = si_sdr_improvement(leaky, truth, mixture, ideal=truth)
    by_hand = np.mean(
        [si_sdr(leaky[n, k], truth[n, k]) - si_sdr(mixture[n], truth[n, k]) for n in range(3) for k in range(2)]
    )
    assert metric.value == pytest.approx(by_hand) and metric.value > 15
    # Crossed tracks lose as much as straight ones gain.
    assert metric.chance == pytest.approx(0, abs=0.1)
    assert metric.value < metric.oracle
    assert (metric.prior, metric.prior_name, metric.unit, metric.n) == (0.0, "mixture", "dB", 3)


@pytest.mark.parametrize("count", [2, 3])
def test_assignment_swapped_and_tied_tracks_are_wrong(count):
    truth = sources(count)
    tracks = truth.copy()
    tracks[0] = truth[0, ::-1]
    tracks[1] = truth[1].sum(0)
    metric = assignment_accuracy(tracks, truth)
    assert metric.value == pytest.approx(1 / 3)
    assert metric.chance == pytest.approx({2: 1 / 2, 3: 1 / 6}[count])


def test_silent_references_are_left_out_and_counted():
    truth = sources()
    truth[1, 0] = 0
    gain, assigned = separation(truth, truth, None, "x")
    assert gain.n == assigned.n == 2 and gain.oracle is None
    with pytest.raises(ValueError, match="no item"):
        assignment_accuracy(truth[1:2], truth[1:2])


def test_ideal_ratio_mask_separates_and_adds_up():
    truth = sources()
    mixture = truth.sum(1)
    ideal = ideal_ratio_mask(truth, mixture, 512, 128)
    assert ideal.shape == truth.shape
    np.testing.assert_allclose(ideal.sum(1), mixture, atol=1e-6)
    assert si_sdr_improvement(ideal, truth, mixture).value > 15
    noisy = mixture + np.random.default_rng(3).normal(size=mixture.shape)
    tracks = ideal_ratio_mask(truth, noisy, 512, 128)
    assert si_sdr(tracks, truth).mean() > si_sdr(noisy[:, None], truth).mean() + 8
    assert np.square(tracks.sum(1) - noisy).mean() > 0.5  # the noise has a share of its own


def test_the_best_order_is_that_of_each_item():
    truth = sources(3)
    mixture = truth.sum(1)
    leaky = truth + 0.1 * truth[:, [1, 2, 0]]
    given = si_sdr_improvement(leaky, truth, mixture)
    mixed = np.stack([leaky[0], leaky[1, [2, 0, 1]], leaky[2, [1, 0, 2]]])
    best = best_order_improvement(mixed, truth, mixture, "x")
    assert best.value == pytest.approx(given.value) and best.value > 10
    assert (best.name, best.prior, best.n, best.unit) == ("SI-SDRi, x, audio alone, in the best order", 0.0, 3, "dB")
    assert best_order_improvement(mixed, truth, mixture).name == "SI-SDRi, audio alone, in the best order"


def test_ideal_masks_are_shares_of_a_hann_transform():
    truth = torch.from_numpy(sources(2, 1)[0])
    window = torch.hann_window(512, dtype=torch.float64)

    def stft(x: torch.Tensor) -> torch.Tensor:
        return torch.stft(x, 512, 128, window=window, pad_mode="constant", return_complex=True)

    shares = stft(truth).abs()
    masked = shares / shares.sum(0) * stft(truth.sum(0))
    expected = torch.istft(masked, 512, 128, window=window, length=truth.shape[1]).numpy()
    found = ideal_ratio_mask(truth.numpy(), truth.sum(0).numpy(), 512, 128)
    np.testing.assert_allclose(found[:, 600:-600], expected[:, 600:-600], atol=1e-9)
