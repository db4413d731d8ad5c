"""The optimizer and the schedule that all tasks share."""

import torch
from torch import nn


def adamw(
    module: nn.Module,
    steps: int,
    *,
    lr: float,
    weight_decay: float,
    warmup_steps: int,
    decay_start: float,
) -> dict:
    """AdamW (Loshchilov & Hutter, ICLR 2019): linear warm-up, constant, then linear to 2 %.

    Args:
        module: its parameters that need a gradient are trained; vectors (norms, biases) do not decay.
        steps: length of the training.
        lr: peak learning rate.
        weight_decay: of matrices and kernels.
        warmup_steps: until the peak.
        decay_start: share of the training after which the rate falls.

    Returns:
        What Lightning's ``configure_optimizers`` returns.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    decay_from = decay_start * steps

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(warmup_steps, 1))
        left = (steps - step) / max(steps - decay_from, 1)
        return warm * max(0.02, min(1.0, left))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
