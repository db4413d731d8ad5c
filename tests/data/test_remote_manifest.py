"""Manifests, lists and shards at addresses: they read as those here do, and name no files of this machine."""

import csv
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from avlearn.data import manifest as manifests
from avlearn.data.lists import listed_sources
from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.data.prepare import prepare
from avlearn.data.prepared_flow import read_flow, stored_settings
from avlearn.data.transcode import FlowSettings
from avlearn.errors import DataError, MediaError
from avlearn.media import ClipReader, Slice, Window
from avlearn.remote.address import file_name, folder_of, is_foreign, located

pytestmark = pytest.mark.usefixtures("copies")


@pytest.fixture
def world(nginx, small_world):
    """The address of a small world, which lies in a folder whose name has to be quoted."""
    shutil.copytree(small_world, nginx.folder / "a world#1")
    return f"{nginx.address}/a%20world%231"


@pytest.fixture
def published():
    """Publish text in fsspec's memory; its address."""

    def publish(name: str, text: str) -> str:
        fsspec.filesystem("memory").pipe(f"/lists/{name}", text.encode())
        return f"memory://lists/{name}"

    return publish


@pytest.mark.parametrize("large", [False, True])
def test_a_manifest_at_an_address_is_read_as_one_here(world, small_world, monkeypatch, large, tmp_path):
    if large:
        monkeypatch.setattr(manifests, "_LARGE", 1)
    here = read_manifest(small_world)
    for address in (world, f"{world}/manifest.parquet", f"{world}/manifest.parquet?signature=1"):
        rows = read_manifest(address)
        for row, own in zip(rows, here, strict=True):
            name = str(own.path.relative_to(small_world))
            assert (row.path, row.name) == (f"{world}/{name}", own.name)
            assert row.truth == f"{world}/{own.truth.relative_to(small_world)}"
            assert replace(row, path=own.path, truth=own.truth) == own and row.fingerprint == own.fingerprint
    assert pickle.loads(pickle.dumps(rows)) == rows
    write_manifest(rows, tmp_path / "again.csv")  # a manifest here may name what lies elsewhere
    assert read_manifest(tmp_path / "again.csv") == rows
    window = [Window(0.5, 0.5)]
    ours, theirs = (ClipReader(sample_rate=16_000).read(row.source, window)[0] for row in (rows[3], here[3]))
    assert np.array_equal(ours.video, theirs.video) and np.array_equal(ours.audio, theirs.audio)


def test_a_manifest_that_changed_is_fetched_again(nginx, world, small_world):
    rows = read_manifest(world)
    assert len(read_manifest(world)) == 12
    assert [status for path, status, _ in nginx.requests() if "manifest" in path] == [206] * 3  # two looks, one fetch
    folder = nginx.folder / "a world#1"
    write_manifest([replace(row, path=folder / row.name) for row in rows[:5]], folder / "manifest.parquet")
    assert len(read_manifest(world)) == 5


def test_rows_are_held_to_what_their_files_are(nginx, world):
    first, second, *_ = read_manifest(world)
    first.require_unchanged()
    (nginx.folder / "a world#1" / "clips" / first.name).write_bytes(b"1")
    with pytest.raises(DataError, match="has changed since the scan"):
        first.require_unchanged()
    (nginx.folder / "a world#1" / "clips" / second.name).unlink()
    with pytest.raises(MediaError, match="is not there"):
        second.require_unchanged()


