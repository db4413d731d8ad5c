"""Rows of a manifest are made when they are asked for, of a table that processes share where it is large."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avlearn.data import manifest as module
from avlearn.data.manifest import (
    Event,
    Manifest,
    Row,
    in_fold,
    read_manifest,
    select,
    take,
    value_counts,
    write_manifest,
)

COUNT = 300


def made(folder: Path) -> list[Row]:
    rows = []
    for k in range(COUNT):
        rows.append(
            Row(
                folder / f"{k}.mp4", duration=1.0 + k % 7, fps=25.0, labels=("a", "b")[k % 2 :],
                split="" if k % 3 else "val",
                flags=("silent",) * (k % 5 == 0), reason="" if k % 11 else "it is damaged", hash=f"{k:032x}",
                folds=("train", "test") if k % 4 else ("test", ""), events=(Event("x", 0.0, 0.5),) * (k % 2),
            )
        )  # fmt: skip
    return rows


@pytest.fixture
def rows(tmp_path) -> list[Row]:
    return made(tmp_path)


@pytest.fixture(params=["in memory", "laid out"])
def table(request, rows, tmp_path, monkeypatch) -> Manifest:
    """The rows as a manifest, in several batches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_GROUP", 64)
    if request.param == "laid out":
        monkeypatch.setattr(module, "_LARGE", 0)
    write_manifest(rows, tmp_path / "m.parquet")
    found = read_manifest(tmp_path / "m.parquet")
    assert (tmp_path / "cache").exists() == (request.param == "laid out")
    return found


def test_rows_are_those_that_were_written(table, rows):
    assert table == rows
    assert [table[k] for k in range(-5, 5)] == [rows[k] for k in range(-5, 5)]
    assert [row.number for row in table] == list(range(1, COUNT + 1)) and table[63].number == 64
    assert table[10:200:7] == rows[10:200:7] and len(table[300:]) == 0
    with pytest.raises(IndexError):
        table[COUNT]


def test_rows_are_chosen_as_of_a_list(table, rows):
    places = np.random.default_rng(0).permutation(COUNT)[:100]
    taken, listed = take(table, places), take(rows, places)
    assert taken == listed and [row.number for row in taken] == (places + 1).tolist()
    for column, holds in (
        ("split", "val".__eq__), ("labels", lambda labels: "a" in labels), ("duration", lambda seconds: seconds > 3),
        ("reason", bool), ("events", bool), ("truth", bool),
    ):  # fmt: skip
        assert select(table, column, holds) == select(rows, column, holds)
        assert select(taken, column, holds) == select(listed, column, holds)
        assert value_counts(table, column) == value_counts(rows, column)
        assert value_counts(taken, column) == value_counts(listed, column)


def test_a_fold_has_its_own_splits(table, rows):
    for fold in (1, 2):
        found, expected = in_fold(table, fold), in_fold(rows, fold)
        assert found == expected and {row.split for row in found} <= {"train", "test"}
        assert value_counts(found, "split") == value_counts(expected, "split")
        assert select(found, "split", "test".__eq__) == select(expected, "split", "test".__eq__)


def test_another_process_has_the_same_rows(table, rows):
    chosen = in_fold(take(table, np.arange(50, 250)), 2)
    sent = pickle.dumps(chosen)
    assert pickle.loads(sent) == chosen == in_fold(rows[50:250], 2)


_SHARED = """
import pickle, sys
def own():
    lines = open("/proc/self/smaps_rollup").read().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
import avlearn.data.manifest
sent = open(sys.argv[1], "rb").read()
before = own()
rows = pickle.loads(sent)
total = sum(len(rows[k].labels) for k in range(0, len(rows), 97))
print(len(sent), own() - before, total)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel does not say what is shared")
def test_a_large_manifest_is_not_copied_into_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_LARGE", 0)
    folder = tmp_path / ("f" * 200)
    folder.mkdir()
    many = [Row(folder / f"{'p' * 200}{k}.mp4", duration=1.0, labels=("dog",)) for k in range(60_000)]
    write_manifest(many, tmp_path / "m.parquet")
    rows = read_manifest(tmp_path / "m.parquet")
    (tmp_path / "sent").write_bytes(pickle.dumps(rows[: len(rows) // 2]))
    # This process maps the file, too, so that its pages belong to both.
    assert sum(len(path.name) for path in map(lambda row: row.path, rows)) > 12e6
    done = subprocess.run(
        [sys.executable, "-c", _SHARED, str(tmp_path / "sent")], capture_output=True, text=True, check=True
    )
    sent, kibibytes, labels = map(int, done.stdout.split())
    assert sent < 200_000 and labels == len(range(0, 30_000, 97))
    assert kibibytes < 6000  # the text of the paths alone is 24 MB


def test_a_manifest_that_changed_is_laid_out_again(rows, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_LARGE", 0)
    path = tmp_path / "m.parquet"
    write_manifest(rows, path)
    first = read_manifest(path)
    write_manifest(rows[:-1], path)
    os.utime(path, ns=(1, 1))
    assert read_manifest(path) == rows[:-1] and first == rows
    assert len(list((tmp_path / "cache" / "avlearn" / "manifests").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(rows, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_LARGE", 0)
    write_manifest(rows, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv") == rows
