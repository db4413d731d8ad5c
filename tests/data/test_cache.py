"""Clips decoded once: whole or not there, checked when they are opened, without those that cannot be decoded."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avlearn.data import cache as caching
from avlearn.data.cache import decode_once, require_room
from avlearn.data.manifest import read_manifest
from avlearn.errors import AvlearnError, OutputError
from avlearn.lock import Lock
from avlearn.media import read_clip

FORM = (12.5, 32, 8000)


@pytest.fixture(scope="module")
def rows(small_world):
    return read_manifest(small_world / "manifest.parquet")[:4]


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory) -> Path:
    """With the clips in it, and nothing else."""
    folder = tmp_path_factory.mktemp("decoded")
    decode_once(rows, folder, *FORM, workers=2)
    return folder


def opened(rows, folder, monkeypatch, **options):
    """The cache, where nothing has to be decoded."""
    monkeypatch.setattr(caching, "in_processes", None)
    return decode_once(rows, folder, *FORM, workers=2, **options)


def test_clips_are_what_reading_gives(rows, folder, monkeypatch):
    found = opened(rows, folder, monkeypatch)
    assert found.video.shape == (4, 50, 32, 32, 3) and found.audio.shape == (4, 32000) and found.seconds == 4.0
    for k, row in enumerate(rows):
        clip = read_clip(row.source, 0, 4.0, fps=12.5, size=32, sample_rate=8000, mono=True, crop="square")
        assert np.array_equal(found.video[k], clip.video) and np.array_equal(found.audio[k], clip.audio[0])
    (entry,) = folder.iterdir()
    assert {path.name for path in entry.iterdir()} == {"video.raw", "audio.raw", "clips.json"}


@pytest.mark.parametrize("harm", ["a byte", "a cut", "no note", "a torn note"])
def test_a_damaged_entry_is_decoded_again(rows, folder, harm, capsys):
    before = decode_once(rows, folder, *FORM, workers=2).video.copy()
    (entry,) = folder.iterdir()
    if harm == "a byte":
        with (entry / "video.raw").open("r+b") as file:
            file.seek(70_000)
            byte = file.read(1)
            file.seek(70_000)
            file.write(bytes([byte[0] ^ 1]))
    elif harm == "a cut":
        os.truncate(entry / "audio.raw", 1000)
    elif harm == "no note":
        (entry / "clips.json").unlink()
    else:
        (entry / "clips.json").write_text('{"checksums": [1')
    after = decode_once(rows, folder, *FORM, workers=2)
    assert np.array_equal(before, after.video)
    assert "is damaged: its clips are decoded again" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [entry.name]


def test_a_clip_that_cannot_be_decoded_is_left_out(rows, tmp_path, monkeypatch):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    gone = replace(rows[1], path=tmp_path / "gone.mp4")
    mixed = [replace(rows[0], path=bad, bytes=0), rows[1], gone, rows[3]]
    with pytest.raises(AvlearnError):
        decode_once(mixed, tmp_path / "all", *FORM, workers=1)
    assert not list((tmp_path / "all").iterdir())
    decode_once(mixed, tmp_path / "some", *FORM, workers=1, bad_files="skip")
    good = decode_once([rows[1], rows[3]], tmp_path / "good", *FORM, workers=1)
    found = opened(mixed, tmp_path / "some", monkeypatch, bad_files="skip")
    assert found.bad.keys() == {0, 2} and "not a media file" in found.bad[0] and "gone" in found.bad[2]
    assert np.array_equal(found.video, good.video) and np.array_equal(found.audio, good.audio)
    monkeypatch.undo()
    with pytest.raises(AvlearnError):  # what was skipped by one run is no clip for another
        decode_once(mixed, tmp_path / "some", *FORM, workers=1)


def test_another_file_of_the_same_name_is_another_clip(rows, tmp_path):
    copies = [tmp_path / "a.mp4", tmp_path / "b" / "a.mp4"]
    copies[1].parent.mkdir()
    for copy, row in zip(copies, rows, strict=False):
        copy.write_bytes(row.path.read_bytes())
    unhashed = [replace(row, path=copy, hash="") for copy, row in zip(copies, rows, strict=False)]
    first, second = (decode_once([row], tmp_path / "c", *FORM, workers=1) for row in unhashed)
    assert not np.array_equal(first.video, second.video)


def test_the_second_waits_for_the_first(rows, folder, monkeypatch, capsys):
    (entry,) = folder.iterdir()
    lock = Lock(folder / f".{entry.name}.lock")
    # Not a fork: threads of libraries would be missing in it.
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(decode_once, rows, folder, *FORM, workers=1)
        time.sleep(0.2)
        assert not second.done()
        lock.close()
        assert len(second.result(timeout=60).video) == 4


def test_a_disk_without_room_is_told_before_the_work(rows, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"needs [\d.]+ [kM]B .* and the disk has 1.0 kB: use data\.cache=false"):
        require_room(tmp_path / "not" / "there", 1, 4.0, *FORM)
    monkeypatch.setattr(caching, "in_processes", None)
    with pytest.raises(OutputError, match="needs"):
        decode_once(rows, tmp_path / "c", *FORM, workers=1)
    assert not list((tmp_path / "c").iterdir())


def test_a_disk_that_fills_up_leaves_nothing(rows, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(caching.os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left"):
        decode_once(rows, tmp_path / "c", *FORM, workers=1)
    assert not list((tmp_path / "c").iterdir())


def test_a_note_is_json(folder):
    (entry,) = folder.iterdir()
    assert json.loads((entry / "clips.json").read_text()).keys() == {"checksums", "bad"}
