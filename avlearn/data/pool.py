"""Work over many items by workers that may end at any moment: who has which, and what is done again."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from avlearn.interrupts import undisturbed

Limit = Callable[[Any], float]  # seconds that an item may take; 0: all it takes


def endless(item: object) -> float:
    """The `Limit` of items that may take all they take."""
    return 0.0


@dataclass(frozen=True)
class Died:
    """The result of an item that ended two workers, or that was not done in time; and which."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """What `Engine.wait` gives in place of a result: the worker has ended; and whether for its first item's limit."""

    hung: bool


@dataclass(frozen=True)
class Piece:
    """What `Engine.wait` gives of an item that is not done yet, where the work's results come in pieces."""

    value: Any


class Task(NamedTuple):
    """An item that a worker has, by its number, and the seconds that it may take."""

    number: int
    item: Any
    seconds: float


class Worker(ABC):
    """A process that does items one after the other.

    Attributes:
        ready: it may be given items; its engine says so.
        given: what it has, in order.
    """

    def __init__(self) -> None:
        self.ready = False
        self.given: deque[Task] = deque()

    @abstractmethod
    def give(self, task: Task) -> None:
        """Have it do one more; one that has ended says nothing of it here."""

    @abstractmethod
    def kill(self) -> None:
        """End it, whatever it is at."""


W = TypeVar("W", bound=Worker)


class Engine(ABC, Generic[W]):
    """Where workers are.

    Attributes:
        ahead: items that a worker has at most.
        alone: an item that a worker ended with is tried again while no other worker is there.
    """

    ahead: int
    alone: bool

    @abstractmethod
    def places(self) -> int:
        """How many workers there may be now, at least 1."""

    @abstractmethod
    def start(self) -> W:
        """Begin a worker."""

    @abstractmethod
    def wait(self, workers: Sequence[W]) -> Iterator[tuple[W, Any]]:
        """Wait for some of the workers, for a while.

        Raises:
            AvlearnError: workers cannot start.

        Yields:
            A worker, and the result of its first item, a `Piece` of it, or `Ended`. What its work raises is raised.
        """

    @abstractmethod
    def end(self, workers: Sequence[W]) -> None:
        """End workers, and wait until they have."""


def work_off(engine: Engine[W], items: Sequence[Any], limit: Limit) -> Generator[tuple[int, Any], None, None]:
    """Do the items; close the generator to end the work at once.

    An item that a worker ended with is done again after all others, by a worker that has no other: from the first of
    its pieces on.

    Yields:
        Number of an item and its result, as they get done, or `Died`; and each `Piece` before.
    """
    pool = _Pool(engine, limit)
    try:
        yield from pool.do(deque(enumerate(items)))
        while pool.suspects:
            if engine.alone:  # all together may have had too little memory
                pool.end()
                again = deque([pool.suspects.popleft()])
            else:
                again, pool.suspects = pool.suspects, deque()
            yield from pool.do(again, once_more=True)
    finally:
        pool.end()


class _Pool(Generic[W]):
    """The workers of a run; ``suspects`` are the items, by number, that one of them ended with."""

    def __init__(self, engine: Engine[W], limit: Limit):
        self._engine, self._limit = engine, limit
        self._workers: list[W] = []
        self.suspects: deque[tuple[int, Any]] = deque()

    def do(self, left: deque[tuple[int, Any]], once_more: bool = False) -> Iterator[tuple[int, Any]]:
        """Do the items; they are taken out of ``left``, and put back where a worker ended before it began them.

        Args:
            left: by number.
            once_more: they are suspects: each worker has one, which died if the worker ends.
        """
        ahead = 1 if once_more else self._engine.ahead
        while left or self._at_work():
            while len(self._workers) < min(self._engine.places(), len(left) + self._at_work()):
                with undisturbed():  # nobody would know of one whose start was broken off
                    self._workers.append(self._engine.start())
            self._hand_out(left, ahead)
            for worker, result in self._engine.wait(self._workers):
                if isinstance(result, Ended):
                    yield from self._lose(worker, result, left, once_more)
                    continue
                if isinstance(result, Piece):
                    yield worker.given[0].number, result
                    continue
                number = worker.given.popleft().number
                self._hand_out(left, ahead)  # before whoever takes the result is at work on it
                yield number, result

    def end(self) -> None:
        """End the workers."""
        self._engine.end(self._workers)
        self._workers = []

    def _at_work(self) -> int:
        return sum(bool(worker.given) for worker in self._workers)

    def _hand_out(self, left: deque[tuple[int, Any]], ahead: int) -> None:
        """Give each worker that is ready an item, then one more, up to so many."""
        for had in range(ahead):
            for worker in self._workers:
                if left and worker.ready and len(worker.given) == had:
                    number, item = left.popleft()
                    task = Task(number, item, self._limit(item))
                    worker.give(task)
                    worker.given.append(task)

    def _lose(
        self, worker: W, ended: Ended, left: deque[tuple[int, Any]], once_more: bool
    ) -> Iterator[tuple[int, Any]]:
        """Drop a worker that ended: its first item is a suspect, unless it hung, or was one; others do the rest."""
        self._workers.remove(worker)
        worker.kill()  # it may be out of reach alone, and would write while another does
        if not worker.given:
            return
        (number, item, seconds), *rest = worker.given
        left.extendleft((number, item) for number, item, _ in reversed(rest))
        if ended.hung:
            yield number, Died(f"it was not done after {seconds:.0f} s")
        elif once_more:
            yield number, Died("the process died of it")
        else:
            self.suspects.append((number, item))
