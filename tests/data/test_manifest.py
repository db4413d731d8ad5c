"""Manifests: what is written is read, and what is wrong with a table is said in one line."""

import csv
import pickle
import subprocess
import sys
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
            reason="no audio",
            events=(Event("dog", 0.5, 0.5, (0.1, 0.2, 0.3, 1.0)), Event("x", 0, 2.5)),
        ),
        row(tmp_path / "shards" / "a.tar", offset=512, bytes=9000, start=1.4, folds=("test", "", "train")),
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
        (HEAD + "a.mp4,4,25,64,48,16000,1,dog,train,,\n", "row 1: labels: 'dog' is no list"),
        (HEAD + 'a.mp4,,25,64,48,16000,1,"[""dog""]",train,,\n', "row 1: there is no duration"),
        (HEAD + "a.mp4,four,25,64,48,16000,1,,train,,\n", "row 1: duration: 'four' is no number"),
        ("path,fps\na.mp4,4\n", "lacks the column 'duration'"),
        ("", "lacks the column 'path'"),
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
    with pytest.raises(OutputError, match=r"must end in one of \.csv, \.parquet"):
        write_manifest([], tmp_path / "m.json")
    with pytest.raises(OutputError, match="there is no folder"):
        write_manifest([], tmp_path / "none" / "m.csv")


SECOND = "path,duration,{column}\na.mp4,4,{good}\nb.mp4,4,{bad}\n"


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("start", "-0.5", "x"), ("start", "0", "nan"), ("start", "0", "inf"), ("start", "0", "1e11"),
        ("fps", "25", "-1"), ("fps", "25", "NaN"), ("fps", "25", "1_0"),
        ("width", "64", "6.5"), ("width", "64.0", "-1"),
        ("height", "48", "1e30"), ("sample_rate", "16000", "-5"), ("channels", "2", "two"), ("bytes", "9", "-1"),
        ("offset", "", "-5"), ("offset", "", "x"), ("offset", "", "0"), ("truth", "a.json", "a\0b"),
        ("labels", "[1]", "[[1]]"), ("labels", "[]", "[" * 100_000), ("labels", "[]", "{}"), ("labels", "[]", "[true]"),
        ("labels", "[]", "[" + "9" * 5000 + "]"), ("flags", "[]", "silent"), ("split", "test", "a\0b"),
        ("events", "[]", '"[{""label"": 5, ""start"": 0, ""end"": 1}]"'),
        ("events", "[]", '"[{""label"": ""x"", ""start"": NaN, ""end"": 1}]"'),
        ("events", "[]", '"[{""label"": ""x"", ""start"": 2, ""end"": 1}]"'),
        ("events", "[]", '"[{""label"": ""x"", ""start"": ""0"", ""end"": Infinity}]"'),
        ("events", "[]", '"[{""label"": ""x"", ""start"": 0, ""end"": 1, ""box"": [0, 0, 640, 480]}]"'),
        ("events", "[]", '"[{""label"": ""x"", ""start"": 0, ""end"": 1, ""box"": [0, 0]}]"'),
        ("events", "[]", '"[{""label"": ""x"", ""start"": 0, ""end"": 1, ""box"": ""abcd""}]"'),
        ("events", "[]", '"[{""label"": ""x"", ""start"": 0, ""end"": 1, ""box"": 5}]"'),
        ("events", "[]", "[5]"), ("split", "val", "validation"), ("split", "", "Train"),
        ("folds", '"[""test"", """"]"', '"[""testing""]"'),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_a_cell_that_cannot_be_true_is_named_by_row_and_column(tmp_path, column, good, bad):
    path = tmp_path / "m.csv"
    path.write_text(SECOND.format(column=column, good=good, bad=good))
    assert len(read_manifest(path)) == 2
    path.write_text(SECOND.format(column=column, good=good, bad=bad))
    with pytest.raises(DataError, match=rf"m\.csv, row 2: ({column}|bytes): ") as caught:
        read_manifest(path)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize("duration", ["x", "nan", "-1", "inf", "0", "1e9", "4,5", "True"])
def test_a_duration_is_finite_and_positive(tmp_path, duration):
    (tmp_path / "m.tsv").write_text(f"path\tduration\na.mp4\t{duration}\n")
    with pytest.raises(DataError, match="row 1: duration: "):
        read_manifest(tmp_path / "m.tsv")


