"""Copies of remote files: whole, bounded, fetched once by all processes, and told in a line where they cannot be."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from avlearn.errors import OutputError
from avlearn.media.open_file import OpenFile
from avlearn.remote import cache
from avlearn.remote.cache import LIMIT, kept, key, local_copy
from avlearn.remote.file import RemoteFile


def entries(copies):
    return [path for path in copies.glob("*") if not path.name.startswith(".")]


def held(copies):
    return sum(path.stat().st_size for path in entries(copies))


def publish(name, size):
    fsspec.filesystem("memory").pipe(f"/{name}", os.urandom(size))
    return f"memory://{name}"


def test_what_was_not_used_for_the_longest_time_goes(copies, monkeypatch):
    monkeypatch.setenv(LIMIT, "0.001")
    first, *others = [publish(f"lru{k}", 200_000) for k in range(12)]
    kept_first = local_copy(first)
    for address in others:
        assert local_copy(address).stat().st_size == 200_000
        assert local_copy(first) == kept_first  # used each time
        assert held(copies) <= 1_000_000
    inode = kept_first.stat().st_ino
    local_copy(first)
    assert kept_first.stat().st_ino == inode and len(entries(copies)) >= 4


def test_another_version_is_another_copy(copies):
    address = publish("version", 1000)
    before = local_copy(address).read_bytes()
    time.sleep(0.01)
    publish("version", 1000)
    assert local_copy(address).read_bytes() != before
    damaged = local_copy(address)
    whole = damaged.read_bytes()
    damaged.write_bytes(b"cut")
    assert local_copy(address).read_bytes() == whole


def test_processes_fetch_once_and_wait_for_each_other(nginx, copies):
    (nginx.folder / "a").write_bytes(os.urandom(3_000_000))
    program = f"from avlearn.remote.cache import local_copy; print(local_copy('{nginx.address}/a').stat().st_size)"
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == ["3000000"] * 3
    assert sorted(sent for _, _, sent in nginx.requests()) == [1, 1, 1, 3_000_000]


def test_a_process_that_is_killed_leaves_nothing_for_good(nginx, copies, monkeypatch):
    data = os.urandom(1_000_000)
    (nginx.folder / "a").write_bytes(data)
    program = f"from avlearn.remote.cache import local_copy; local_copy('{nginx.address}/slow/a')"
    process = subprocess.Popen([sys.executable, "-c", program])
    while not list(copies.glob(".*.part")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(copies.glob(".*.part")) and not entries(copies)
    monkeypatch.setenv(LIMIT, "0.0015")
    assert local_copy(f"{nginx.address}/a").read_bytes() == data  # what is left of the other gives way
    assert not list(copies.glob(".*.part"))


def test_a_folder_is_there_whole_or_not_at_all(copies, monkeypatch):
    monkeypatch.setenv(LIMIT, "0.001")

    def fill(part):
        part.mkdir()
        (part / "a").write_bytes(bytes(600_000))

    for name in ("one", "two"):
        assert [path.name for path in kept(key(name), 600_000, fill, name).iterdir()] == ["a"]
    assert len(entries(copies)) == 1 and not list(copies.glob(".*.gone"))


def test_threads_that_want_more_than_fits(copies, monkeypatch):
    monkeypatch.setenv(LIMIT, "0.001")
    addresses = [publish(f"many{k}", 90_000) for k in range(40)]
    whole = [fsspec.filesystem("memory").cat(address) for address in addresses]

    def read(address):
        with RemoteFile(address) as file, cache.open_copy(file, 0, file.size) as copy:
            return copy.read()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(read, addresses)) == whole
    assert held(copies) <= 1_000_000


def test_what_cannot_be_kept_is_told_and_media_are_read_without(copies, monkeypatch, capsys):
    address = publish("room", 5000)
    monkeypatch.setenv(LIMIT, "0.000001")
    with pytest.raises(OutputError, match=rf"memory://room has 5.0 kB, and .* 1.0 kB together: {LIMIT} allows more"):
        local_copy(address)
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(OutputError, match=f"{LIMIT} is 'much': give a number of gigabytes"):
        local_copy(address)
    monkeypatch.delenv(LIMIT)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RemoteFile, "save", full)
    with pytest.raises(
        OutputError, match=r"room cannot be kept in .*: No space left on device; XDG_CACHE_HOME"
    ) as told:
        local_copy(address)
    assert "\n" not in str(told.value) and not entries(copies) and not list(copies.glob(".*.part"))
    for _ in range(2):
        file = OpenFile(address)
        assert not isinstance(file._bytes.file, io.FileIO)
        assert file.read(0, 5000) == fsspec.filesystem("memory").cat("/room")
    assert capsys.readouterr().err.count("warning: what is remote cannot be kept in") == 1
