"""Work over many items, in processes that may die of what they are given."""

import atexit
import math
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import ForkServerContext
from typing import Any, cast

from avlearn.data.pool import Ended, Engine, Limit, Piece, Task, Worker, endless, work_off
from avlearn.errors import AvlearnError
from avlearn.interrupts import undisturbed


def done_within(seconds: float, work: Callable[[Any], Any], item: Any) -> Any:
    """Do an item; the process ends if that takes longer than so many seconds (0: it may take all it takes).

    By the default action of an alarm: what hangs in foreign code takes no exception.
    """
    signal.alarm(math.ceil(seconds))
    try:
        return work(item)
    finally:
        signal.alarm(0)


def in_processes(
    work: Callable[[Any], Any], items: Sequence[Any], workers: int | None, limit: Limit = endless
) -> Generator[tuple[int, Any], None, None]:
    """Do the items in processes; close the generator to end them at once.

    Args:
        work: a function of a module; what it raises is raised here. One that is a generator gives its results in
            pieces, none of them long before it is taken.
        items: what it is called with.
        workers: processes; all cores by default.
        limit: seconds that an item may take; 0, the default: all it takes.

    Raises:
        AvlearnError: no process can start.

    Yields:
        Number of an item and its result, as they get done; `Died` for one that kills its process, or that hangs. Of
        work in pieces each `avlearn.data.pool.Piece`, from the first on again where its process ended, and at last what
        the generator returns.
    """
    return work_off(_Processes(work, workers or cores()), items, limit)


def cores() -> int:
    """Those that this process may use: a job of a cluster has a share of its node's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Process(Worker):
    """A process here. The pipe to it carries one item at a time, and back what came of it: at first, that it runs."""

    def __init__(self, context: ForkServerContext, work: Callable[[Any], Any]):
        super().__init__()
        self.ready, self.runs = True, False
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        with suppress(OSError):  # it has ended, which `wait` sees
            self.pipe.send_bytes(pickle.dumps((task.item, task.seconds)))

    def kill(self) -> None:
        self.process.kill()
        self.pipe.close()


class _Processes(Engine[_Process]):
    """So many processes here."""

    ahead = 1  # what waits behind a long item would be late
    alone = True

    def __init__(self, work: Callable[[Any], Any], workers: int):
        self._work, self._workers = work, workers
        self._module = getattr(work, "func", work).__module__

    def places(self) -> int:
        return self._workers

    def start(self) -> _Process:
        return _Process(start_server(self._module), self._work)

    def wait(self, workers: Sequence[_Process]) -> Iterator[tuple[_Process, Any]]:
        by_pipe = {worker.pipe: worker for worker in workers}
        for pipe in wait_for(list(by_pipe)):
            worker = by_pipe[cast(Connection, pipe)]
            try:
                told = worker.pipe.recv_bytes()
            except (EOFError, OSError):
                worker.process.join()
                if not worker.runs:
                    raise AvlearnError(
                        'processes cannot start: in a script, work belongs under if __name__ == "__main__"'
                    ) from None
                yield worker, Ended(hung=worker.process.exitcode == -signal.SIGALRM)
                continue
            if not worker.runs:
                worker.runs = True
                continue
            done, result = pickle.loads(told)
            if not done:
                raise result
            yield worker, result

    def end(self, workers: Sequence[_Process]) -> None:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.process.join()


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """What a process does."""
    begin_worker()
    pipe.send_bytes(b"")
    while True:
        pipe.send_bytes(_told(partial(_in_pieces, pipe, work), pipe.recv_bytes()))


def _in_pieces(pipe: Connection, work: Callable[[Any], Any], item: Any) -> Any:
    """The result of an item; of work that is a generator its pieces are sent."""
    result = work(item)
    if not isinstance(result, Generator):
        return result
    while True:
        try:
            piece = next(result)
        except StopIteration as end:
            return end.value
        left = signal.alarm(0)  # whoever takes it may be late, which is no fault of the item
        pipe.send_bytes(pickle.dumps((True, Piece(piece))))
        signal.alarm(left)


def _told(work: Callable[[Any], Any], given: bytes) -> bytes:
    """Whether an item was done, and its result or what was raised, pickled."""
    try:
        item, seconds = pickle.loads(given)
        return pickle.dumps((True, done_within(seconds, work, item)))
    except BaseException as error:
        if not isinstance(error, AvlearnError):
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return pickle.dumps((False, error))


def start_server(module: str) -> ForkServerContext:
    """Start the process that worker processes are forked from, if there is none yet.

    Args:
        module: what the work needs: imported once, instead of in each process.

    Returns:
        The context to start workers with; they call `begin_worker` first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, module])
    # Ctrl-C, and often an order to end, are sent to all processes of a command: this one decides what becomes of the
    # others, from the moment on that they begin.
    resource_tracker.ensure_running()  # as it begins, it lets both orders through again
    with undisturbed():
        forkserver.ensure_running()
    return context


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
