"""Work on a Ray cluster: what dies, hangs, fails, or goes missing, and what it says of a cluster that is not there."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ray_cluster import NODE, module, started

from avlearn.data import cluster as clusters
from avlearn.data.cluster import Cluster
from avlearn.data.pool import Died
from avlearn.data.workers import in_workers
from avlearn.errors import AvlearnError, MissingExtraError, OutputError

WORK = """
import os, signal, time
from pathlib import Path
from avlearn.errors import OutputError

def squared(number):
    return number * number

def deadly(number):
    if number % 5 == 3:
        os.kill(os.getpid(), (signal.SIGKILL, signal.SIGSEGV)[number > 5])
    if number == 4:
        time.sleep(600)
    return number * number

def raising(number):
    raise OutputError(f"{number} is too much")

def where(number):
    time.sleep(0.2)
    return os.getpid(), os.getcwd()

def marked(item):
    # A file named after the item and its process; those from 6 on wait for a folder's file "go".
    number, folder = item
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    while number > 5 and not (Path(folder) / "go").exists():
        time.sleep(0.05)
    return number
"""


@pytest.fixture(scope="module")
def work(ray_modules):
    """The functions above, as nodes import them, too."""
    return module(ray_modules, "cluster_work", WORK)


def test_items_that_die_or_hang_are_told_from_the_others(ray_cluster, work):
    found = list(in_workers(work.deadly, range(10), Cluster(ray_cluster.address), _limit))
    expected = {k: k * k for k in range(10)} | {k: Died("the process died of it") for k in (3, 8)}
    assert dict(found) == expected | {4: Died("it was not done after 3 s")} and len(found) == 10
    assert list(in_workers(work.squared, [], Cluster(ray_cluster.address))) == []


def _limit(number: int) -> float:
    return 3.0 if number == 4 else 0.0


def test_what_is_raised_there_is_raised_here(ray_cluster, work):
    with pytest.raises(OutputError, match=r"^1 is too much$"):
        list(in_workers(work.raising, [1], Cluster(ray_cluster.address)))


def test_a_worker_a_cpu_that_lies_where_the_driver_does(ray_cluster, work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    found = [place for _, place in in_workers(work.where, range(12), Cluster(ray_cluster.address))]
    assert {folder for _, folder in found} == {str(tmp_path)} and len({process for process, _ in found}) == 2
    found = [place for _, place in in_workers(work.where, range(4), Cluster(ray_cluster.address, workers=1))]
    assert len({process for process, _ in found}) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def under_way(folder: Path, number: int) -> int:
    """The process that an item is done by, when it has begun."""
    until = time.monotonic() + 60
    while not (found := list(folder.glob(f"{number}-*"))) and time.monotonic() < until:
        time.sleep(0.02)
    return int(found[-1].name.split("-")[1])


def processes(folder: Path) -> set[int]:
    """Those that have begun an item."""
    return {int(path.name.split("-")[1]) for path in folder.iterdir() if "-" in path.name}


def test_a_killed_worker_costs_nothing(ray_cluster, work, tmp_path):
    found = done_while(
        lambda: os.kill(under_way(tmp_path, 6), signal.SIGKILL), work, range(12), ray_cluster.address, tmp_path
    )
    assert sorted(found) == [(k, k) for k in range(12)]


def test_a_killed_node_costs_nothing(ray_cluster, work, tmp_path):
    third = ray_cluster.add_node(**NODE)

    def kill() -> None:
        until = time.monotonic() + 60
        while len(processes(tmp_path)) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        ray_cluster.remove_node(third, allow_graceful=False)

    found = done_while(kill, work, range(6, 24), ray_cluster.address, tmp_path)
    assert sorted(found) == [(k, k + 6) for k in range(18)]


def done_while(action, work, numbers, address: str, folder: Path) -> list[tuple[int, int]]:
    """What comes of items, of which those from 6 on wait until something was done."""
    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(action)
        acting.add_done_callback(lambda _: (folder / "go").touch())
        found = list(in_workers(work.marked, [(k, folder) for k in numbers], Cluster(address)))
        acting.result()
    return found


def test_closing_ends_the_workers(ray_cluster, work, tmp_path):
    results = in_workers(work.marked, [(k, tmp_path) for k in range(12)], Cluster(ray_cluster.address))
    next(results)
    results.close()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{process}").exists() for process in processes(tmp_path)) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes(tmp_path) and time.monotonic() < until


def test_a_cluster_that_is_full_says_so(ray_cluster, work, monkeypatch):
    said = r"no place for a worker for 2 s: 0 of its 0 GPUs are free \(ray status"
    with monkeypatch.context() as made, pytest.raises(AvlearnError, match=said):
        made.setattr(clusters, "_NOBODY", 2.0)
        list(in_workers(work.squared, [1, 2], Cluster(ray_cluster.address, device="cuda")))
    assert list(in_workers(work.squared, [3], Cluster(ray_cluster.address))) == [(0, 9)]


def test_where_models_run(ray_cluster, work):
    assert Cluster(ray_cluster.address).with_device().device == "cpu"
    assert Cluster(ray_cluster.address, device="cuda").with_device().device == "cuda"


def in_process_of_its_own(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Where Ray is not connected to a cluster yet."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )


CONNECT = """
import sys
from avlearn.data.cluster import Cluster
from avlearn.data.workers import in_workers
import cluster_work
print(list(in_workers(cluster_work.squared, [5], Cluster(sys.argv[1]))))
"""


def test_wrong_addresses_are_told_in_a_line(work):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    for address, said in [
        (f"127.0.0.1:{free}", f"no Ray cluster at '127.0.0.1:{free}': Connection refused"),
        (f"ray://127.0.0.1:{free}", f"no Ray cluster at 'ray://127.0.0.1:{free}': Connection refused"),
        ("nonsense", "no Ray cluster at 'nonsense': Invalid address format"),
        ("127.0.0.1:port", "no Ray cluster at '127.0.0.1:port': "),
    ]:
        done = in_process_of_its_own(CONNECT, address)
        assert f"AvlearnError: {said}" in done.stderr, done.stderr


def test_from_outside_of_the_cluster(work):
    port = 21000 + os.getpid() % 1000  # below those that Ray itself takes
    with started(ray_client_server_port=port):
        until = time.monotonic() + 60  # its server for others begins after it
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < until:
            time.sleep(0.1)
        for _ in range(3):  # what Ray starts for each that connects may die on a busy machine
            done = in_process_of_its_own(CONNECT, f"ray://127.0.0.1:{port}")
            if "Initialization failure from server" not in done.stderr:
                break
    assert done.stdout == "[(0, 25)]\n", done.stderr


HIDDEN = """
import sys
class Hide:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "avlearn":
            raise ModuleNotFoundError("No module named 'avlearn'", name="avlearn")
sys.meta_path.insert(0, Hide())
"""


def test_a_node_without_the_package(work, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    with monkeypatch.context() as made:
        made.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
        with started() as cluster:
            made.undo()
            done = in_process_of_its_own(CONNECT, cluster.address)
    assert "AvlearnError: a worker cannot start: " in done.stderr and "every node needs this version" in done.stderr
    with pytest.raises(AvlearnError, match=r"avlearn .* is there, 0\.0 is here"):
        clusters._Actor(work.squared, str(tmp_path), "0.0")


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"a cluster needs Ray: pip install 'avlearn\[cluster\]'"):
        next(in_workers(len, ["a"], Cluster()))
