"""Who has which item, and what is done again, with workers that do as they are told."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from avlearn.data.pool import Died, Ended, Engine, Task, Worker, work_off


class Scripted(Worker):
    """It ends, or hangs, where a script says so of an item."""

    def __init__(self, engine: "Script"):
        super().__init__()
        self.ready, self.engine, self.killed = True, engine, False

    def give(self, task: Task) -> None:
        self.engine.told.append((task.item, len(self.given), len(self.engine.alive())))

    def kill(self) -> None:
        self.killed = True


class Script(Engine[Scripted]):
    """What becomes of items, each time: "end", "hang", or else they are done; what was handed out in ``told``."""

    def __init__(self, fates: dict[str, list[str]], ahead: int, alone: bool, workers: int):
        self.fates, self.ahead, self.alone, self.workers = fates, ahead, alone, workers
        self.told: list[tuple[str, int, int]] = []  # item, those its worker had already, workers there are
        self.started: list[Scripted] = []

    def alive(self) -> list[Scripted]:
        return [worker for worker in self.started if not worker.killed]

    def places(self) -> int:
        return self.workers

    def start(self) -> Scripted:
        self.started.append(Scripted(self))
        return self.started[-1]

    def wait(self, workers: Sequence[Scripted]) -> Iterator[tuple[Scripted, Any]]:
        for worker in list(workers):
            if worker.given:
                item = worker.given[0].item
                fate = self.fates.get(item) and self.fates[item].pop(0)
                yield worker, Ended(fate == "hang") if fate else item.upper()

    def end(self, workers: Sequence[Scripted]) -> None:
        for worker in workers:
            worker.kill()


def done(engine: Script, items: str) -> dict[str, Any]:
    """Results by item; nobody is left."""
    found = list(work_off(engine, items, lambda item: 7.0))
    assert len(found) == len(items) and not engine.alive()
    return {items[number]: result for number, result in found}


@pytest.mark.parametrize(("ahead", "alone"), [(1, True), (2, False)])
def test_an_item_dies_that_ended_two_workers(ahead, alone):
    engine = Script({"b": ["end"], "d": ["end", "end"], "e": ["hang"]}, ahead, alone, workers=2)
    assert done(engine, "abcdefgh") == {k: k.upper() for k in "abcfgh"} | {
        "d": Died("the process died of it"), "e": Died("it was not done after 7 s")
    }  # fmt: skip
    handed = [item for item, *_ in engine.told]
    if ahead == 1:  # what hung is not tried again
        assert [handed.count(item) for item in "abcdefgh"] == [1, 2, 1, 2, 1, 1, 1, 1]
    again = engine.told[-2:]
    assert [item for item, *_ in again] == ["b", "d"] and not any(had for _, had, _ in again)
    if alone:
        assert [there for *_, there in again] == [1, 1]


def test_what_waited_in_a_worker_that_ended_is_no_suspect():
    engine = Script({"a": ["end"], "b": ["end"]}, ahead=2, alone=False, workers=1)
    assert done(engine, "abc") == {"a": "A", "b": "B", "c": "C"}
    assert [item for item, *_ in engine.told] == ["a", "b", "b", "c", "c", "a", "b"]


def test_without_items_nobody_begins():
    engine = Script({}, ahead=1, alone=True, workers=1)
    assert done(engine, "") == {} and not engine.started


def test_closing_ends_the_workers():
    engine = Script({}, ahead=1, alone=True, workers=3)
    results = work_off(engine, "abcdef", lambda item: 0.0)
    assert next(results) == (0, "A") and len(engine.alive()) == 3
    results.close()
    assert not engine.alive()
