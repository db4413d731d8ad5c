"""Processes that die of their work, and that hang."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from avlearn.data.loader import clip_loader
from avlearn.data.pool import Died, Piece
from avlearn.data.processes import in_processes
from avlearn.data.sampling import StepSampler
from avlearn.errors import AvlearnError, OutputError


def squared(number: int) -> int:
    return number * number


def fatal(number: int) -> int:
    if number % 5 == 3:
        os.kill(os.getpid(), (signal.SIGKILL, signal.SIGSEGV)[number > 5])
    time.sleep(0.05)  # others are under way when it dies
    return squared(number)


def test_items_that_kill_their_process_are_told_from_the_others():
    found = list(in_processes(fatal, range(10), 3))
    assert dict(found) == {k: Died("the process died of it") if k in (3, 8) else k * k for k in range(10)}
    assert len(found) == 10


def asleep(number: int) -> int:
    if number == 2:
        time.sleep(600)
    return number


def counted(item: tuple[int, Path]) -> int:
    """Ends its process: 3 always, 4 the first time."""
    number, folder = item
    with (folder / str(number)).open("a") as file:
        file.write("x")
    if number == 3 or (number == 4 and len((folder / "4").read_text()) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_only_what_a_process_ended_with_is_done_again(tmp_path):
    found = dict(in_processes(counted, [(k, tmp_path) for k in range(8)], 3))
    assert found == {k: k for k in range(8)} | {3: Died("the process died of it")}
    assert {int(path.name): path.stat().st_size for path in tmp_path.iterdir()} == {
        k: 2 if k in (3, 4) else 1 for k in range(8)
    }


def counted_then_asleep(item: tuple[int, Path]) -> None:
    (item[1] / f"{item[0]}-{os.getpid()}").touch()
    time.sleep(600 if item[0] == 1 else 0)


def test_a_limit_is_waited_for_once(tmp_path):
    items = [(k, tmp_path) for k in range(3)]
    found = dict(in_processes(counted_then_asleep, items, 1, lambda item: 2.0))
    assert found == {0: None, 1: Died("it was not done after 2 s"), 2: None}
    assert len(list(tmp_path.iterdir())) == 3


def test_what_hangs_is_ended():
    found = dict(in_processes(asleep, range(4), 2, lambda number: 3.0 if number == 2 else 0.0))
    assert found == {0: 0, 1: 1, 2: Died("it was not done after 3 s"), 3: 3}


def test_no_items():
    assert list(in_processes(squared, [], 2)) == []


def raising(number: int) -> int:
    raise OutputError(f"{number} is too much")


def test_what_is_raised_in_a_process_is_raised_here():
    with pytest.raises(OutputError, match="is too much"):
        list(in_processes(raising, [1, 2, 3], 2))
    with pytest.raises(TypeError) as caught:
        list(in_processes(squared, ["x"], 1))
    assert "in squared" in caught.value.__notes__[0]


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


def test_worker_processes_end_when_their_parent_is_killed(tmp_path):
    code = f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n"
    code += "import test_worker_processes\nif __name__ == '__main__':\n    test_worker_processes.parent(sys.argv[1])\n"
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


def test_without_shared_memory_it_is_said_in_a_line(monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", refuse)
    said = r"locks lie in /dev/shm, which cannot be written \(Read-only file system\): free or mount it"
    with pytest.raises(AvlearnError, match=said):
        clip_loader([], StepSampler(2, 2, 1, 0), 1)
    assert list(in_processes(str, [1], 1)) == [(0, "1")]  # needs no locks


def counting(number: int):
    """Ends its process after two, if it is to count further than 10."""
    for k in range(number):
        if number > 10 and k == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield k
    return f"of {number}"


def test_work_that_is_a_generator_gives_its_results_in_pieces():
    found: dict[int, list] = {}
    for number, result in in_processes(counting, [3, 0, 11, 5], 2):
        found.setdefault(number, []).append(result)
    assert found == {
        0: [Piece(0), Piece(1), Piece(2), "of 3"], 1: ["of 0"],
        2: [Piece(0), Piece(1), Piece(0), Piece(1), Died("the process died of it")],
        3: [*map(Piece, range(5)), "of 5"],
    }  # fmt: skip


def large(folder: Path):
    for k in range(1000):
        (folder / "begun").write_text(str(k))
        yield bytes(2**20)


def test_pieces_are_not_made_long_before_they_are_taken(tmp_path):
    with closing(in_processes(large, [tmp_path], 1)) as pieces:
        for _ in range(5):
            next(pieces)
        time.sleep(0.3)
        assert int((tmp_path / "begun").read_text()) <= 6
