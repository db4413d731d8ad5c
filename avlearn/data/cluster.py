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
from dataclasses import dataclass
from time import monotonic
from typing import Any

from avlearn import __version__
from avlearn.data.pool import Ended, Engine, Limit, Task, Worker, endless, work_off
from avlearn.data.processes import be_worker, done_within
from avlearn.errors import AvlearnError, MissingExtraError
from avlearn.interrupts import SIGNALS
from avlearn.terminal import remark

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
        return work_off(_Actors(_connect(self.address), work, self), items, limit)


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


class _ActorWorker(Worker):
    """An actor, and what comes of what it was told to do, in order: first that it begins."""

    def __init__(self, ray: Any, actor: Any):
        super().__init__()
        self._ray, self.actor = ray, actor
        self.coming: deque[Future[Any]] = deque([actor.begun.remote().future()])
        self._began = 0.0  # the instant that its first item can have been begun at
        self._came: dict[Future[Any], float] = {}  # instants; they may be looked at much later

    def give(self, task: Task) -> None:
        if not self.coming:
            self._began = monotonic()
        self.coming.append(future := self.actor.do.remote(task.item, task.seconds).future())
        future.add_done_callback(self._note)

    def _note(self, future: Future[Any]) -> None:
        self._came[future] = monotonic()

    def next(self) -> None:
        """What came first was good."""
        self._began = self._came.pop(self.coming.popleft(), monotonic())

    def taken(self) -> float:
        """Seconds that its first item has taken, or took."""
        return self._came.get(self.coming[0], monotonic()) - self._began

    def kill(self) -> None:
        self._ray.kill(self.actor)


class _Actors(Engine[_ActorWorker]):
    """Actors: which item ended a process is known then, and what it loaded stays."""

    ahead = 2  # it need not wait for the next
    alone = False

    def __init__(self, ray: Any, work: Callable[[Any], Any], cluster: Cluster):
        gpu = cluster.device.startswith("cuda")
        self._ray, self._most, self._kind = ray, cluster.workers, "GPU" if gpu else "CPU"
        self._actor = ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=0, max_task_retries=0)(_Actor)
        self._work = ray.put(work)
        self._places, self._looked = 1, -math.inf
        self._failed_starts = 0
        self._idle_since, self._told = monotonic(), False

    def places(self) -> int:
        if monotonic() - self._looked > _LOOK:
            there = int(self._ray.cluster_resources().get(self._kind, 0))
            self._places, self._looked = self._most or max(there, 1), monotonic()
        return self._places

    def start(self) -> _ActorWorker:
        return _ActorWorker(self._ray, self._actor.remote(self._work, os.getcwd(), __version__))

    def wait(self, workers: Sequence[_ActorWorker]) -> Iterator[tuple[_ActorWorker, Any]]:
        self._require_one_at_work(workers)
        # Futures, not ray.wait: it does not let what handlers of signals raise through.
        awaited = {worker.coming[0]: worker for worker in workers if worker.coming}
        for future in wait(awaited, timeout=1.0, return_when=FIRST_COMPLETED).done:
            worker = awaited[future]
            try:
                result = future.result()
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                if not worker.ready:
                    self._count_failed_start(str(error), any(other.ready for other in workers))
                yield worker, Ended(worker.ready and self._hung(worker, error))
                continue
            worker.next()
            if worker.ready:
                yield worker, result
            else:
                worker.ready, self._failed_starts = True, 0

    def _hung(self, worker: _ActorWorker, error: Exception) -> bool:
        """Whether a worker ended as its first item's time was up; one that is out of reach may be well."""
        died = isinstance(error, self._ray.exceptions.ActorDiedError) and "its node has died" not in str(error)
        return died and 0 < worker.given[0].seconds <= worker.taken()

    def _count_failed_start(self, why: str, others: bool) -> None:
        self._failed_starts += 1
        said = why.strip().splitlines()[-1]
        if "No module named" in why or "AvlearnError" in why:
            raise AvlearnError(f"a worker cannot start: {said}: every node needs this version of avlearn")
        if self._failed_starts >= _FAILED_STARTS and not others:
            raise AvlearnError(f"{_FAILED_STARTS} workers of the cluster ended as they started: {said}")

    def _require_one_at_work(self, workers: Sequence[_ActorWorker]) -> None:
        if any(worker.given for worker in workers):
            self._idle_since, self._told = monotonic(), False
        elif monotonic() - self._idle_since > _NOBODY:
            raise AvlearnError(f"the cluster has had no place for a worker for {_NOBODY:.0f} s: {self._room()}")
        elif not self._told and monotonic() - self._idle_since > 10:
            remark(f"waiting for the cluster: {self._room()}")
            self._told = True

    def _room(self) -> str:
        free, all_ = (resources.get(self._kind, 0) for resources in (
            self._ray.available_resources(), self._ray.cluster_resources()))  # fmt: skip
        return f"{free:.0f} of its {all_:.0f} {self._kind}s are free (ray status tells who has them)"

    def end(self, workers: Sequence[_ActorWorker]) -> None:
        if not self._ray.is_initialized():
            return
        for worker in workers:
            worker.kill()
        wait([worker.actor.begun.remote().future() for worker in workers], timeout=10)
