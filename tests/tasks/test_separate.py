"""Separation: on one clock, of the right sources, by every loss and conditioning."""

import numpy as np
import pytest
import torch

from avlearn.config import ModelConfig, Separator
from avlearn.data.cache import ClipCache
from avlearn.data.mixing import Mixing
from avlearn.models.audiovisual import AudioVisual
from avlearn.tasks.separate.module import SeenClips, SeparateModule, SeparationLoss

SMALL = Separator(channels=(4, 4, 8, 8, 8), window=0.032, hop=0.016, bins=32)
LIGHT = {"flip": False, "brightness": 0.0, "contrast": 0.0, "colour": 0.0}


def model_with(**separator: object) -> AudioVisual:
    torch.manual_seed(0)
    return AudioVisual(ModelConfig(separator=SMALL.model_copy(update=separator)))


def clips(count: int = 4, seconds: float = 4.0) -> ClipCache:
    """Each sample of the audio is its own time and clip."""
    times = np.arange(round(seconds * 16000), dtype=np.float32) / 16000
    audio = np.stack([times + 100 * i for i in range(count)])
    video = np.random.default_rng(0).integers(0, 255, (count, round(seconds * 25), 32, 32, 3), dtype=np.uint8)
    return ClipCache(video, audio, 25.0, 16000)


def test_features_and_audio_are_of_the_same_seconds():
    model = model_with()
    seen = SeenClips(model, clips(), torch.zeros(4, 1, dtype=torch.bool), 2.0)
    steps = seen.features.shape[2]
    seen.features = np.stack([np.arange(steps, dtype=np.float32)[None] * model.step + 100 * i for i in range(4)])
    for seed in range(20):
        item = seen[(seed % 4, seed)]
        assert len(item["audio"]) == 32000 and item["features"].shape == (1, 25)
        assert float(item["audio"][0]) == pytest.approx(float(item["features"][0, 0]), abs=1e-4)


def step_of(task: SeparateModule, batch: dict, seed: int = 0) -> torch.Tensor:
    task.train()
    loss = task.mixture_loss(batch, np.random.default_rng(seed), True)
    loss.backward()
    return loss


def batch_of(model: AudioVisual, count: int = 4) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        "audio": torch.randn(count, 16000, generator=generator) * 0.1,
        "labels": torch.eye(count, dtype=torch.bool),
        "video": torch.randint(0, 255, (count, 25, 32, 32, 3), generator=generator, dtype=torch.uint8),
    }


@pytest.mark.parametrize(
    ("separator", "loss"),
    [
        ({}, {}),
        ({"mask": "binary", "conditioning": "product", "query": "pooled"}, {}),
        ({"mask": "ratio", "conditioning": "bottleneck"}, {"name": "l1"}),
        ({"mask": "ratio", "conditioning": "bottleneck"}, {"name": "l1", "places": 2}),
        ({"mask": "complex", "scale": "linear"}, {"name": "snr"}),
        ({"mask": "complex", "scale": "linear"}, {"name": "multi_stft"}),
        ({"mask": "ratio"}, {"name": "si_sdr"}),
        ({"conditioning": "none", "sources": 3}, {}),
        ({"conditioning": "none"}, {"name": "snr"}),
    ],
)
def test_every_kind_learns_and_towers_stay(separator, loss):
    model = model_with(**separator)
    mixing = Mixing(model.config.separator.sources, 0.0, 0.5)
    task = SeparateModule(model, SeparationLoss(**loss), mixing, LIGHT, 0)
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("separator.")}
    batch = batch_of(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        losses.append(float(step_of(task, batch)))
        optimizer.step()
    assert np.isfinite(losses).all() and min(losses[-3:]) < losses[0]
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_wrong_mask_counts_where_the_mixture_is_loud():
    """Not where it is silent: there no mask is right."""
    model = model_with(mask="ratio", conditioning="none", scale="linear")
    spectrum = torch.fft.rfft(torch.randn(4, 16000))
    spectrum[:, 4000:] = 0  # the upper half
    batch = {"audio": torch.fft.irfft(spectrum, 16000) * 0.3, "labels": torch.eye(4, dtype=torch.bool)}
    task = SeparateModule(model, SeparationLoss(name="l1"), Mixing(2), LIGHT, 0)
    bins, losses = model.separator.bins, {}
    for name, wrong in (("none", slice(0)), ("loud", slice(bins // 2 - 2)), ("silent", slice(bins // 2 + 2, bins))):

        def found(mixture, *_, wrong=wrong):
            logits = torch.zeros(len(mixture), 2, 1, bins, mixture.shape[-1])
            logits[:, :, :, wrong] = 20.0
            return logits

        model.separator.forward = found
        losses[name] = float(task.mixture_loss(batch, np.random.default_rng(0), False))
    assert losses["loud"] - losses["none"] > 0.1
    assert abs(losses["silent"] - losses["none"]) < 0.1 * (losses["loud"] - losses["none"])


def test_the_video_tower_learns_where_it_is_to():
    model = model_with(conditioning="product", query="pooled", mask="binary")
    task = SeparateModule(model, SeparationLoss(), Mixing(2), LIGHT, 0, train_video=True)
    step_of(task, batch_of(model))
    assert all(p.grad is not None for p in model.video.parameters())
    assert all(p.grad is None for p in model.audio.parameters())


def test_what_is_drawn_depends_on_the_step_alone():
    batch = None
    losses = []
    for _ in range(2):
        model = model_with()
        batch = batch or batch_of(model)
        task = SeparateModule(model, SeparationLoss(), Mixing(2), LIGHT, 3)
        losses.append([float(step_of(task, batch, seed)) for seed in (1, 2, 1)])
    assert losses[0] == losses[1]
