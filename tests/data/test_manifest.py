"""Manifests: what is written is read, and what is wrong with a table is said in one line."""

import csv
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from avlearn.data.manifest import Event, Row, read_manifest, write_manifest
from avlearn.errors import DataError, OutputError

HEAD = "path,duration,fps,width,height,sample_rate,channels,labels,split,flags,hash\n"


def row(path: Path, **changes) -> Row:
    values = {
        "path": path, "duration": 4.0, "fps": 25.0, "width": 64, "height": 48, "sample_rate": 16000, "channels": 1,
        "labels": ("dog", "a, \"b\""), "split": "train", "flags": ("sources:2",), "hash": "0" * 32,
    }  # fmt: skip
    return Row(**{**values, **changes})


@pytest.mark.parametrize("name", ["m.parquet", "m.csv"])
def test_round_trip(tmp_path, name):
    rows = [
        row(tmp_path / "clips" / "a.mp4", truth=tmp_path / "a.json"),
        row(Path("/elsewhere/b.mp4"), duration=2.04, fps=0.0, labels=(), flags=(), split="", hash="12"),
        row(
            tmp_path / "c.mp4",
            reason="no sound",
            events=(Event("dog", 0.5, 0.5, (0.1, 0.2, 0.3, 1.0)), Event("x", 0, 2.5)),
        ),
        row(tmp_path / "shards" / "a.tar", offset=512, bytes=9000, start=1.4),
    ]
    write_manifest(rows, tmp_path / name)
    assert read_manifest(tmp_path / name) == rows
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["m.parquet", "m.csv"])
def test_no_rows(tmp_path, name):
    write_manifest([], tmp_path / name)
    assert read_manifest(tmp_path / name) == []


def test_paths_move_with_the_folder(tmp_path):
    (tmp_path / "one").mkdir()
    write_manifest([row(tmp_path / "one" / "clips" / "a.mp4")], tmp_path / "one" / "manifest.parquet")
    stored = pyarrow.parquet.read_table(tmp_path / "one" / "manifest.parquet").to_pylist()
    assert stored[0]["path"] == "clips/a.mp4"
    (tmp_path / "one").rename(tmp_path / "two")
    assert read_manifest(tmp_path / "two")[0].path == tmp_path / "two" / "clips" / "a.mp4"


def test_a_table_by_hand(tmp_path):
    """A hash of digits stays text, whole seconds become a float, and a truth may be missing."""
    with (tmp_path / "m.csv").open("w", newline="") as file:
        file.write(HEAD)
        csv.writer(file).writerow(["a.mp4", 4, 25, 64, 48, 16000, 1, '["dog"]', "", "", "123456789012345678901234"])
    (read,) = read_manifest(tmp_path / "m.csv")
    assert read.hash == "123456789012345678901234" and isinstance(read.duration, float)
    assert (read.labels, read.split, read.flags, read.truth) == (("dog",), "", (), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "a.mp4,4,25,64,48,16000,1,dog,train,,\n", "row 1: labels is 'dog'"),
        (HEAD + 'a.mp4,,25,64,48,16000,1,"[""dog""]",train,,\n', "row 1: there is no duration"),
        (HEAD + "a.mp4,four,25,64,48,16000,1,,train,,\n", "is not a manifest"),
        ("path,fps\na.mp4,4\n", "lacks the column 'duration'"),
        ("", "is not a manifest"),
        ('path,duration,events\na.mp4,4,"[{""label"": ""dog""}]"\n', "an event needs"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(tmp_path / "m.csv")
    assert "\n" not in str(caught.value)


def test_what_is_no_manifest(tmp_path):
    with pytest.raises(DataError, match="there is no manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.parquet").write_text("not one")
    with pytest.raises(DataError, match="is not a manifest"):
        read_manifest(tmp_path)


def test_where_it_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"\.parquet or a \.csv"):
        write_manifest([], tmp_path / "m.json")
    with pytest.raises(OutputError, match="there is no folder"):
        write_manifest([], tmp_path / "none" / "m.csv")
