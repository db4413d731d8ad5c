"""Work over many items, in processes that may die of what they are given."""

import atexit
import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import BaseContext
from time import monotonic
from typing import Any

from avlearn.errors import AvlearnError
from avlearn.interrupts import undisturbed

Limit = Callable[[Any], float]  # seconds that an item may take; 0: all it takes


@dataclass(frozen=True)
class Died:
    """The result of an item that its process did not survive, twice; and why."""

    reason: str


def endless(item: object) -> float:
    """The `Limit` of items that may take all they take."""
    return 0.0


def done_within(seconds: float, work: Callable[[Any], Any], item: Any) -> Any:
    """Do an item; the process ends if that takes longer than so many seconds (0: it may take all it takes).

    By the default action of an alarm: what hangs in foreign code takes no exception.
    """
    signal.alarm(math.ceil(seconds))
    try:
        return work(item)
    finally:
        signal.alarm(0)


def died(seconds: float, taken: float) -> Died:
    """The result of an item that might take so many seconds, and whose process ended after those taken."""
    return Died(f"it was not done after {seconds:.0f} s" if 0 < seconds <= taken else "the process died of it")


def in_processes(
    work: Callable[[Any], Any], items: Sequence[Any], workers: int | None, limit: Limit = endless
) -> Generator[tuple[int, Any], None, None]:
    """Do the items in processes; close the generator to end them at once.

    Args:
        work: a function of a module; what it raises is raised here.
        items: what it is called with.
        workers: processes; all cores by default.
        limit: seconds that an item may take; 0, the default: all it takes.

    Raises:
        AvlearnError: no process can start.

    Yields:
        Number of an item and its result, as they get done; `Died` for one that kills its process, or that hangs.
    """
    left = deque(enumerate(items))
    while left:
        suspects = yield from _until_one_dies(work, left, workers or _cores(), limit)
        for number, item in suspects:
            # Each alone: the one that kills its process again is the culprit.
            began = monotonic()
            if (yield from _until_one_dies(work, deque([(number, item)]), 1, limit)):
                yield number, died(limit(item), monotonic() - began)


def _cores() -> int:
    """Those that this process may use: a job of a cluster has a share of its node's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _until_one_dies(
    work: Callable[[Any], Any], left: deque[tuple[int, Any]], workers: int, limit: Limit
) -> Generator[tuple[int, Any], None, list[tuple[int, Any]]]:
    """Work ``left`` off; returns the items that were under way when a process died."""
    others = set(multiprocessing.active_children())
    flying: dict[Future[Any], tuple[int, Any]] = {}
    context = start_server(getattr(work, "func", work).__module__)
    pool = ProcessPoolExecutor(min(workers, len(left)), mp_context=context, initializer=begin_worker)
    try:
        _start(pool)
        while left or flying:
            while left and len(flying) < 2 * workers:
                with undisturbed():  # it may start a process, which nobody would know of when it was broken off
                    item = left[0][1]
                    flying[pool.submit(done_within, limit(item), work, item)] = left[0]
                left.popleft()
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield flying.pop(future)[0], result
    except BrokenProcessPool:
        return list(flying.values())
    finally:
        if flying:
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
        pool.shutdown(cancel_futures=True)
    return []


def start_server(module: str) -> BaseContext:
    """Start the process that worker processes are forked from, if there is none yet.

    Args:
        module: what the work needs: imported once, instead of in each process.

    Returns:
        The context to start workers with; they call `begin_worker` first.

    Raises:
        AvlearnError: there is no place for what they share.
    """
    context = multiprocessing.get_context("forkserver")
    try:
        context.Lock()
    except OSError as error:
        raise AvlearnError(
            f"processes cannot start: their locks lie in /dev/shm, which cannot be written ({error.strerror}): "
            "free or mount it (a training takes data.workers=0, too)"
        ) from error
    context.set_forkserver_preload([__name__, module])
    # Ctrl-C, and often an order to end, are sent to all processes of a command: this one decides what becomes of the
    # others, from the moment on that they begin.
    with undisturbed():
        forkserver.ensure_running()
    return context


def _start(pool: ProcessPoolExecutor) -> None:
    try:
        with undisturbed():
            begun = pool.submit(int)
        begun.result()
    except BrokenProcessPool as error:
        raise AvlearnError(
            'processes cannot start: in a script, work belongs under if __name__ == "__main__"'
        ) from error


@atexit.register
def _end_workers() -> None:
    """What Python orders daemons to do at its own end, and waits for: workers do not take orders."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


_is_worker = False


def is_worker() -> bool:
    """Whether this process does work that another gives it, beside others that do."""
    return _is_worker


def be_worker() -> None:
    """Have `is_worker` say so."""
    global _is_worker
    _is_worker = True


def begin_worker(*_: object) -> None:
    """Leave Ctrl-C and the order to end to the parent, and end when it does: called first in each worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    be_worker()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    # Workers of a killed parent would wait for work for ever, and write while the next run does.
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait_for([parent.sentinel])
    os._exit(1)
