"""Losses of separation: least at the truth, ordered as the video says or as fits best."""

import numpy as np
import pytest
import torch

from avlearn.metrics.separation import si_sdr
from avlearn.objectives.separation import (
    WAVE_LOSSES,
    best_order,
    fixed_order,
    loudness_weights,
    mask_loss,
    mask_targets,
    negative_si_sdr,
)


def waveforms(count: int = 2, sources: int = 3) -> torch.Tensor:
    return torch.randn(count, sources, 8000, generator=torch.Generator().manual_seed(0)) * 0.1


def noisy(x: torch.Tensor, level: float) -> torch.Tensor:
    return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", WAVE_LOSSES)
def test_losses_of_waveforms_fall_with_the_error_and_know_the_source(name):
    true, loss = waveforms(), WAVE_LOSSES[name]
    levels = [float(fixed_order(loss(noisy(true, level), true)).mean()) for level in (0.1, 0.03, 0.01)]
    assert levels[0] > levels[1] > levels[2]
    pairwise = loss(noisy(true, 0.01), true)
    assert pairwise.shape == (2, 3, 3) and (pairwise.argmin(2) == torch.arange(3)).all()
    silent = loss(torch.zeros_like(true).requires_grad_(), true)
    silent.sum().backward()
    assert silent.isfinite().all()


def test_si_sdr_is_the_metric():
    true = waveforms()
    found = noisy(true, 0.05) * 3
    ours = -torch.diagonal(negative_si_sdr(found, true), dim1=1, dim2=2)
    # The floors, which keep it finite, are far below this error.
    assert np.allclose(ours, si_sdr(found.numpy(), true.numpy()), atol=0.03)


def test_the_best_order_finds_tracks_that_were_exchanged():
    true = waveforms()
    exchanged = noisy(true, 0.01)[:, [2, 0, 1]]
    loss = WAVE_LOSSES["snr"]
    assert torch.allclose(best_order(loss(exchanged, true)), fixed_order(loss(noisy(true, 0.01), true)))
    assert (fixed_order(loss(exchanged, true)) > best_order(loss(exchanged, true)) + 10).all()


@pytest.mark.parametrize("kind", ["ratio", "binary", "phase_sensitive"])
@pytest.mark.parametrize("loss", ["bce", "l1"])
def test_masks_are_best_where_they_are_the_ideal_ones(kind, loss):
    spectra = torch.fft.rfft(waveforms().unfold(2, 256, 128)).transpose(2, 3)  # complex [B, K, F, N]
    mixture = spectra.sum(1)
    targets = mask_targets(kind, spectra, mixture, lambda bins: bins)
    assert targets.shape == spectra.shape and targets.min() >= 0 and targets.max() <= 1
    if kind != "phase_sensitive":
        assert torch.allclose(targets.sum(1), torch.ones_like(targets[:, 0]), atol=1e-5)
    ideal = targets.clamp(1e-4, 1 - 1e-4).logit()
    weights = loudness_weights(mixture.abs())
    at_truth = fixed_order(mask_loss(loss, ideal, targets, weights))
    for other in (ideal + 1, ideal - 1, ideal * 0):
        assert (fixed_order(mask_loss(loss, other, targets, weights)) > at_truth).all()


def test_errors_count_where_the_mixture_is_loud():
    assert loudness_weights(torch.tensor([0.0, 1.0, 7.0])).tolist() == pytest.approx(
        [0.02, 0.02 + 2 * np.log(2), 3.111], abs=1e-3
    )
    weights = loudness_weights(torch.tensor([[[10.0, 0.0]]]))
    targets = torch.zeros(1, 1, 1, 2)
    for loss in ("bce", "l1"):
        in_sound = mask_loss(loss, torch.tensor([[[[9.0, -9.0]]]]), targets, weights)
        in_silence = mask_loss(loss, torch.tensor([[[[-9.0, 9.0]]]]), targets, weights)
        assert in_sound > 50 * in_silence


def test_phase_sensitive_masks_come_nearest_to_the_sources():
    spectra = torch.fft.rfft(waveforms().unfold(2, 256, 128)).transpose(2, 3)
    mixture = spectra.sum(1)
    errors = {}
    for kind in ("ratio", "binary", "phase_sensitive"):
        masks = mask_targets(kind, spectra, mixture, lambda bins: bins)
        errors[kind] = float((masks * mixture[:, None] - spectra).abs().square().sum())
    assert errors["phase_sensitive"] < min(errors["ratio"], errors["binary"])
