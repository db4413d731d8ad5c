"""A training that ends by the clock, and whose schedule follows it."""

import time

import lightning
from lightning.pytorch.callbacks import Callback


class TimeLimit(Callback):
    """Ends a training when its seconds are over, with a last validation; does nothing without a limit.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float | None = None):
        self.seconds, self.began = seconds, time.monotonic()
        self.steps = 0

    @property
    def share(self) -> float:
        """Of the time that is gone."""
        return 0.0 if self.seconds is None else min((time.monotonic() - self.began) / self.seconds, 1.0)

    def step(self, step: int) -> float:
        """Where the schedule is at a step: further on where the clock is."""
        return max(float(step), self.share * self.steps)

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Learn how many steps there would be."""
        self.steps = trainer.max_steps

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        """Stop; Lightning makes a validation then."""
        if self.seconds is not None and self.share >= 1:
            trainer.should_stop = True
