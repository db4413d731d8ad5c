"""The order of windows: a pure function of the seed and the step, so that a run goes on exactly."""

from collections.abc import Iterator

import numpy as np

Pick = tuple[int, int, tuple[int, ...]]  # clip, seed of its window, seeds of windows to read along with it


class StepSampler:
    """Batches of picks from the first step to the last: a batch sampler for a loader over a `ClipDataset`.

    What a step sees depends on nothing but the arguments and the step's number. Processes share the clips and windows
    that one process would see whose batch is as large as all of theirs (in another order where ``windows`` is not 1).
    Clips are permuted anew in every epoch; an epoch has as many windows as there are clips.

    Several windows of a file cost little more than one if they are read together, but they look alike. So clips are
    taken in pools, and a pool is gone over ``windows`` times before the next, each time in another order and with
    another window of each clip. All passes over a pool fall to one worker of the loader (which deals batches out in
    turn), so that it can read a file's windows at the first and hold the rest for the others.

    Args:
        clips: number of clips; at least one batch of them over all processes.
        batch: clips a process and step.
        steps: the training's last step, exclusive.
        seed: of the order and of the windows.
        rank, world: this process, and how many there are.
        windows: of a file that are read together.
        pool: batches of clips that a worker goes over several times.
        workers: of the loader; 0 and 1 are the same.
    """

    def __init__(
        self,
        clips: int,
        batch: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        *,
        windows: int = 1,
        pool: int = 1,
        workers: int = 0,
    ):
        self.clips, self.batch, self.steps, self.seed = clips, batch, steps, seed
        self.rank, self.world = rank, world
        self.windows, self.pool, self.workers = windows, pool if windows > 1 else 1, max(workers, 1)
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Pick]]:
        return map(self._picks, range(self.steps))

    def _picks(self, step: int) -> list[Pick]:
        pools = self.workers * self.pool  # batches of clips that the workers hold together
        turn, within = divmod(step, pools * self.windows)
        within, worker = divmod(within, self.workers)
        passed, place = divmod(within, self.pool)
        firsts = [turn * pools + k * self.workers + worker for k in range(self.pool)]
        if not passed:
            clips, seeds = self._draw(firsts[place])
        else:
            drawn = [self._draw(first) for first in firsts]
            clips = np.concatenate([clips for clips, _ in drawn])
            seeds = np.concatenate([seeds for _, seeds in drawn])
            order = np.random.default_rng([self.seed, firsts[0], self.rank, passed]).permutation(len(clips))
            own = order[place * self.batch : (place + 1) * self.batch]
            clips, seeds = clips[own], seeds[own]
        return [
            (int(clip), int(row[passed]), tuple(map(int, row[passed + 1 :])))
            for clip, row in zip(clips, seeds, strict=True)
        ]

    def _draw(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch of the permuted clips: ``[batch]``, and the seeds of their windows, ``[batch, windows]``."""
        epoch, place = divmod(number, max(self.clips // (self.batch * self.world), 1))
        if epoch not in self._orders:
            kept = {e: order for e, order in self._orders.items() if abs(e - epoch) == 1}
            order = np.random.default_rng([self.seed, epoch]).permutation(self.clips)
            self._orders = {**kept, epoch: order.astype(np.uint32)}
        first = (place * self.world + self.rank) * self.batch
        clips = self._orders[epoch][np.arange(first, first + self.batch) % self.clips]
        # Drawn for all processes, so that a window does not depend on how many share the batch.
        words = np.random.SeedSequence([self.seed, number, 0]).generate_state(self.world * self.batch * self.windows)
        words = words.reshape(self.windows, self.world, self.batch)
        return clips, words[:, self.rank].T
