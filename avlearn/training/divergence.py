"""Losses, gradients and weights that are no numbers any more: the run must stop before it keeps them."""

from collections.abc import Iterable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.distributed.tensor import DTensor

from avlearn.errors import DivergedError


def finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all are finite; of sharded ones this process' part."""
    whole = (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors)
    most = [torch.linalg.vector_norm(tensor.detach(), float("inf")).float() for tensor in whole if tensor.numel()]
    return not most or bool(torch.stack(most).isfinite().all())  # the device is waited for once


class Divergence(Callback):
    """Ends the run where the loss or a gradient is infinite or not a number, before the step is taken.

    Gradients that overflow at half precision are no divergence: the scaler drops such steps and lowers its scale.

    Args:
        rate: what learning rates are multiplied by from here on, where a run starts again after it diverged.
    """

    def __init__(self, rate: float = 1.0):
        self.rate, self.lowered = rate, False
        self.good = True

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"lowered": self.lowered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.lowered = state["lowered"]

    def on_train_start(self, trainer, module) -> None:
        """Lower the rates."""
        if self.rate == 1 or self.lowered:
            return
        self.lowered = True
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= self.rate
                group["initial_lr"] *= self.rate
        for config in trainer.lr_scheduler_configs:
            config.scheduler.base_lrs = [rate * self.rate for rate in config.scheduler.base_lrs]

    def on_before_backward(self, trainer, module, loss) -> None:
        """Look at the loss."""
        self.good = finite([loss])

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        """Look at the gradients; all processes stop where one of them has to."""
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self.good &= finite(p.grad for p in parameters if p.grad is not None)
        self._stop_unless(self.good, trainer, "loss or gradient")

    def on_validation_end(self, trainer, module) -> None:
        """Look at the validation's loss."""
        loss = trainer.callback_metrics.get("val_loss")
        self._stop_unless(loss is None or finite([loss]), trainer, "validation loss")

    def require_finite(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Look at the weights, before they are kept."""
        self._stop_unless(finite(module.parameters()), trainer, "weight")

    def _stop_unless(self, good: bool, trainer: lightning.Trainer, what: str) -> None:
        if not trainer.strategy.reduce_boolean_decision(good, all=True):
            raise DivergedError(f"a {what} is infinite or not a number after step {trainer.global_step}")
