"""Every family is exported whole, and compiled without a break: one tiny network of each."""

import shutil

import pytest
import torch
from families import FAMILIES, Family
from torch import nn

from avlearn.models.video.resnet import VideoResNet, flat, simple_stem
from avlearn.models.video.timesformer import TimeSformer

# Convolutions of clips, attention, convolutions of spectrograms. One block, which has all kinds of layers: each more is
# the same code again, and takes ten seconds to compile.
REALLY_COMPILED = {
    "r2d": Family(
        lambda: VideoResNet(
            simple_stem(3, 8, 3), (1, 2), (1,), [flat], width=8, space_strides=(2,), mean=(0.45,) * 3, std=(0.225,) * 3
        ),
        (3, 4, 32, 32),
    ),
    "timesformer": Family(lambda: TimeSformer(frames=8, size=64, dim=48, depth=1, heads=4), (3, 8, 64, 64), 4.0),
    "conv2d": FAMILIES["conv2d"],
}


def built(family: Family) -> tuple[nn.Module, torch.Tensor]:
    """The network and two inputs."""
    return family.classifier(3).eval(), torch.rand(2, *family.shape)


def passed_through(model: nn.Module, run: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Scores, and the gradients of what they come to."""
    model.zero_grad()
    scores = run(x)
    scores.square().sum().backward()
    return scores.detach(), {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}


def assert_the_same(model: nn.Module, compiled: nn.Module, x: torch.Tensor) -> None:
    found, wanted = passed_through(model, compiled, x), passed_through(model, model, x)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert wanted[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_exported_it_gives_the_same(name):
    model, x = built(FAMILIES[name])
    with torch.no_grad():
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_it_is_one_graph_that_learns_the_same(name):
    torch.compiler.reset()
    model, x = built(FAMILIES[name])
    assert_the_same(model, torch.compile(model, fullgraph=True, backend="eager"), x)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("name", REALLY_COMPILED)
def test_code_made_of_it_gives_the_same(name):
    torch.compiler.reset()
    model, x = built(REALLY_COMPILED[name])
    assert_the_same(model, torch.compile(model, fullgraph=True), x)
