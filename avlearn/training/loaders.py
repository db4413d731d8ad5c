"""Loaders of an experiment's clips, and how many steps they are for."""

from typing import Any

import lightning
from torchdata.stateful_dataloader import StatefulDataLoader

from avlearn.data.loader import clip_loader
from avlearn.data.sampling import StepSampler
from avlearn.recipe import Recipe
from avlearn.tasks import Experiment


def count_steps(recipe: Recipe, clips: int) -> int:
    """Optimizer steps of a training on so many clips."""
    per_epoch = max(clips // (recipe.trainer.batch_size * recipe.trainer.processes), 1)
    limits = []
    if recipe.trainer.max_steps is not None:
        limits.append(recipe.trainer.max_steps)
    if recipe.trainer.max_epochs is not None:
        limits.append(recipe.trainer.max_epochs * per_epoch)
    return min(limits)


class Loaders(lightning.LightningDataModule):
    """The loaders; Lightning keeps the training loader's state in its checkpoints."""

    def __init__(self, experiment: Experiment[Any], recipe: Recipe, steps: int):
        super().__init__()
        self.train_data, self.val_data, self.collate = experiment.train, experiment.val, experiment.collate
        self.recipe, self.steps = recipe, steps

    def _place(self) -> tuple[int, int]:
        """This process' number, of how many; before there is a trainer, the only one."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> StatefulDataLoader:
        """Batches for the steps of this process."""
        data, batch = self.recipe.data, self.recipe.trainer.batch_size
        sampler = StepSampler(
            len(self.train_data),
            batch,
            self.steps,
            self.recipe.seed,
            *self._place(),
            windows=data.windows,
            pool=max(data.buffer // (batch * data.windows), 1),
            workers=data.workers,
        )
        return clip_loader(self.train_data, sampler, data.workers, self.collate)

    def val_dataloader(self) -> StatefulDataLoader:
        """All clips, once, in batches as large as those of one process."""
        trainer, clips = self.recipe.trainer, len(self.val_data)
        # Processes share batches that are as large as one process' alone, so that they have the same negatives.
        batch = max(min(trainer.batch_size, clips) // trainer.processes, 1)
        steps = clips // (batch * trainer.processes)
        rank, _ = self._place()
        sampler = StepSampler(clips, batch, steps, self.recipe.seed + 1, rank, trainer.processes)
        return clip_loader(self.val_data, sampler, self.recipe.data.workers, self.collate)
