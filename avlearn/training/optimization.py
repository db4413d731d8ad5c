"""The optimizer and the schedule that all tasks share.

timm has both, and is not used: its groups of parameters come in another order, and are one where nothing decays, which
optimizers in checkpoints of before do not fit; its schedulers are not PyTorch's, and take hooks of their own to step
and to be kept. There is no decay by layer.
"""

from collections.abc import Callable
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
    at: Callable[[int], float] | None = None,
) -> OptimizerLRSchedulerConfig:
    """AdamW (Loshchilov & Hutter, ICLR 2019): linear warm-up, constant, then linear to 2 %.

    Args:
        module: its parameters that need a gradient are trained; vectors (norms, biases) do not decay.
        steps: length of the training.
        lr: peak learning rate.
        weight_decay: of matrices and kernels.
        warmup_steps: until the peak.
        decay_start: share of the training after which the rate falls.
        at: of a step, the one that the schedule is at; the same where this is not given.

    Returns:
        What Lightning's ``configure_optimizers`` returns.
    """
    # One after another where some are sharded and some are not: these do not go into one kernel.
    foreach = False if any(isinstance(p, DTensor) for p in module.parameters()) else None
    optimizer = torch.optim.AdamW(_groups(module, weight_decay), lr=lr, foreach=foreach)
    return _scheduled(optimizer, steps, warmup_steps, decay_start, at)


def sgd(
    module: nn.Module,
    steps: int,
    *,
    lr: float,
    weight_decay: float,
    warmup_steps: int,
    decay_start: float,
    at: Callable[[int], float] | None = None,
) -> OptimizerLRSchedulerConfig:
    """Gradient descent with a momentum of 0.9 (Sutskever et al., ICML 2013); else as `adamw`."""
    optimizer = torch.optim.SGD(_groups(module, weight_decay), lr=lr, momentum=0.9)
    return _scheduled(optimizer, steps, warmup_steps, decay_start, at)


OPTIMIZERS = {"adamw": adamw, "sgd": sgd}


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _scheduled(
    optimizer: torch.optim.Optimizer, steps: int, warmup_steps: int, decay_start: float,
    at: Callable[[int], float] | None,
) -> OptimizerLRSchedulerConfig:  # fmt: skip
    decay_from = decay_start * steps

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(warmup_steps, 1))
        left = (steps - (at(step) if at else step)) / max(steps - decay_from, 1)
        return warm * max(0.02, min(1.0, left))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