def test_a_clip_that_cannot_be_used_may_last_nothing(tmp_path):
    write_manifest([row(tmp_path / "a.mp4", duration=0.0, reason="there is no such file")], tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv")[0].reason


@pytest.mark.parametrize("name", ["m.csv", "M.CSV", "m.Csv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_spreadsheets(tmp_path, name, separator, encoding, end):
    lines = [" path ,duration,labels", 'b\u00e4r, 1.mp4|4.5|["d\u00f6g"]'.replace(",", "%"), "", "c.mp4|2|"]
    text = end.join(lines).replace(",", separator).replace("|", separator).replace('["d\u00f6g"]', '"[""d\u00f6g""]"')
    (tmp_path / name).write_bytes(text.encode(encoding))
    first, second = read_manifest(tmp_path / name)
    assert (first.path, first.duration, first.labels) == (tmp_path / "b\u00e4r% 1.mp4", 4.5, ("d\u00f6g",))
    assert (second.path, second.duration) == (tmp_path / "c.mp4", 2.0)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("cp1252", "line 3: not in UTF-8: save it in UTF-8 (in Excel: CSV UTF-8)"), ("utf-16", "line 1: not in UTF-8")],
)
def test_other_encodings_are_refused_with_what_to_do(tmp_path, encoding, said):
    text = "path;duration\r\n" + "a.mp4;1\r\n" * (encoding == "cp1252") + "b\u00e4r.mp4;2\r\n"
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "m.csv")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,duration\na.mp4,4,5\n", "row 1: it has 3 cells, the first line 2"),
        ("path,duration\na.mp4\n", "row 1: it has 1 cells, the first line 2"),
        ('path,duration\na.mp4,4\n"b.mp4,4\n', "row 2: unexpected end of data"),
        ("path,duration,path\na.mp4,4,b\n", "has the column 'path' twice"),
        ("path,duration\n" + "x" * (2**24 + 9) + ",4\n", "row 1: field larger than field limit"),
        ("\0\n\0", "lacks the column 'path'"),
    ],
    ids=lambda text: text[:30],
)
def test_damaged_text_is_one_line(tmp_path, text, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "m.csv")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["m.json", "m.mp4", "m", "m.xlsx", "m.csv.gz"])
def test_other_files_are_refused_by_their_names(tmp_path, name):
    (tmp_path / name).write_text("path,duration\n")
    with pytest.raises(DataError, match=r"not a manifest by its name: \.parquet, \.csv, \.tsv"):
        read_manifest(tmp_path / name)


def parquet(folder: Path, columns: dict, **options) -> Path:
    table = pyarrow.table({"path": ["a.mp4", "b.mp4"], "duration": [1.0, 2.0]} | columns)
    pyarrow.parquet.write_table(table, folder / "m.PARQUET", **options)
    return folder / "m.PARQUET"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": [1, 2]}, "path holds int64: write text"),
        ({"path": [["a"], ["b"]]}, "path holds list<"),
        ({"path": [b"a", b"b"]}, "path holds binary: write text"),
        ({"path": ["a.mp4", None]}, "row 2: there is no path"),
        ({"duration": ["1", "2"]}, "duration holds string: write numbers"),
        ({"duration": [1.0, float("nan")]}, "row 2: duration: nan is not from 0"),
        ({"duration": [True, False]}, "duration holds bool: write numbers"),
        ({"labels": [["dog"], []]}, "labels holds list<"),
        ({"offset": [None, -5], "bytes": [None, 9]}, "row 2: offset: -5 is not from 0"),
        ({"width": [64.5, 64]}, "row 1: width: 64.5 is no whole number"),
        ({"bytes": [0, 2**60 + 1]}, "row 2: bytes: 1152921504606846977 is not from 0"),
        ({"bytes": pyarrow.array([2**64 - 1, 0], pyarrow.uint64())}, "row 1: bytes: 18446744073709551615 is not"),
        ({"events": [{"label": "x"}, None]}, "events holds struct<"),
    ],
)
def test_columns_are_typed(tmp_path, columns, said):
    with pytest.raises(DataError) as caught:
        read_manifest(parquet(tmp_path, columns))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_of_other_tools_are_read(tmp_path):
    columns = {
        "path": pyarrow.array(["a.mp4", "b.mp4"]).dictionary_encode(),
        "duration": pyarrow.array([1, 2], pyarrow.uint8()),
        "split": pyarrow.array(["", "test"], "large_utf8"),
        "width": [64.0, None],
        "labels": pyarrow.nulls(2),
        "mine": [[1], [2]],
    }
    first, second = read_manifest(parquet(tmp_path, columns))
    assert (first.path, first.duration, first.width, first.labels) == (tmp_path / "a.mp4", 1.0, 64, ())
    assert (second.width, second.split) == (0, "test")


def test_a_table_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("avlearn.data.tables._ROOM", 2**16)
    count = 100_000
    columns = {"path": ["a" * 90] * count, "duration": [1.0] * count}
    with pytest.raises(DataError, match="100000 rows in"):
        read_manifest(parquet(tmp_path, columns))
    count = 1000
    columns = {"path": [f"{number}.mp4" for number in range(count)], "duration": [1.0] * count}
    columns["labels"] = ['["' + "a" * 6000 + '"]'] * count
    with pytest.raises(DataError, match="labels holds 6004000 bytes of text"):
        read_manifest(parquet(tmp_path, columns))
    columns["labels"] = ["[" + " " * (2**24) + "]"] + [""] * (count - 1)
    with pytest.raises(DataError, match=r"(labels holds a text of more than|unpacks to)"):
        read_manifest(parquet(tmp_path, columns, compression="zstd"))
    columns["labels"] = [f'["{number % 4}' + "a" * 6000 + '"]' for number in range(count)]
    with pytest.raises(DataError, match="unpacks to"):
        read_manifest(parquet(tmp_path, columns, use_dictionary=False, compression="zstd"))


