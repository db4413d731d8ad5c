"""Tar shards at addresses, fetched one after the other ahead of whoever reads their clips."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from avlearn.data.sampling import Pick, StepSampler
from avlearn.errors import MediaError, OutputError
from avlearn.remote.cache import local_copy


class ShardsAhead:
    """A sampler's batches; the shards of those to come are fetched to the cache meanwhile, each as one stream.

    A shard that is not there yet is fetched, or waited for, by whoever reads a clip of it
    (`avlearn.data.clips.ClipDataset`), who tells what is wrong with it as well. No more is fetched ahead than the
    shards that are mixed next.

    Args:
        sampler: that takes the clips of some shards after those of others.
        shards: paths, and addresses, which are fetched.
    """

    def __init__(self, sampler: StepSampler, shards: Sequence[Path | str]):
        self.sampler, self.shards = sampler, shards

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Pick]]:
        reached = _Reached()
        # Who ends the process does not wait for a stream; the cache takes away what is left of it.
        threading.Thread(target=self._fetch, args=[reached], daemon=True).start()
        try:
            for step, picks in enumerate(self.sampler):
                reached.say(step)
                yield picks
        finally:
            reached.say(None)

    def _fetch(self, reached: "_Reached") -> None:
        step: int | None = -1
        tried: set[int] = set()
        while (step := reached.other_than(step)) is not None:
            while (missing := self._missing(step, tried)) is not None:
                with suppress(MediaError, OutputError):
                    local_copy(str(self.shards[missing]))
                tried.add(missing)
                step = reached.step
                if step is None:
                    return

    def _missing(self, step: int, tried: set[int]) -> int | None:
        """The next shard to fetch; of what is not needed now it is forgotten that it was."""
        soon = [shard for shard in self.sampler.shards_soon(step) if isinstance(self.shards[shard], str)]
        tried.intersection_update(soon)
        return next((shard for shard in soon if shard not in tried), None)


class _Reached:
    """The last step that a thread has come to, for another to wait for; None: there will be no more."""

    def __init__(self) -> None:
        self.step: int | None = -1
        self._changed = threading.Condition()

    def say(self, step: int | None) -> None:
        with self._changed:
            self.step = step
            self._changed.notify()

    def other_than(self, step: int | None) -> int | None:
        """Wait for another step."""
        with self._changed:
            self._changed.wait_for(lambda: self.step != step)
            return self.step
