"""What a step takes is told before it is taken."""

import resource

import pytest
import torch

from avlearn.config import ModelConfig
from avlearn.errors import RecipeError
from avlearn.models.audiovisual import AudioVisual
from avlearn.tasks import load_recipe
from avlearn.tasks.synchronize import footprint as module
from avlearn.tasks.synchronize.footprint import Footprint, check_footprint, footprint, kept_bytes


def recipe(*words: str, name: str = "sync_world"):
    return load_recipe(name, words)


def test_shapes_alone_tell_what_a_step_keeps():
    """As much as where it is computed."""
    model = AudioVisual(ModelConfig())
    real = kept_bytes(model, torch.rand(2, 3, 50, 32, 32), torch.randn(2, 32000) * 0.1)
    with torch.device("meta"):
        empty = AudioVisual(ModelConfig())
    told = kept_bytes(
        empty.to("meta"), torch.empty(2, 3, 50, 32, 32, device="meta"), torch.empty(2, 32000, device="meta")
    )
    assert told == pytest.approx(real, rel=0.02)


def test_it_grows_with_the_batch_and_not_with_its_parts():
    one, two = (footprint(recipe(f"trainer.batch_size={size}")) for size in (8, 16))
    parts = footprint(recipe("trainer.batch_size=16", "trainer.accumulate=2"))
    mixed = footprint(recipe("trainer.batch_size=16", "trainer.precision=bf16-mixed"))
    assert two.activations == pytest.approx(2 * one.activations, rel=0.02)
    assert parts == one
    assert mixed.activations == two.activations // 2
    assert footprint(recipe("trainer.checkpoint_activations=true")).activations is None
    assert one.weights == two.weights
    assert footprint(recipe("optimizer=sgd")).weights * 4 == one.weights * 3


def test_what_does_not_fit_is_refused_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr(module, "_memory", lambda accelerator: 16 * 2**30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        RecipeError, match=r"^trainer\.batch_size: a step of 5 clips takes more than the memory: .* lower"
    ):
        check_footprint(recipe("data.train=x", name="owens_efros_audioset"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    assert check_footprint(recipe()).fits


def test_the_line_says_all():
    assert Footprint(2**30, 3 * 2**29, 2**34).text() == (
        "1.00 GiB of weights, gradients and optimizer; activations 1.50 GiB; there are 16.0 GiB"
    )
    assert "computed again" in Footprint(1, None, 2).text()
    assert not Footprint(2**30, 2**30, 2**30).fits
