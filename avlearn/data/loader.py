"""Batches of clips from worker processes, that go on in the middle of an epoch where a run was stopped."""

import warnings
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

import cv2
from torchdata.stateful_dataloader import StatefulDataLoader

from avlearn.data.clips import Clips, collate
from avlearn.data.processes import begin_worker, start_server
from avlearn.data.sampling import StepSampler
from avlearn.data.shards_ahead import ShardsAhead
from avlearn.errors import AvlearnError


def clip_loader(
    data: Clips,
    sampler: StepSampler | ShardsAhead,
    workers: int = 0,
    collate_fn: Callable[[list[Any]], dict[str, Any]] = collate,
) -> StatefulDataLoader:
    """A loader of the sampler's batches.

    Its ``state_dict()`` after a batch, given to ``load_state_dict`` of another loader with as many workers, makes
    that one go on with the next batch, to the bit.

    Args:
        data: clips by pick.
        sampler: of picks; made for as many workers.
        workers: processes with one thread each; 0 reads in this one.
        collate_fn: what makes a batch of items.

    Raises:
        AvlearnError: there is no place for the locks that processes share.
    """
    context = start_server(__name__) if workers else None  # forked copies of a process that has threads may hang
    if context:
        _require_locks(context)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata's own business
        return StatefulDataLoader(
            data,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate_fn,
            worker_init_fn=_begin,
            persistent_workers=workers > 0,
            multiprocessing_context=context,
        )


def _require_locks(context: BaseContext) -> None:
    try:
        context.Lock()
    except OSError as error:
        raise AvlearnError(
            f"processes cannot start: their locks lie in /dev/shm, which cannot be written ({error.strerror}): "
            "free or mount it, or read in this process (data.workers=0)"
        ) from error


def _begin(_: int) -> None:
    begin_worker()
    cv2.setNumThreads(1)
