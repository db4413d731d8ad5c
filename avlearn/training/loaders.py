"""Loaders of an experiment's clips, and how many steps they are for."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
from torchdata.stateful_dataloader import StatefulDataLoader

from avlearn.data.clips import ClipDataset, Clips
from avlearn.data.loader import clip_loader
from avlearn.data.sampling import StepSampler
from avlearn.data.shards import shards_of
from avlearn.data.shards_ahead import ShardsAhead
from avlearn.errors import DataError
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
        shards, numbers = self._shards(self.train_data)
        if data.shard_buffer and not shards:
            raise DataError(f"data.shard_buffer: the clips of {data.train} lie in no tar shards; leave it out")
        sampler = StepSampler(
            len(self.train_data),
            batch,
            self.steps,
            self.recipe.seed,
            *self._place(),
            windows=data.windows,
            pool=max(data.buffer // (batch * data.windows), 1),
            workers=data.workers,
            shards=numbers,
            mixed=data.shard_buffer,
        )
        return clip_loader(self.train_data, _ahead(sampler, shards), data.workers, self.collate)

    def val_dataloader(self) -> StatefulDataLoader:
        """All clips, once, in batches as large as those of one process."""
        trainer, clips = self.recipe.trainer, len(self.val_data)
        # Processes share batches that are as large as one process' alone, so that they have the same negatives.
        batch = max(min(trainer.batch_size, clips) // trainer.processes, 1)
        steps = clips // (batch * trainer.processes)
        rank, _ = self._place()
        shards, numbers = self._shards(self.val_data)
        sampler = StepSampler(
            clips, batch, steps, self.recipe.seed + 1, rank, trainer.processes,
            shards=numbers, mixed=self.recipe.data.shard_buffer,
        )  # fmt: skip
        return clip_loader(self.val_data, _ahead(sampler, shards), self.recipe.data.workers, self.collate)

    def _shards(self, clips: Clips) -> tuple[list[Path | str], np.ndarray | None]:
        """As `shards_of`, where clips are to be taken by their shards, and lie in some."""
        if not self.recipe.data.shard_buffer or not isinstance(clips, ClipDataset):
            return [], None
        shards, numbers = shards_of(clips.rows)
        return shards, numbers if shards else None


def _ahead(sampler: StepSampler, shards: list[Path | str]) -> StepSampler | ShardsAhead:
    """A sampler; with what fetches shards before they are read, where some lie at addresses."""
    return ShardsAhead(sampler, shards) if any(isinstance(shard, str) for shard in shards) else sampler
