"""Stretches of a file worked on side by side, on all cores."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:  # fmt: skip
    """What ``work`` makes of each item, in their order, several at a time in threads.

    The items are made meanwhile, in the caller's thread, few ahead of the results. To be closed where it is left early.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def single_threads() -> Iterator[int]:
    """One thread for each operation of torch, as many as it had for the caller's workers: gives their number.

    Networks as small as these gain little from threads within an operation, and lose much where cores are shared.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield count
    finally:
        torch.set_num_threads(count)
