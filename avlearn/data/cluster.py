"""Work over many items by the workers of a Ray cluster."""

import logging
import math
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from avlearn import __version__
from avlearn.data.processes import Limit, be_worker, died, done_within, endless
from avlearn.errors import AvlearnError, MissingExtraError
from avlearn.interrupts import SIGNALS
from avlearn.terminal import remark

_AHEAD = 2  # items that a worker has: it need not wait for the next
_NOBODY = 300.0  # seconds without any worker after which a run ends
_LOOK = 10.0  # seconds after which it is looked again how large the cluster is
_FAILED_STARTS = 10  # in a row, after which it ends, too


@dataclass(frozen=True)
class Cluster:
    """Workers on a Ray cluster (https://docs.ray.io; the extra ``cluster``), whose nodes share a file system.

    Each has a CPU, or a GPU too, and keeps what it loaded for the next item.

    Attributes:
        address: ``auto``: of the cluster that this machine is a node of; ``HOST:PORT``; or ``ray://HOST:PORT``, from
            outside of it.
        workers: how many at most; by default one for each CPU, or each GPU.
        device: ``cpu`` or ``cuda``: where models run; ``auto``: on GPUs, if the cluster has any.
    """

    address: str = "auto"
    workers: int | None = None
    device: str = "auto"

    def with_device(self) -> "Cluster":
        """The same, its device found out."""
        if self.device != "auto":
            return self
        gpus = _connect(self.address).cluster_resources().get("GPU", 0)
        return Cluster(self.address, self.workers, "cuda" if gpus else "cpu")

    def run(
        self, work: Callable[[Any], Any], items: Sequence[Any], limit: Limit = endless
    ) -> Generator[tuple[int, Any], None, None]:
        """As `avlearn.data.workers.in_workers`.

        Raises:
            MissingExtraError: Ray is not installed.
            AvlearnError: there is no such cluster, it has no place for a worker, or its nodes lack this package.
        """
        ray = _connect(self.address)
        pool = _Pool(ray, work, limit, self.device.startswith("cuda"))
        try:
            yield from pool.work_off(deque(enumerate(items)), self.workers)
        finally:
            pool.end()