_EVERY_BYTE = """
import sys
from pathlib import Path
from avlearn.data.manifest import read_manifest
from avlearn.errors import DataError
path = Path(sys.argv[1])
whole = path.read_bytes()
footer = int.from_bytes(whole[-8:-4], "little")
for place in range(len(whole) - 8 - footer, len(whole)):
    for bit in (1, 4, 128):
        damaged = bytearray(whole)
        damaged[place] ^= bit
        path.write_bytes(damaged)
        try:
            read_manifest(path)
        except DataError as error:
            assert len(str(error).splitlines()) == 1
"""


def test_parquet_whose_footer_is_damaged_does_not_end_the_process(tmp_path):
    path = parquet(tmp_path, {"path": ["a.mp4"] * 3, "duration": [1.0] * 3, "labels": ["[]", None, "[]"]})
    done = subprocess.run([sys.executable, "-c", _EVERY_BYTE, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_damaged_parquet_is_one_line(tmp_path):
    write_manifest([row(tmp_path / f"{number}.mp4") for number in range(9)], tmp_path / "m.parquet")
    whole = (tmp_path / "m.parquet").read_bytes()
    for cut in (0, 3, 4, len(whole) // 2, len(whole) - 1):
        (tmp_path / "m.parquet").write_bytes(whole[:cut])
        with pytest.raises(DataError, match="is not a manifest: ") as caught:
            read_manifest(tmp_path / "m.parquet")
        assert "\n" not in str(caught.value)


def test_names_in_errors_are_printable(tmp_path):
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "a\x1b[2J\nb.csv")
    assert str(caught.value) == rf"there is no manifest {tmp_path}/a\x1b[2J\nb.csv"


@pytest.mark.parametrize(
    ("reason", "video", "audio", "said"),
    [
        ("there is no audio track", True, False, ""),
        ("there is no audio track", True, True, "there is no audio track"),
        ("there is no video", False, True, ""),
        ("there is no video", True, False, "there is no video"),
        ("the file is damaged", False, True, "the file is damaged"),
        ("", True, True, ""),
    ],
)
def test_a_clip_lacks_only_what_is_taken(reason, video, audio, said):
    assert row(Path("a.mp4"), reason=reason).reason_for(video=video, audio=audio) == said


_OPEN = """
import sys
from avlearn.data import manifest
manifest._LARGE = 0
rows = manifest.read_manifest(sys.argv[1])
assert rows._mapped is not None
assert len(rows) == 200_000 and rows[199_999].labels == ("4",) and rows[7].path.name == "7.mp4"
"""


def test_a_large_table_is_laid_out_by_processes_that_begin_together(tmp_path, monkeypatch):
    count = 200_000
    columns = {"path": [f"{k}.mp4" for k in range(count)], "duration": [1.0] * count}
    path = parquet(tmp_path, columns | {"labels": [f'["{k % 5}"]' for k in range(count)]})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    processes = [subprocess.Popen([sys.executable, "-c", _OPEN, str(path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    assert len(list((tmp_path / "cache/avlearn/manifests").iterdir())) == 1


@pytest.fixture
def large(tmp_path, monkeypatch) -> Path:
    """A manifest whose rows are mapped."""
    monkeypatch.setattr("avlearn.data.manifest._LARGE", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return parquet(tmp_path, {"path": ["a.mp4", "b.mp4"], "duration": [1.0, 2.0]})


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: bytes(len(data))])
def test_what_was_laid_out_and_is_damaged_is_laid_out_again(large, damage):
    mapped = read_manifest(large)._mapped
    whole = mapped.read_bytes()
    mapped.write_bytes(damage(whole))
    assert [row.duration for row in read_manifest(large)] == [1.0, 2.0]
    assert mapped.read_bytes() == whole


def test_a_cache_that_cannot_be_used_is_no_reason_not_to_work(large, tmp_path, monkeypatch):
    mapped = read_manifest(large)._mapped
    mapped.unlink()
    mapped.mkdir()
    (mapped / "mine").touch()
    assert [row.duration for row in read_manifest(large)] == [1.0, 2.0]
    monkeypatch.setenv("XDG_CACHE_HOME", str(large))
    assert [row.duration for row in read_manifest(large)] == [1.0, 2.0]


def test_rows_reach_other_processes_also_when_their_file_went(large):
    rows = read_manifest(large)[1:]
    rows._mapped.unlink()
    assert pickle.loads(pickle.dumps(rows)) == rows
