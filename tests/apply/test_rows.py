"""Rows lie in one block, which grows."""

import numpy as np
import pytest

from avlearn.apply.rows import Rows


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (4, 5)])
def test_rows_come_back_as_they_were_given(shape):
    given = np.random.default_rng(0).normal(size=(1000, *shape)).astype(np.float32)
    rows = Rows()
    for begin in range(0, 900, 90):
        rows.extend(given[begin : begin + 90])
    for row in given[900:]:
        rows.append(row)
    assert rows.array().dtype == np.float32
    np.testing.assert_array_equal(rows.array(), given)
    assert len(rows) == 1000


def test_they_lie_in_one_block_without_room_for_more():
    rows = Rows()
    for _ in range(5000):
        rows.append(np.zeros(16, np.float32))
    found = rows.array()
    assert found.flags.c_contiguous
    assert found.base.nbytes == found.nbytes


def test_the_last_ones_are_given_up_for_others():
    rows = Rows()
    rows.extend(np.arange(10))
    rows.cut(7)
    rows.extend(np.array([-1, -2]))
    rows.cut(100)
    assert rows.array().tolist() == [*range(7), -1, -2]


def test_what_was_given_out_stays_where_more_come():
    rows = Rows()
    rows.extend(np.arange(64))
    before = rows.array()
    for _ in range(10):
        rows.extend(np.zeros(64, int))
    np.testing.assert_array_equal(before, np.arange(64))
    assert len(rows.array()) == 704


def test_without_a_row_there_is_none():
    assert len(Rows()) == 0
    assert not Rows().array().size
