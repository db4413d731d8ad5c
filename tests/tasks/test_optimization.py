"""Optimizers: what decays, how the rate goes, and that either learns."""

import pytest
import torch
from torch import nn

from avlearn.training.optimization import OPTIMIZERS, sgd


def made(name: str, **options: float) -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    settings = {"lr": 0.1, "weight_decay": 0.01, "warmup_steps": 4, "decay_start": 0.5, **options}
    found = OPTIMIZERS[name](model, 40, **settings)
    return model, found["optimizer"], found["lr_scheduler"]["scheduler"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_matrices_decay_and_the_rate_rises_stays_and_falls(name):
    model, optimizer, schedule = made(name)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all(decays[id(p)] == (0.01 if p.ndim > 1 else 0.0) for p in model.parameters())
    rates = []
    for _ in range(40):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[20] == pytest.approx(0.1)
    assert rates[30] == pytest.approx(0.05)


def test_a_rate_that_never_falls():
    _, optimizer, schedule = made("sgd", warmup_steps=0, decay_start=1.0)
    for _ in range(39):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr()[0] == 0.1


def test_momentum_carries_nine_tenths_of_a_step():
    weight = nn.Parameter(torch.zeros(2, 2))
    module = nn.ParameterList([weight])
    optimizer = sgd(module, 10, lr=1.0, weight_decay=0.0, warmup_steps=0, decay_start=1.0)["optimizer"]
    places = []
    for gradient in (1.0, 0.0):
        weight.grad = torch.full((2, 2), gradient)
        optimizer.step()
        places.append(float(weight.detach()[0, 0]))
    assert places == pytest.approx([-1.0, -1.9])
