"""Folding batch norms away changes no result, and says where it cannot."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.video import r2plus1d_18

from avlearn.config import RecognizerConfig
from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.fuse import fuse, fuse_recognizer
from avlearn.models.fused_attention import FusedAttention
from avlearn.models.recognizer import Recognizer
from avlearn.models.video.mvit import MViT


def shaken(model: nn.Module) -> nn.Module:
    """Norms with statistics of their own, so that folding them is no small thing."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize(
    "build", [r2plus1d_18, *(partial(create_model, name, num_classes=7) for name in ("slowfast_tiny", "x3d_xs"))]
)
def test_results_stay_and_norms_go(build):
    model = shaken(build())
    x = torch.rand(2, 3, 8, 32, 32)
    fused = fuse(model, torch.rand(1, 3, 8, 32, 32))
    with torch.inference_mode():
        assert torch.allclose(fused(x), model(x), rtol=1e-3, atol=1e-4)
    assert any(isinstance(m, nn.BatchNorm3d) for m in model.modules())
    assert not any(isinstance(m, nn.BatchNorm3d) for m in fused.modules())
    kernels = [p for p in fused.parameters() if p.ndim == 5]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last_3d) for kernel in kernels)


def test_a_convolution_that_is_used_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.conv(x)
            return x + self.norm(x)

    with pytest.raises(ModelError, match="cannot be folded"):
        fuse(shaken(Twice()), torch.rand(1, 3, 8, 8))


def test_linear_layers_give_the_same_results_and_still_learn():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3, bias=False))
    fused = fuse(model, torch.rand(1, 5))
    x = torch.rand(2, 4, 5)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), model(x))
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(fused(x), model(x))
    fused(x).sum().backward()
    assert all(weight.grad is not None for weight in fused.parameters())


@pytest.mark.parametrize("improved", [False, True])
@pytest.mark.parametrize("clip", [(4, 32, 32), (6, 64, 32), (2, 96, 64)])
def test_attention_with_relative_positions_gives_the_same_results(improved, clip):
    torch.manual_seed(0)
    model = MViT(4, 32, (1, 1, 1), width=32, improved=improved).eval()
    for name, weight in model.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(weight, std=0.5)
    x = torch.rand(2, 3, *clip)
    fused = fuse(model, x)
    assert any(isinstance(module, FusedAttention) for module in fused.modules())
    assert not any(isinstance(module, FusedAttention) for module in model.modules())
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fused.forward_features(x), model.forward_features(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", ["video", "audio", "both"])
def test_a_recognizer_keeps_its_scores_shares_and_precision(inputs):
    config = RecognizerConfig(
        inputs=inputs, video="slowfast_tiny", audio="conv2d_tiny", labels=("a", "b", "c"), fps=8.0, seconds=1.0, size=32
    )
    torch.manual_seed(0)
    recognizer = shaken(Recognizer(config))
    recognizer.precision = torch.bfloat16
    fused = fuse_recognizer(recognizer)
    assert fused is not recognizer
    assert fused.precision == recognizer.precision == torch.bfloat16
    assert not any(isinstance(module, nn.BatchNorm3d) for module in fused.modules())
    recognizer.precision = fused.precision = None
    video = torch.rand(2, 3, 8, 32, 32) if config.sees else None
    audio = torch.rand(2, 16000) - 0.5 if config.hears else None
    with torch.inference_mode():
        torch.testing.assert_close(fused(video, audio), recognizer(video, audio), rtol=1e-3, atol=1e-4)


def test_a_recognizer_whose_norms_cannot_be_folded_stays_as_it_is(monkeypatch):
    def refuse(*_):
        raise ModelError("no")

    monkeypatch.setattr("avlearn.models.fuse.fuse", refuse)
    recognizer = Recognizer(RecognizerConfig(inputs="audio", audio="conv2d_tiny", labels=("a", "b")))
    assert fuse_recognizer(recognizer) is recognizer
