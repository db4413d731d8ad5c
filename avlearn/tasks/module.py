"""The base of what tasks train: a LightningModule around a model."""

from collections.abc import Callable
from typing import Any

import lightning
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn


class TaskModule(lightning.LightningModule):
    """A model and the steps that train it.

    Args:
        model: what is exported.
        seed: of all that is drawn; what a step draws depends on nothing else but the step and the process.

    Attributes:
        optimizer_of: called with this module; gives what ``configure_optimizers`` returns.
    """

    optimizer_of: Callable[["TaskModule"], OptimizerLRSchedulerConfig]

    def __init__(self, model: nn.Module, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer and its schedule."""
        return self.optimizer_of(self)

    def rate_scale(self, name: str) -> float:
        """What a parameter's learning rate is, as a part of the recipe's."""
        return 1.0

    def try_batch(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, list[int]]]:
        """The loss of a training batch, and shapes of features by name, for a dry run."""
        raise NotImplementedError