def _connect(address: str) -> Any:
    """Ray, connected to a cluster."""
    # Before it is imported: it reports on its users, and prints what happens to workers among a command's results.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("a cluster needs Ray: pip install 'avlearn[cluster]'") from None
    if not ray.is_initialized():
        _check_reachable(address)
        with _handlers_kept():
            try:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                said = str(error).strip().splitlines() or [type(error).__name__]
                raise AvlearnError(
                    f"no Ray cluster at '{address}': {said[0]} (ray start --head begins one on this machine)"
                ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Ray itself tries for five minutes, and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise AvlearnError(
            f"no Ray cluster at '{address}': {getattr(error, 'strerror', None) or error} (ray status tells, on a node)"
        ) from error


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray takes the order to end for itself."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


class _Actor:
    """What a worker's process runs; it lies where the driver does, on a file system that nodes share."""

    def __init__(self, work: Callable[[Any], Any], folder: str, version: str):
        if version != __version__:
            raise AvlearnError(f"avlearn {__version__} is there, {version} is here")
        os.chdir(folder)
        be_worker()
        self._work = work

    def begun(self) -> None:
        """Done when the process runs."""

    def do(self, item: Any, seconds: float) -> Any:
        """The work on an item."""
        return done_within(seconds, self._work, item)


@dataclass
class _Worker:
    """A process of the cluster, which begins or has begun; what it was given, in order, by what comes of it."""

    actor: Any
    begun: Future[None] | None
    given: dict[Future[Any], tuple[int, Any]] = field(default_factory=dict)
    since: float = 0.0  # the instant that its first item can have been begun at


class _Pool:
    """The workers of a run."""

    def __init__(self, ray: Any, work: Callable[[Any], Any], limit: Limit, gpu: bool):
        self._ray, self._limit, self._kind = ray, limit, "GPU" if gpu else "CPU"
        # Actors: which item ended a process is known then, and what it loaded stays.
        self._actor = ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=0, max_task_retries=0)(_Actor)
        self._work = ray.put(work)
        self._workers: list[_Worker] = []
        self._suspects: set[int] = set()  # numbers of items that a worker had when it ended
        self._failed_starts = 0

    def work_off(self, left: deque[tuple[int, Any]], most: int | None) -> Generator[tuple[int, Any], None, None]:
        """Do the items; they are taken out of ``left``, and put back where a worker is lost."""
        alone_since, told = monotonic(), False
        looked = -math.inf
        while left or any(worker.given for worker in self._workers):
            if monotonic() - looked > _LOOK:
                places, looked = most or max(int(self._ray.cluster_resources().get(self._kind, 0)), 1), monotonic()
            while len(self._workers) < min(places, len(left) + sum(bool(worker.given) for worker in self._workers)):
                self._start()
            yield from self._collect(left)
            self._hand_out(left)
            if any(worker.given for worker in self._workers):
                alone_since, told = monotonic(), False
            elif left and monotonic() - alone_since > _NOBODY:
                raise AvlearnError(f"the cluster has had no place for a worker for {_NOBODY:.0f} s: {self._room()}")
            elif left and not told and monotonic() - alone_since > 10:
                remark(f"waiting for the cluster: {self._room()}")
                told = True

    def end(self) -> None:
        """End the workers, and wait until they have: what they write is swept up then."""
        if not self._ray.is_initialized():
            return
        for worker in self._workers:
            self._ray.kill(worker.actor)
        wait([worker.actor.begun.remote().future() for worker in self._workers], timeout=10)
        self._workers = []

    def _start(self) -> None:
        actor = self._actor.remote(self._work, os.getcwd(), __version__)
        self._workers.append(_Worker(actor, actor.begun.remote().future()))

    def _room(self) -> str:
        free, all_ = (resources.get(self._kind, 0) for resources in (
            self._ray.available_resources(), self._ray.cluster_resources()))  # fmt: skip
        return f"{free:.0f} of its {all_:.0f} {self._kind}s are free (ray status tells who has them)"

    def _hand_out(self, left: deque[tuple[int, Any]]) -> None:
        """Give each worker an item, then one more; one that a worker was lost with is done alone."""
        for ahead in range(_AHEAD):
            for worker in self._workers:
                suspect = bool(left) and left[0][0] in self._suspects
                alone = suspect or any(number in self._suspects for number, _ in worker.given.values())
                if left and worker.begun is None and len(worker.given) == ahead and not (ahead and alone):
                    number, item = left.popleft()
                    if not worker.given:
                        worker.since = monotonic()
                    worker.given[worker.actor.do.remote(item, self._limit(item)).future()] = number, item

    def _collect(self, left: deque[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Results that have come, at most a second later; workers that ended are dropped."""
        # Futures, not ray.wait: it does not let what handlers of signals raise through.
        awaited: dict[Future[Any], _Worker] = {}
        for worker in self._workers:
            if future := worker.begun or next(iter(worker.given), None):
                awaited[future] = worker
        for future in wait(awaited, timeout=1.0, return_when=FIRST_COMPLETED).done:
            worker = awaited[future]
            try:
                result = future.result()
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                yield from self._lose(worker, str(error), left)
                continue
            if worker.begun is not None:
                worker.begun, self._failed_starts = None, 0
                continue
            number, _ = worker.given.pop(future)
            worker.since = monotonic()
            yield number, result

    def _lose(self, worker: _Worker, why: str, left: deque[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Drop a worker that ended: others do what it had, but an item that it did alone, and not as the first."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)  # it may be out of reach alone, and would write while another does
        if worker.begun is not None:
            self._failed_starts += 1
            said = why.strip().splitlines()[-1]
            if "No module named" in why or "AvlearnError" in why:
                raise AvlearnError(f"a worker cannot start: {said}: every node needs this version of avlearn")
            if self._failed_starts >= _FAILED_STARTS and all(other.begun for other in self._workers):
                raise AvlearnError(f"{_FAILED_STARTS} workers of the cluster ended as they started: {said}")
            return
        (number, item), *others = worker.given.values()
        if number in self._suspects:
            yield number, died(self._limit(item), monotonic() - worker.since)
        else:  # what a worker did last may not have been told, and its node may have ended: none is to blame yet
            left.extendleft([*others, (number, item)])
            self._suspects |= {number for number, _ in worker.given.values()}
