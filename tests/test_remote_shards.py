"""A training on tar shards at addresses: each is one stream, the batches are those of shards here."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small_runs

from avlearn.cli import app
from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.data.prepare import prepare
from avlearn.errors import DataError, MediaError, RecipeError
from avlearn.remote import cache
from avlearn.remote import file as remote_file
from avlearn.remote.cache import LIMIT, open_part

SHARDS = 4


@pytest.fixture(scope="module")
def shards(small_world, tmp_path_factory):
    """A folder of 12 clips in four shards."""
    out = tmp_path_factory.mktemp("shards") / "prepared"
    prepare(small_world / "manifest.parquet", out, short_side=64, shards=SHARDS, workers=2)
    return out


@pytest.fixture
def published(nginx, shards):
    shutil.copytree(shards, nginx.folder / "prepared", ignore=shutil.ignore_patterns(".*"))
    cache._copies.clear()
    cache._given_up.clear()
    return f"{nginx.address}/prepared"


def command(folder: Path, root: Path, source: object, *words: str) -> list[str]:
    """A training on clips of shards, two of which are mixed."""
    given = [
        "data.world=null", "data.cache=false", "data.shard_buffer=2", "trainer.batch_size=2", "trainer.max_steps=14",
        f"data.train={source}", *words,
    ]  # fmt: skip
    return small_runs.command(folder, root, *given)


def train(folder: Path, root: Path, source: object, *words: str) -> list[float]:
    """Its losses."""
    given = command(folder, root, source, *words)
    if "data.workers=2" in words:  # which have the environment of this process where it is a new one
        subprocess.run([sys.executable, "-m", "avlearn", *given], check=True)
    else:
        app(given, standalone_mode=False)
    return [row["loss"] for row in small_runs.rows(folder, "loss")]


def streams(nginx) -> list[tuple[str, int]]:
    """Parts of shards that were sent, but for the byte that says how long one is."""
    return [(path, sent) for path, _, sent in nginx.requests() if path.endswith(".tar") and sent != 1]


def test_batches_are_those_of_shards_here_and_each_shard_is_one_stream(nginx, published, shards, tmp_path):
    here = train(tmp_path / "here", tmp_path, shards)
    assert not nginx.requests() and len(here) == 14
    assert train(tmp_path / "there", tmp_path, published, "data.workers=2") == here
    sizes = {f"/prepared/shards/{path.name}": path.stat().st_size for path in (shards / "shards").glob("*.tar")}
    assert len(sizes) == SHARDS
    assert sorted(streams(nginx)) == sorted(sizes.items())  # more than two epochs, and a validation


def test_a_cache_that_holds_some_of_them(nginx, published, shards, copies, tmp_path, monkeypatch):
    sizes = [path.stat().st_size for path in (shards / "shards").glob("*.tar")]
    limit = 2.5 * max(sizes)
    monkeypatch.setenv(LIMIT, str(limit / 1e9))
    here = train(tmp_path / "here", tmp_path, shards, "data.shard_buffer=1")
    assert train(tmp_path / "there", tmp_path, published, "data.shard_buffer=1") == here
    sent = streams(nginx)
    assert {size for _, size in sent} == set(sizes) and len(sent) > SHARDS
    assert sum(path.stat().st_size for path in copies.iterdir()) <= limit


def test_a_shard_that_no_cache_holds_is_read_by_parts(nginx, published, shards, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(LIMIT, str(0.9 * min(path.stat().st_size for path in (shards / "shards").glob("*.tar")) / 1e9))
    here = train(tmp_path / "here", tmp_path, shards)
    assert train(tmp_path / "there", tmp_path, published) == here
    clips = {row.bytes for row in read_manifest(shards)}
    assert {size for _, size in streams(nginx)} <= clips
    assert capfd.readouterr().err.count("warning: ") == 1


def lost(shards: Path, folder: Path) -> tuple[Path, str]:
    """A manifest of the shards of which one is on a server that answers nobody, and that one's address."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/00001.tar"
    rows = [replace(row, path=address) if row.name == "00001.tar" else row for row in read_manifest(shards)]
    write_manifest(rows, folder / "lost.parquet")
    return folder / "lost.parquet", address


def test_a_shard_whose_server_is_down(shards, tmp_path, monkeypatch, capfd, copies):
    monkeypatch.setattr(remote_file, "_WAITS", (0.0, 0.0))
    manifest, address = lost(shards, tmp_path)
    words = ["data.max_bad=0.9", "data.bad_files=skip", "trainer.batch_size=4"]  # a shard has three
    train(tmp_path / "skip", tmp_path, manifest, *words)
    assert f"skipped {address}: cannot be reached: Connection refused" in capfd.readouterr().err
    with pytest.raises(DataError, match=f"^{address}: cannot be reached: Connection refused.*data.bad_files") as told:
        train(tmp_path / "error", tmp_path, manifest, *words, "data.bad_files=error")
    assert "\n" not in str(told.value)


def test_what_is_not_there_is_asked_for_once_a_minute(nginx, published):
    os.remove(nginx.folder / "prepared" / "shards" / "00000.tar")
    nginx.requests()
    for _ in range(3):
        with pytest.raises(MediaError, match=r"00000\.tar is not there$"):
            open_part(f"{published}/shards/00000.tar", 512, 10, whole=True)
    assert [status for _, status, _ in nginx.requests()] == [404]


def test_what_a_buffer_of_shards_does_not_go_with(small_world, tmp_path):
    with pytest.raises(RecipeError, match=r"data\.shard_buffer: data\.cache decodes"):
        train(tmp_path / "run", tmp_path, small_world, "data.cache=true")
    with pytest.raises(DataError, match=r"data\.shard_buffer: the clips of .* lie in no tar shards; leave it out"):
        train(tmp_path / "run", tmp_path, small_world)
