"""Stretches of a file are worked on side by side, and the process is left as it was."""

import threading

import pytest
import torch

from avlearn.apply.parallel import in_order, single_threads


@pytest.fixture
def three_threads():
    count = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(count)


def test_operations_have_one_thread_and_the_caller_as_many_as_they_had(three_threads):
    with single_threads() as workers:
        assert workers == 3 and torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(ZeroDivisionError), single_threads():
        raise ZeroDivisionError
    assert torch.get_num_threads() == 3


def test_results_come_in_the_order_of_the_items_whoever_is_first():
    second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_done.wait(60)
        if item == 1:
            second_done.set()
        return item * item

    assert list(in_order(work, range(5), 2)) == [0, 1, 4, 9, 16]


def test_items_are_made_few_ahead_of_the_results():
    made = []
    results = in_order(lambda item: item, (made.append(k) or k for k in range(100)), 2)
    assert next(results) == 0 and len(made) == 3
    results.close()
    assert len(made) == 3


def test_what_fails_is_raised_where_its_result_is_asked_for():
    results = in_order(lambda item: 1 // item, [1, 0, 1], 1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
