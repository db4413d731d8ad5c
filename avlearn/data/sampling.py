"""Which clip comes when: a pure function of the seed and the step, so that a resumed run goes on exactly."""

from collections.abc import Iterator

import numpy as np


class StepSampler:
    """Batches of ``(clip index, seed of its window)`` from one step to the last.

    Clips are permuted anew in every epoch. What a step sees depends on nothing but ``seed`` and the
    step's number: no state is kept, so that a run may stop and go on anywhere.

    Args:
        clips: number of clips; at least one batch of them over all processes.
        batch: clips a process and step.
        steps: the training's last step, exclusive.
        seed: of the order and of the windows.
        rank, world: this process, and how many there are.
    """

    def __init__(self, clips: int, batch: int, steps: int, seed: int, rank: int = 0, world: int = 1):
        self.clips, self.batch, self.steps, self.seed = clips, batch, steps, seed
        self.rank, self.world = rank, world
        self.start = 0

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches that the clips fill once."""
        return max(self.clips // (self.batch * self.world), 1)

    def __len__(self) -> int:
        # Of the whole training, wherever it starts: Lightning counts a resumed epoch from its beginning.
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, int)
        for step in range(self.start, self.steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = np.random.default_rng([self.seed, epoch]).permutation(self.clips)
            first = (step % self.steps_per_epoch) * self.batch * self.world + self.rank * self.batch
            seeds = np.random.SeedSequence([self.seed, step, self.rank]).generate_state(self.batch)
            picked = order[np.arange(first, first + self.batch) % self.clips]
            yield [(int(i), int(s)) for i, s in zip(picked, seeds, strict=True)]
