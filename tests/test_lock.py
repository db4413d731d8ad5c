"""Locks: the second is told who is at work, or waits; what a dead process held is free."""

import os
import signal
import subprocess
import sys
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


def test_those_who_share_it_keep_others_out(tmp_path):
    path = tmp_path / ".lock"
    first, second = Lock(path, shared=True), Lock(path, shared=True)
    first.close()
    with pytest.raises(OutputError, match="another run is at work"):
        Lock(path)
    second.close()
    with locked(path), pytest.raises(OutputError, match="another run is at work"):
        Lock(path, shared=True)
    assert not list(tmp_path.iterdir())


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


def test_a_script_that_processes_run_again_does_not_wait_for_itself(tmp_path):
    """Its copies come upon the lock before they can start: without a word they waited for ever."""
    script = tmp_path / "script.py"
    script.write_text(
        "from avlearn.data.world import WorldConfig, make_world\n"
        f"make_world({str(tmp_path / 'world')!r}, 2, 0, WorldConfig(size=32, duration=1.0), workers=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert 'work belongs under if __name__ == "__main__"' in done.stderr.splitlines()[-1]
