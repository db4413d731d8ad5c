"""Lists of files: however they were saved, their paths come out as they are meant."""

import hashlib
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avlearn.data.lists import listed_sources
from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.data.shards import write_shards
from avlearn.errors import DataError, MediaError
from avlearn.media import probe
from avlearn.media.source import Slice

LINES = ["# made by hand", "", "a.mp4", "  b/c d.mp4  ", "/d.mp4", '"e f.mp4"', "'#g.mp4'", "-dash.mp4", "b\u00e4r.mp4"]
PATHS = ["a.mp4", "b/c d.mp4", "/d.mp4", "e f.mp4", "#g.mp4", "-dash.mp4", "b\u00e4r.mp4"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_of_paths_from_its_folder_on(tmp_path, encoding, end):
    path = tmp_path / "list.TXT"
    path.write_bytes(end.join(LINES).encode(encoding))
    assert listed_sources(path) == [tmp_path / name for name in PATHS]


def test_a_list_on_standard_input_is_of_paths_from_here_on(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.mp4\n\n/b.mp4\n")))
    assert listed_sources(Path("-")) == [Path("a.mp4"), Path("/b.mp4")]


def test_names_that_are_not_text_and_addresses_stay_what_they_are(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"b\xe4r.mp4\nhttp://127.0.0.1/x.mp4\n")
    first, second = listed_sources(tmp_path / "list.txt")
    assert bytes(first) == bytes(tmp_path) + b"/b\xe4r.mp4"
    assert second == "http://127.0.0.1/x.mp4"


def test_files_of_a_folder_or_a_manifest(tmp_path):
    (tmp_path / "a.mp4").write_text("x")
    assert listed_sources(tmp_path) == [tmp_path / "a.mp4"]
    rows = [Row(tmp_path / "a.mp4", duration=1.0), Row(tmp_path / "b.tar", duration=1.0, offset=512, bytes=9)]
    write_manifest(rows, tmp_path / "m.csv")
    assert listed_sources(tmp_path / "m.csv") == [tmp_path / "a.mp4", Slice(tmp_path / "b.tar", 512, 9)]
    assert listed_sources(tmp_path / "a.mp4") is None


@pytest.mark.parametrize(
    ("data", "said"), [(b"\n# none\n", "names no file"), (b"a\0b", "line 1: holds a zero character")]
)
def test_what_is_no_list(tmp_path, data, said):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(DataError, match=said):
        listed_sources(tmp_path / "list.txt")
    with pytest.raises(DataError, match=r"cannot read the list .*No such file"):
        listed_sources(tmp_path / "none.txt")


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    names = {
        tmp_path: "is a folder", tmp_path / "pipe.mp4": "is a pipe or a device", "/dev/zero": "is a pipe or a device",
        tmp_path / ("x" * 300): "does not exist",
    }  # fmt: skip
    for name, said in names.items():
        with pytest.raises(MediaError, match=said):
            probe(name)


def test_a_folder_of_shards_is_its_clips(small_world, tmp_path):
    rows = []
    for row in read_manifest(small_world)[:3]:
        data = row.path.read_bytes()
        rows.append(replace(row, hash=hashlib.sha256(data).hexdigest()[:32], bytes=len(data)))
    (tmp_path / "shards").mkdir()
    packed = write_shards(rows, [row.path.name for row in rows], tmp_path / "shards", 2)
    write_manifest(packed, tmp_path / "manifest.parquet")
    found = listed_sources(tmp_path)
    assert found == [row.source for row in read_manifest(tmp_path)]
    assert [probe(source).duration for source in found] == pytest.approx([row.duration for row in rows], abs=0.05)
