"""Locks: the second is told who is at work, or waits; what a dead process held is free."""

import os
import signal
import threading
import time

import pytest

from avlearn.errors import OutputError
from avlearn.lock import Lock, locked


def test_the_second_is_told_who_is_at_work(tmp_path):
    who = rf"at work on {tmp_path} \(process {os.getpid()} on .* since 20"
    with locked(tmp_path / ".lock"), pytest.raises(OutputError, match=who):
        Lock(tmp_path / ".lock")
    assert not list(tmp_path.iterdir())
    Lock(tmp_path / ".lock").close()


def test_a_full_disk_leaves_no_lock(tmp_path):
    (tmp_path / ".lock").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="cannot write"):
        Lock(tmp_path / ".lock")
    assert not list(tmp_path.iterdir())


def test_the_second_waits_where_it_is_to(tmp_path, capsys):
    first = Lock(tmp_path / ".lock")
    threading.Timer(0.3, first.close).start()
    began = time.monotonic()
    with locked(tmp_path / ".lock", wait=True):
        assert time.monotonic() - began > 0.2
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()}")
    assert f"waiting: another run is at work on {tmp_path}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_held_is_free(tmp_path):
    pid = os.fork()
    if not pid:
        Lock(tmp_path / ".lock")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        Lock(tmp_path / "none" / ".lock")
