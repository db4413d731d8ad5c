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
        shards: number of the shard that each clip lies in, int ``[clips]``: an epoch takes the shards in an order of
            its own and mixes the clips of ``mixed`` of them before it goes on to the next; by default of all.
        mixed: shards, from 1.
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
        shards: np.ndarray | None = None,
        mixed: int = 1,
    ):
        self.clips, self.batch, self.steps, self.seed = clips, batch, steps, seed
        self.rank, self.world = rank, world
        self.windows, self.pool, self.workers = windows, pool if windows > 1 else 1, max(workers, 1)
        self.shards, self.mixed = shards, mixed
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Pick]]:
        return map(self._picks, range(self.steps))

    def shards_soon(self, step: int) -> list[int]:
        """Shards that are mixed at a step, then those that are mixed after them."""
        assert self.shards is not None
        firsts, _, place = self._place(step)
        epoch, batch = divmod(firsts[place], self._per_epoch())
        now = self.shards[self._order(epoch)[batch * self.world * self.batch]]
        turn = self._turn(epoch)
        group = int(np.flatnonzero(turn == now)[0]) // self.mixed
        soon: list[int] = turn[group * self.mixed : (group + 2) * self.mixed].tolist()
        if (group + 1) * self.mixed >= len(turn):
            soon += [shard for shard in self._turn(epoch + 1)[: self.mixed].tolist() if shard not in soon]
        return soon

    def _place(self, step: int) -> tuple[list[int], int, int]:
        """A step's pool as numbers of batches of clips, how often it was gone over, and the place of the step in it."""
        pools = self.workers * self.pool  # batches of clips that the workers hold together
        turn, within = divmod(step, pools * self.windows)
        within, worker = divmod(within, self.workers)
        passed, place = divmod(within, self.pool)
        return [turn * pools + k * self.workers + worker for k in range(self.pool)], passed, place

    def _picks(self, step: int) -> list[Pick]:
        firsts, passed, place = self._place(step)
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
        epoch, place = divmod(number, self._per_epoch())
        first = (place * self.world + self.rank) * self.batch
        clips = self._order(epoch)[np.arange(first, first + self.batch) % self.clips]
        # Drawn for all processes, so that a window does not depend on how many share the batch.
        words = np.random.SeedSequence([self.seed, number, 0]).generate_state(self.world * self.batch * self.windows)
        words = words.reshape(self.windows, self.world, self.batch)
        return clips, words[:, self.rank].T

    def _per_epoch(self) -> int:
        return max(self.clips // (self.batch * self.world), 1)

    def _order(self, epoch: int) -> np.ndarray:
        """The permuted clips of an epoch: uint32 ``[clips]``."""
        order = self._orders.get(epoch)
        if order is None:
            kept = {e: order for e, order in self._orders.items() if abs(e - epoch) == 1}
            order = np.random.default_rng([self.seed, epoch]).permutation(self.clips).astype(np.uint32)
            if self.shards is not None:
                groups = np.argsort(self._turn(epoch))[self.shards[order]] // self.mixed
                order = order[np.argsort(groups, kind="stable")]
            self._orders = {**kept, epoch: order}
        return order

    def _turn(self, epoch: int) -> np.ndarray:
        """Shards in their order in an epoch."""
        assert self.shards is not None
        return np.random.default_rng([self.seed, epoch, 1]).permutation(int(self.shards.max()) + 1)
