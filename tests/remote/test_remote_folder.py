"""Folders at addresses: what they hold is found as here, and nothing else is."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from avlearn.cli import app
from avlearn.data.lists import listed_sources
from avlearn.data.manifest import read_manifest
from avlearn.data.prepare import prepare
from avlearn.errors import DataError, MediaError
from avlearn.remote import folder as remote_folder
from avlearn.remote import http
from avlearn.remote.cache import local_copy
from avlearn.remote.folder import list_folder

NAMES = ["a b.mp4", "train/dog/ü#1?.mp4", "train/dog/100%25.mp4", "x.txt", ".hidden/b.mp4", "c/.d.mp4"]
SEEN = sorted(tuple(name.split("/")) for name in NAMES[:4])


@pytest.fixture
def spread(nginx):
    """A folder of small files of odd names."""
    for name in NAMES:
        path = nginx.folder / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return nginx.folder / "videos"


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def addresses(server, spread, memory):
    for name in NAMES:
        memory.pipe(f"/videos/{name}", name.encode())
    memory.pipe("/videos2/other.mp4", b"")
    return [f"{server.address}/listed/videos", f"{server.address}/listed/videos/", "memory://videos", spread.as_uri()]


def test_files_of_a_folder(nginx, spread, memory):
    for address in addresses(nginx, spread, memory):
        passed_over = Counter()
        files = list_folder(address, passed_over)
        assert [file.parts for file in files] == SEEN
        assert [local_copy(file.address).read_text() for file in files] == ["/".join(parts) for parts in SEEN]
        assert sum(passed_over.values()) in (0, 2)  # nginx links to no hidden files
    assert sum(status == 200 for _, status, _ in nginx.requests()) == 2 * 4  # a page of each folder


def page(*links):
    text = "".join(f'<A class=x HREF="{link}">y</a>' for link in links)
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>{text}".encode()


def test_links_that_lead_elsewhere_are_none(server, copies):
    away = [
        "../", "/", "/d", "/secret.mp4", "//evil.test/d/b.mp4", "https://evil.test/d/b.mp4", "file:///etc/passwd",
        "?C=N", "%2e%2e/b.mp4", "..%2fb.mp4", "a%2f..%2f..%2fb.mp4", "..\\b.mp4", "a/../../b.mp4", "http://[",
        "s3://bucket/b.mp4", "e/f.mp4", "%00.mp4", "s3:%2f%2fbucket.mp4", "javascript:x", "",
    ]  # fmt: skip
    server.raw["/d/"] = page(*away, "own.mp4", f"{server.address}/d/two.mp4", "a&amp;b.mp4#c", "own.mp4")
    server.files["/secret.mp4"] = b"secret"
    assert [file.parts for file in list_folder(f"{server.address}/d/", Counter())] == [
        ("a&b.mp4",), ("own.mp4",), ("two.mp4",),
    ]  # fmt: skip
    assert server.asked == ["/d/"]


def test_stores_may_hold_names_that_lead_elsewhere(memory):
    passed_over = Counter()
    memory.pipe("/names/a.mp4", b"")
    for name in ("../b.mp4", "x//y.mp4", "file::b.mp4"):
        memory.store[f"/names/{name}"] = memory.store["/names/a.mp4"]
    assert [file.parts for file in list_folder("memory://names", passed_over)] == [("a.mp4",)]
    assert passed_over == {"names that lead elsewhere": 3}


def test_what_cannot_be_listed_is_told_in_a_line(nginx, server, spread, monkeypatch, memory):
    memory.pipe("/d/a", b"")
    server.raw["/text/"] = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + bytes(100)
    for address, said in {
        f"{nginx.address}/videos/": "may not be read (the server says 403 Forbidden)",
        f"{nginx.address}/none/": "is not there",
        f"{server.address}/text/": "cannot be opened: the server gives no page with the folder's files",
        "memory://none": "is no folder, or there is none",
        "gs://bucket/folder": "needs gcsfs: pip install gcsfs",
    }.items():
        for words in (["scan", address], ["prepare", address, str(spread / "out")]):
            told = CliRunner().invoke(app, words).exception
            assert isinstance(told, DataError) and "\n" not in str(told)
            assert str(told).startswith(address.rstrip("/")) and (words[0] == "prepare" or said in str(told))
    with monkeypatch.context() as small_page:
        small_page.setattr(http, "_LONGEST_PAGE", 50)
        with pytest.raises(MediaError, match="its page of files is longer than"):
            list_folder(f"{nginx.address}/listed/videos/", Counter())
    monkeypatch.setattr(remote_folder, "_names", lambda address: ["on/"])
    with pytest.raises(MediaError, match="holds too many files, or folders in folders"):
        list_folder(f"{nginx.address}/listed/videos/", Counter())


def test_a_training_says_how_a_folder_becomes_a_manifest(nginx):
    with pytest.raises(DataError, match=r"/x/manifest.parquet is not there: avlearn scan .*/x -o manifest.parquet"):
        read_manifest(f"{nginx.address}/x")


def test_a_scan(nginx, small_world, tmp_path):
    videos = nginx.folder / "videos"
    first, second = sorted((small_world / "clips").glob("*.mp4"))[:2]
    for name, source in (("train/dog/a.mp4", first), ("val/cat/b c.mp4", second), ("train/cat/damaged.mp4", __file__)):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, videos / name)
    found = []
    for address in (str(videos), f"{nginx.address}/listed/videos/"):
        told = CliRunner().invoke(app, ["scan", address, "-o", str(tmp_path / "m.parquet"), "--workers", "1"])
        assert told.exit_code == 0, told.exception
        found.append(read_manifest(tmp_path / "m.parquet"))
    here, there = ([replace(row, path=Path()) for row in rows] for rows in found)
    assert here == there and [row.labels for row in there] == [("cat",), ("dog",), ("cat",)]
    assert [row.split for row in there] == ["train", "train", "val"]
    assert [bool(row.reason) for row in there] == [True, False, False]
    assert found[1][2].path == f"{nginx.address}/listed/videos/val/cat/b%20c.mp4"


def test_files_of_a_folder_are_worked_on(nginx, small_world, tmp_path):
    shutil.copytree(small_world / "clips", nginx.folder / "clips")
    address = f"{nginx.address}/listed/clips"
    files = [f"{address}/{path.name}" for path in sorted((small_world / "clips").glob("*.mp4"))]
    assert listed_sources(f"{address}/") == files
    prepare(small_world / "manifest.parquet", nginx.folder / "shards", short_side=64, shards=2, workers=1)
    sources = listed_sources(f"{nginx.address}/shards/")  # its manifest
    assert [(source.offset, source.bytes) for source in sources] == [
        (source.offset, source.bytes) for source in listed_sources(nginx.folder / "shards")
    ]
