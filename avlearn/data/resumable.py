"""Long work over many files: in processes that may die of what they are given, with a journal to go on from."""

import atexit
import errno
import json
import multiprocessing
import os
import signal
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from avlearn.errors import AvlearnError, OutputError
from avlearn.files import replacing
from avlearn.interrupts import undisturbed
from avlearn.lock import Lock

CRASHED = object()  # the result of an item that kills its process


class Journal:
    """Records appended as work gets done, each a line with its checksum and its JSON: what a killed run leaves.

    Args:
        path: of the file; what it holds already is in ``records``.

    Raises:
        OutputError: the file cannot be written, or another run has it open.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = Lock(path.with_name(f"{path.name}.lock"))
        try:
            # Without a buffer: what a full disk refused would be tried again when the file is closed.
            self._file = path.open("a+b", buffering=0)
            self._file.seek(0)
            data = self._file.read()
            # A kill may have torn the last line: what is added next must not join it.
            whole = data[: data.rfind(b"\n") + 1]
            self._file.truncate(len(whole))
        except OSError as error:
            self._lock.close()
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        found = [_record(line) for line in whole.splitlines()]
        self.records: list[dict[str, Any]] = [record for record in found if record is not None]
        if damaged := len(found) - len(self.records):
            print(f"{path}: {damaged} of {len(found)} records are damaged: that work is done again", file=sys.stderr)

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; it is there whatever happens to this process next."""
        line = _line(record)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def rewrite(self, records: Sequence[dict[str, Any]]) -> None:
        """Replace all records by others, at once; no more can be added."""
        with replacing(self.path) as part:
            part.write_bytes(b"".join(map(_line, records)))

    def close(self) -> None:
        """Let the file go; one without a record is of no use."""
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()
        self._file.close()
        self._lock.close()


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _record(line: bytes) -> dict[str, Any] | None:
    """The inverse; None for what was not written so."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None


def in_processes(
    work: Callable[[Any], Any], items: Sequence[Any], workers: int | None
) -> Generator[tuple[int, Any], None, None]:
    """Do the items in processes; close the generator to end them at once.

    Args:
        work: a function of a module; what it raises is raised here.
        items: what it is called with.
        workers: processes; all cores by default.

    Raises:
        AvlearnError: no process can start.

    Yields:
        Number of an item and its result, as they get done; `CRASHED` for one that kills its process.
    """
    left = deque(enumerate(items))
    while left:
        suspects = yield from _until_one_dies(work, left, workers or os.cpu_count() or 1)
        for number, item in suspects:
            # Each alone: the one that kills its process again is the culprit.
            if (yield from _until_one_dies(work, deque([(number, item)]), 1)):
                yield number, CRASHED


def _until_one_dies(
    work: Callable[[Any], Any], left: deque[tuple[int, Any]], workers: int
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
                    flying[pool.submit(work, left[0][1])] = left[0]
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


def begin_worker(*_: object) -> None:
    """Leave Ctrl-C and the order to end to the parent, and end when it does: called first in each worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    # Workers of a killed parent would wait for work for ever, and write while the next run does.
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait_for([parent.sentinel])
    os._exit(1)
