"""The optimizer and the schedule that all tasks share.

timm has both, and is not used: its groups of parameters come in another order, and are one where nothing decays, which
optimizers in checkpoints of before do not fit; its schedulers are not PyTorch's, and take hooks of their own to step
and to be kept. Which rate a parameter learns at, of the recipe's, its task's module says.
"""

from collections.abc import Callable
from functools import partial
from math import cos, pi
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.distributed.tensor import DTensor


def adamw(
    module: nn.Module,
    steps: int,
    *,
    lr: float,
    weight_decay: float,
    warmup_steps: int,
    decay_start: float,
    schedule: str = "linear",
    at: Callable[[int], float] | None = None,
) -> OptimizerLRSchedulerConfig:
    """AdamW (Loshchilov & Hutter, ICLR 2019): a linear warm-up, and then a schedule.

    Args:
        module: its parameters that need a gradient are trained; vectors (norms, biases) do not decay.
        steps: length of the training.
        lr: peak learning rate.
        weight_decay: of matrices and kernels.
        warmup_steps: until the peak.
        decay_start: share of the training after which the rate falls.
        schedule: ``linear`` to 2 %, or ``cosine`` (Loshchilov & Hutter, ICLR 2017) to nothing.
        at: of a step, the one that the schedule is at; the same where this is not given.

    Returns:
        What Lightning's ``configure_optimizers`` returns.
    """
    # One after another where some are sharded and some are not: these do not go into one kernel.
    foreach = False if any(isinstance(p, DTensor) for p in module.parameters()) else None
    optimizer = torch.optim.AdamW(_groups(module, weight_decay), lr=lr, foreach=foreach)
    return _scheduled(optimizer, steps, warmup_steps, decay_start, schedule, at)


def sgd(
    module: nn.Module,
    steps: int,
    *,
    lr: float,
    weight_decay: float,
    warmup_steps: int,
    decay_start: float,
    schedule: str = "linear",
    at: Callable[[int], float] | None = None,
) -> OptimizerLRSchedulerConfig:
    """Gradient descent with a momentum of 0.9 (Sutskever et al., ICML 2013); else as `adamw`."""
    optimizer = torch.optim.SGD(_groups(module, weight_decay), lr=lr, momentum=0.9)
    return _scheduled(optimizer, steps, warmup_steps, decay_start, schedule, at)


OPTIMIZERS = {"adamw": adamw, "sgd": sgd}


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters by the rate that they learn at; of each, those that decay and those that do not."""
    scale_of = getattr(module, "rate_scale", lambda name: 1.0)
    scales: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scales.setdefault(scale_of(name), []).append(parameter)
    return [
        {"params": [p for p in parameters if (p.ndim > 1) == decays], "weight_decay": weight_decay * decays, "scale": k}
        for k, parameters in (scales or {1.0: []}).items()
        for decays in (True, False)
    ]


def _scheduled(
    optimizer: torch.optim.Optimizer, steps: int, warmup_steps: int, decay_start: float, schedule: str,
    at: Callable[[int], float] | None,
) -> OptimizerLRSchedulerConfig:  # fmt: skip
    decay_from = decay_start * steps

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(warmup_steps, 1))
        left = min((steps - (at(step) if at else step)) / max(steps - decay_from, 1), 1.0)
        return warm * (max(0.02, left) if schedule == "linear" else 0.5 * (1 - cos(pi * max(left, 0.0))))

    scales = [group.pop("scale") for group in optimizer.param_groups]
    factors: list[Callable[[int], float]] = [
        partial(lambda scale, step: scale * factor(step), scale) for scale in scales
    ]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
