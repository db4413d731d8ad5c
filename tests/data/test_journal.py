"""Journals that are torn, and disks that are full."""

import os
import resource

import pytest

from avlearn.data.journal import Journal
from avlearn.data.part import Part
from avlearn.errors import OutputError


def test_a_journal_keeps_whole_lines_only(tmp_path, capsys):
    path = tmp_path / "journal"
    journal = Journal(path)
    for number in (1, 2, 3):
        journal.add({"a": number})
    journal.close()
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + third[:-4])
    journal = Journal(path)
    assert journal.records == [{"a": 1}, {"a": 2}] and not capsys.readouterr().err
    journal.close()
    path.write_bytes(first + b"\x00\x00\n[1]\n" + second.replace(b"2}", b"3}") + third)
    journal = Journal(path)
    assert journal.records == [{"a": 1}, {"a": 3}]
    assert "3 of 5 records are damaged" in capsys.readouterr().err
    journal.close()
    path.write_bytes(first + second)
    journal = Journal(path)
    journal.add({"a": 4})
    journal.close()
    journal = Journal(path)
    assert journal.records == [{"a": 1}, {"a": 2}, {"a": 4}]
    journal.rewrite([{"b": 1}])
    journal.close()
    assert path.read_bytes().endswith(b' {"b": 1}\n') and path.read_bytes().count(b"\n") == 1


def test_a_record_is_there_at_once(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.add({"a": 1})
    assert (tmp_path / "journal").read_bytes().endswith(b' {"a": 1}\n')
    journal.close()


def test_two_runs_do_not_share_a_journal(tmp_path):
    first = Journal(tmp_path / "journal")
    with pytest.raises(OutputError, match=rf"another run is at work on .* \(process {os.getpid()} on .* since "):
        Journal(tmp_path / "journal")
    first.close()
    Journal(tmp_path / "journal").close()
    assert not list(tmp_path.iterdir())  # it has no record


def test_a_journal_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        Journal(tmp_path / "none" / "journal")


def test_a_full_disk_is_told_and_tears_nothing(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*journal"):
            for _ in range(20):
                journal.add({"number": 7})
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal = Journal(path)
    assert journal.records == [{"number": 7}] * 4
    journal.close()


def test_the_journal_of_the_whole_takes_over_what_parts_did(tmp_path):
    path = tmp_path / "journal"
    for part, record in ((None, {"a": 1}), (Part(2, 2), {"a": 2})):
        journal = Journal(path, part)
        journal.add(record)
        journal.close()
    part = Journal(path, Part(1, 2))
    assert part.records == [{"a": 1}, {"a": 2}]
    with pytest.raises(OutputError, match="another run is at work on"):
        part.add({"a": 3})
        Journal(path)
    part.close()
    whole = Journal(path)
    whole.add({"a": 4})
    whole.close()
    assert [found.name for found in tmp_path.iterdir()] == ["journal"]
    again = Journal(path)
    assert [record["a"] for record in again.records][-1] == 4 and {r["a"] for r in again.records} == {1, 2, 3, 4}
    again.close()


def test_parts_and_the_whole_are_not_worked_on_at_once(tmp_path):
    path = tmp_path / "journal"
    parts = [Journal(path, Part(1, 2)), Journal(path, Part(2, 2))]
    for refused in (None, Part(1, 2)):
        with pytest.raises(OutputError, match=rf"another run is at work on {tmp_path}"):
            Journal(path, refused)
    parts[0].close()
    with pytest.raises(OutputError, match="another run is at work"):
        Journal(path)
    parts[1].close()
    whole = Journal(path)
    with pytest.raises(OutputError, match="another run is at work"):
        Journal(path, Part(1, 3))
    whole.close()
    assert not list(tmp_path.iterdir())
