"""Processes that die of their work, journals that are torn, disks that are full."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avlearn.data.loader import clip_loader
from avlearn.data.resumable import CRASHED, Journal, in_processes
from avlearn.data.sampling import StepSampler
from avlearn.errors import AvlearnError, OutputError

# ---- processes


def squared(number: int) -> int:
    return number * number


def fatal(number: int) -> int:
    if number % 5 == 3:
        os.kill(os.getpid(), (signal.SIGKILL, signal.SIGSEGV)[number > 5])
    time.sleep(0.05)  # others are under way when it dies
    return squared(number)


def test_items_that_kill_their_process_are_told_from_the_others():
    found = list(in_processes(fatal, range(10), 3))
    assert dict(found) == {k: CRASHED if k in (3, 8) else k * k for k in range(10)}
    assert len(found) == 10


def test_no_items():
    assert list(in_processes(squared, [], 2)) == []


def raising(number: int) -> int:
    raise OutputError(f"{number} is too much")


def test_what_is_raised_in_a_process_is_raised_here():
    with pytest.raises(OutputError, match="is too much"):
        list(in_processes(raising, [1, 2, 3], 2))


def named_then_asleep(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(120)  # it is ended long before
    (folder / "it woke").touch()


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether processes end within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(_lives(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def begun(folder: Path, count: int) -> list[int]:
    until = time.monotonic() + 90
    while len(found := list(folder.iterdir())) < count and time.monotonic() < until:
        time.sleep(0.01)
    return [int(path.name) for path in found]


def first_then_asleep(item: tuple[int, Path]) -> int:
    number, folder = item
    if number:
        named_then_asleep(folder)
    return number


def test_closing_ends_what_is_under_way(tmp_path):
    results = in_processes(first_then_asleep, [(k, tmp_path) for k in range(6)], 3)
    assert next(results) == (0, 0)
    pids = begun(tmp_path, 3)
    results.close()
    assert len(pids) == 3 and gone(pids) and not (tmp_path / "it woke").exists()


def parent(folder: str) -> None:
    list(in_processes(named_then_asleep, [Path(folder)] * 2, 2))


def test_processes_end_when_their_parent_is_killed(tmp_path):
    code = f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n"
    code += "import test_resumable\nif __name__ == '__main__':\n    test_resumable.parent(sys.argv[1])\n"
    script, folder = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(code)
    folder.mkdir()
    process = subprocess.Popen([sys.executable, script, folder])
    pids = begun(folder, 2)
    process.kill()
    process.wait()
    assert len(pids) == 2 and gone(pids) and not (folder / "it woke").exists()


def test_a_process_ends_whose_readers_are_under_way(tmp_path):
    """As when an error ends a training: they are daemons, which Python orders to end, and waits for."""
    script = tmp_path / "script.py"
    script.write_text(
        "from collections import defaultdict\n"
        "from avlearn.data.loader import clip_loader\n"
        "from avlearn.data.sampling import StepSampler\n"
        "if __name__ == '__main__':\n"
        "    reading = iter(clip_loader(defaultdict(int), StepSampler(4, 2, 1000, 0, workers=1), 1, len))\n"
        "    print(next(reading))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


# ---- journals


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


def test_without_shared_memory_it_is_said_in_a_line(monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", refuse)
    said = r"locks lie in /dev/shm, which cannot be written \(Read-only file system\): free or mount it"
    for start in (lambda: list(in_processes(str, [1], 1)), lambda: clip_loader([], StepSampler(2, 2, 1, 0), 1)):
        with pytest.raises(AvlearnError, match=said):
            start()
