"""The U-Net of separation: on one clock, in every form, and alike at every sample rate."""

from itertools import product

import pytest
import torch

from avlearn.config import Separator
from avlearn.models.unet import MaskUNet, at_frames, log_frequency_warp

BIN = 15.625  # Hz, of 1024 samples at 16 kHz


def unet(**options: object) -> MaskUNet:
    """Small, and not as it begins: what is zero before training would hide what it is for."""
    torch.manual_seed(0)
    net = MaskUNet(6, Separator(channels=(4, 4, 8, 8, 8), bins=64, **options), 8000.0, BIN).eval()
    with torch.no_grad():
        for weights in net.parameters():
            if not weights.any():
                weights.normal_(0, 0.5)
    return net


def differ(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a - b).abs().max() > 1e-4


def mixture(frames: int = 50, bins: int = 513) -> torch.Tensor:
    return torch.randn(1, bins, frames, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def seen(sources: int = 2, frames: int = 50) -> torch.Tensor:
    return torch.randn(1, sources, 6, frames, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("conditioning", "mask"),
    product(("film", "bottleneck", "product"), ("ratio", "binary", "phase_sensitive", "complex")),
)
def test_masks_follow_what_is_seen(conditioning, mask):
    net = unet(conditioning=conditioning, mask=mask, scale="linear" if mask == "complex" else "log")
    with torch.no_grad():
        sight = seen()
        masks = net.masks(net(mixture(), BIN, sight), 513, BIN)
        exchanged = net.masks(net(mixture(), BIN, sight.flip(1)), 513, BIN)
    assert masks.shape == (1, 2, 513, 50) and masks.is_complex() == (mask == "complex")
    assert torch.allclose(exchanged, masks.flip(1), atol=1e-5)
    if mask != "binary":
        assert differ(masks[:, 0], masks[:, 1])
    if mask != "complex":
        assert masks.min() >= 0 and masks.max() <= 1


def test_binary_masks_take_what_is_more_likely_a_source_s_than_not():
    net = unet(mask="binary", scale="linear")
    likely = torch.tensor([0.02, 0.3, 0.49, 0.51, 0.7, 0.98]).logit()
    found = likely.repeat(11)[:64].view(1, 1, 1, 64, 1)
    masks = net.masks(found, 64, BIN)
    assert torch.equal(masks.flatten(), (found.flatten() > 0).float())
    # In training it is the likelihood, which has a gradient.
    assert torch.allclose(net.train().masks(found, 64, BIN).flatten(), found.flatten().sigmoid())


def test_sources_know_of_each_other_unless_they_are_alone():
    net = unet()
    with torch.no_grad():
        sight, spectrum = seen(), mixture()
        both = net(spectrum, BIN, sight)
        lone = net(spectrum, BIN, sight[:, :1])
        apart = net(spectrum, BIN, sight, torch.tensor([True]))
    assert torch.allclose(apart[:, :1], lone, atol=1e-5)
    assert differ(both[:, :1], lone)


def test_what_sees_nothing_has_outputs_that_differ():
    net = unet(conditioning="none", sources=3)
    with torch.no_grad():
        found = net(mixture(), BIN, None)
    assert found.shape[1] == 3
    assert differ(found[:, 0], found[:, 1])


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_more_and_fewer_bins_are_those_of_other_sample_rates(scale):
    net = unet(scale=scale)
    low, high = mixture(bins=257), mixture(bins=1537)
    for spectrum in (low, high):
        with torch.no_grad():
            masks = net.masks(net(spectrum, BIN, seen()), spectrum.shape[1], BIN)
        assert masks.shape[2] == spectrum.shape[1]
    assert torch.allclose(masks[:, :, 513:], masks[:, :, 1536:].expand(-1, -1, 1024, -1), atol=1e-5)
    # What lies above the training's highest bin does not matter.
    cut = high.clone()
    cut[:, 513:] = 0
    with torch.no_grad():
        again = net.masks(net(cut, BIN, seen()), 1537, BIN)
    assert torch.allclose(masks, again, atol=1e-5)


def test_features_are_taken_at_the_instants_of_frames():
    """A ramp over the steps read at the frames' instants is the ramp of time itself."""
    step, hop, frames = 0.08, 0.032, 50
    ramp = torch.arange(25)[None, None] * step
    found = at_frames(ramp, step, hop, frames)[0, 0]
    assert torch.allclose(found, torch.arange(frames) * hop, atol=1e-5)


def test_the_warp_to_bands_and_back_keeps_a_smooth_spectrum():
    hz = torch.arange(513) * 15.625
    there, back = log_frequency_warp(513, 15.625, 128, 8000.0)
    smooth = torch.exp(-(((hz - 1500) / 900) ** 2))[:, None]
    assert torch.allclose(there.sum(1), torch.ones(128), atol=1e-5)
    assert (back @ (there @ smooth) - smooth).abs().max() < 0.02
