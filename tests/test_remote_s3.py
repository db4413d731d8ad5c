"""Manifests, clips, shards, folders and models in a bucket of S3 are what they are here."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avlearn.data.lists import listed_sources
from avlearn.data.manifest import read_manifest
from avlearn.data.prepare import prepare
from avlearn.errors import DataError, MediaError
from avlearn.media import MediaFile
from avlearn.remote.folder import list_folder


def run(*words: object) -> None:
    """A command in a process of its own, which has the store's name and keys by its environment."""
    subprocess.run([sys.executable, "-m", "avlearn", *map(str, words)], check=True)


def test_clips_manifests_and_folders(bucket, small_world, tmp_path):
    address = bucket.fill(small_world, "world")
    rows = read_manifest(address)
    for ours, theirs in zip(read_manifest(small_world)[:2], rows, strict=False):
        assert theirs.path == f"{address}/clips/{ours.name}"
        with MediaFile(theirs.source) as there, MediaFile(ours.source) as here:
            assert np.array_equal(there[0.5:1.0].video, here[0.5:1.0].video)
    files = sorted((small_world / "clips").glob("*.mp4"))
    assert listed_sources(f"{address}/clips") == [f"{address}/clips/{path.name}" for path in files]
    run("scan", f"{address}/clips", "-o", tmp_path / "there.csv", "--workers", 1)
    run("scan", small_world / "clips", "-o", tmp_path / "here.csv", "--workers", 1)
    here, there = (
        [replace(row, path=Path()) for row in read_manifest(tmp_path / f"{name}.csv")] for name in ("here", "there")
    )
    assert here == there and not any(row.reason for row in there)


def test_shards_and_a_model(bucket, small_world, untrained, tmp_path):
    prepare(small_world / "manifest.parquet", tmp_path / "prepared", short_side=64, shards=3, workers=1)
    shards, model = bucket.fill(tmp_path / "prepared", "prepared"), bucket.fill(Path(untrained), "model")
    found = []
    for data, by in ((tmp_path / "prepared", untrained), (shards, model)):
        run("embed", f"{data}/manifest.parquet", "-m", by, "-o", tmp_path / f"{len(found)}.npz", "--workers", 1)
        table = np.load(tmp_path / f"{len(found)}.npz")
        found.append((table["video"].tobytes(), table["audio"].tobytes()))
    assert found[0] == found[1]


def test_what_is_not_there(bucket, tmp_path):
    with pytest.raises(MediaError, match=r"^s3://.*/none\.mp4 is not there$"):
        MediaFile(f"{bucket.address}/none.mp4")
    with pytest.raises(DataError, match=r"^s3://.*/manifest\.parquet is not there: avlearn scan s3://"):
        read_manifest(f"{bucket.address}/none")
    with pytest.raises(MediaError, match="is no folder, or there is none"):
        list_folder(f"{bucket.address}/none", Counter())