FOREIGN = [
    "/etc/passwd", "file:///etc/passwd", "../up.mp4", "a/../../up.mp4", "local:///etc/passwd", "~/a.mp4",
    "\\\\host\\a.mp4", "zip://a.mp4::/etc/passwd", "memory://a.mp4::file:///etc/passwd", "https://h/..\\a.mp4",
    "s3://bucket/a.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_remote_names_no_files_here(published, name):
    said = "what is remote names no files here"
    address = published("m.csv", f'path,duration,truth\nb.mp4,1,\n"{name}",2,\n')
    with pytest.raises(DataError, match=f"^{address}, row 2: .*{said}") as caught:
        read_manifest(address)
    assert "\n" not in str(caught.value)
    text = f'path,duration,truth,reason\nb.mp4,1,"{name}",\n"{name}",0,,gone\n'
    first, second = read_manifest(published("t.csv", text))
    assert first.truth is None and first.path == "memory://lists/b.mp4"
    assert second.path in {f"memory://lists/{last}" for last in ("passwd", "up.mp4", "a.mp4")}
    with pytest.raises(DataError, match=f"line 2: {said}"):
        listed_sources(published("l.txt", f"b.mp4\n{name}\n"))


def test_addresses_that_may_be_named(published):
    address = published("m.csv", "path,duration\nb c.mp4,1\nmemory://d.mp4,2\nhttps://h/e.mp4,3\n")
    paths = ["memory://lists/b c.mp4", "memory://d.mp4", "https://h/e.mp4"]
    assert [row.path for row in read_manifest(address)] == paths
    assert listed_sources(address) == paths
    assert listed_sources(published("l.txt", "b c.mp4\n\nmemory://d.mp4\nhttps://h/e.mp4\n")) == paths
    assert listed_sources("memory://lists/b.mp4") is None
    assert is_foreign("https://h/", "http://h/a.mp4") and not is_foreign("http://h/", "https://h/a.mp4")


def test_names_beside_an_address():
    cases = [
        ("https://h/a/m.csv?x=/y#z", "https://h/a/", "https://h/a/b%20%231.mp4"),
        ("s3://bucket/m.csv", "s3://bucket/", "s3://bucket/b #1.mp4"),
        ("memory://m.csv", "memory://", "memory://b #1.mp4"),
        ("zip://a/m.csv::https://h/z.zip", "zip://a/::https://h/z.zip", "zip://a/b #1.mp4::https://h/z.zip"),
        ("file:///m.csv", "file:///", "file:///b #1.mp4"),
    ]
    for address, folder, beside in cases:
        assert folder_of(address) == folder and located(folder, "b #1.mp4") == beside
        assert file_name(beside) == "b #1.mp4"
    assert folder_of(folder_of("https://h/a/b.json")) == "https://h/"
    assert folder_of("memory://") == "memory://" and located(Path("a"), "b") == Path("a/b")


def test_what_is_no_manifest_is_told_by_its_address(published, nginx):
    refusals = {
        "memory://lists/none.csv": "memory://lists/none.csv is not there",
        f"{nginx.address}/forbidden/": "forbidden/manifest.parquet may not be read",
        published("m.csv", "duration\n1\n"): "memory://lists/m.csv lacks the column 'path'",
        published("m.parquet", "nothing"): "memory://lists/m.parquet is not a manifest",
    }
    for address, reason in refusals.items():
        with pytest.raises(DataError, match=reason) as caught:
            read_manifest(address)
        assert str(caught.value).startswith(address.rstrip("/")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["", "/whole"])
def test_shards_and_their_flow(nginx, small_world, tmp_path, way):
    flow = FlowSettings("dis", 8.0, 32)
    prepare(small_world, tmp_path / "out", shards=2, workers=1, flow=flow)
    shutil.copytree(tmp_path / "out", nginx.folder / "out")
    rows, here = read_manifest(f"{nginx.address}{way}/out"), read_manifest(tmp_path / "out")
    nginx.requests()
    for row, own in zip(rows, here, strict=True):
        row.require_unchanged()
        assert row.source == Slice(f"{nginx.address}{way}/out/shards/{own.name}", own.offset, own.bytes)
        clips = [ClipReader().read(found.source, [Window(0.2, 0.4)])[0] for found in (row, own)]
        assert np.array_equal(clips[0].video, clips[1].video) and np.array_equal(clips[0].audio, clips[1].audio)
    sent = sum(sent for _, _, sent in nginx.requests())
    shards = sum(path.stat().st_size for path in (tmp_path / "out" / "shards").iterdir())
    assert sent <= sum(row.bytes for row in rows) + len(rows) if not way else sent <= shards + len(rows) * shards
    assert stored_settings(rows[7]) == flow
    assert np.array_equal(read_flow(rows[7], flow, 2, 3), read_flow(here[7], flow, 2, 3))


def test_clips_at_addresses_are_prepared(world, small_world, tmp_path, nginx):
    prepare(small_world, tmp_path / "here", workers=1)
    for _ in range(2):
        nginx.requests()
        prepare(world, tmp_path / "there", workers=1)
    assert not [path for path, _, _ in nginx.requests() if path.endswith(".mp4")]  # they are known by their hash
    for here, there in zip(read_manifest(tmp_path / "here"), read_manifest(tmp_path / "there"), strict=True):
        assert there.path.relative_to(tmp_path / "there") == here.path.relative_to(tmp_path / "here")
        assert (there.hash, there.labels) == (here.hash, here.labels)


def test_a_clip_that_is_not_there_is_a_row(world, small_world, tmp_path):
    rows = read_manifest(world)[:2]
    lost = f"{world}/clips/none.mp4"
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "duration"), *((row.path, row.duration) for row in rows), (lost, 1)])
    report = prepare(tmp_path / "m.csv", tmp_path / "out", workers=1)
    assert report.passed_over == [(lost, "is not there")]
    (tmp_path / "m.csv").unlink()
    *found, unused = read_manifest(tmp_path / "out")
    assert (unused.path, unused.reason) == (lost, "is not there")
    assert [row.path.name for row in found] == [row.name for row in rows]
    assert [round(row.duration, 2) for row in found] == [round(row.duration, 2) for row in rows]
