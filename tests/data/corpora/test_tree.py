import pytest

from avlearn.data.corpora.tree import Tree, read_items, read_lines, read_records, read_table
from avlearn.errors import DataError

from .layout import lay


def test_find_prefers_the_folder_named_alike_then_pictures_with_sound(tmp_path):
    names = (
        "b/play_a_lute/x.webm",
        "b/play_a_lute/x.wav",
        "a/sing/x.mp4",
        "c/y.WAV",
        "a/hum/z.mp4",
        "c/hum a tune/z.mp4",
    )
    tree = Tree(lay(tmp_path, dict.fromkeys(names, "")))
    assert tree.find("play a lute/x.mp4") == tmp_path / "b/play_a_lute/x.webm"
    assert tree.find("sing/x.mp4") == tree.find("x.mp4") == tmp_path / "a/sing/x.mp4"
    assert tree.find("sing/y.mp4") == tmp_path / "c/y.WAV"
    assert tree.find("hum_a_tune/z.mp4") == tmp_path / "c/hum a tune/z.mp4"
    assert tree.find("sing/none.mp4") == tmp_path / "sing/none.mp4"


def test_the_root_itself_is_no_hint(tmp_path):
    tree = Tree(lay(tmp_path / "s2", {"s1/x.mp4": "", "s2/x.mp4": ""}))
    assert tree.find("s2/x.mpg") == tmp_path / "s2" / "s2" / "x.mp4"


def test_links_are_followed(tmp_path):
    lay(tmp_path, {"disk/train/x.mp4": "", "corpus/README.txt": ""})
    (tmp_path / "corpus" / "train").symlink_to(tmp_path / "disk" / "train")
    assert Tree(tmp_path / "corpus").find("x.mp4").is_file()


def test_the_nearest_list_is_taken(tmp_path):
    tree = Tree(lay(tmp_path, {"a/b/train.csv": "", "c/Train.csv": "", "a/val.csv": "", "a/xtrain.csv": ""}))
    files = tree.splits(r"(train|val|test)\.csv", "train.csv")
    assert files == [("train", tmp_path / "c/Train.csv"), ("val", tmp_path / "a/val.csv")]


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def walk(top, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "train")))
        return iter(())

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(DataError, match="train cannot be read: Permission denied"):
        Tree(tmp_path)


def test_bom_crlf_and_blank_lines(tmp_path):
    lay(
        tmp_path,
        {"a.txt": "\ufeff1\r\n\r\n 2 \r\n\r\n", "a.csv": '\ufeffid,label\r\n1,"a, b"\r\n\r\n2,c\r\n  \r\n\r\n'},
    )
    assert [*read_lines(tmp_path / "a.txt", int, "a number")] == [1, 2]
    records = [*read_records(tmp_path / "a.csv", lambda row: row, "id,label")]
    assert records == [{"id": "1", "label": "a, b"}, {"id": "2", "label": "c"}]


def test_rows_made_none_are_left_out(tmp_path):
    lay(tmp_path, {"a.txt": "1\n2\n"})
    assert [*read_lines(tmp_path / "a.txt", lambda line: int(line) if line == "2" else None, "a number")] == [2]


@pytest.mark.parametrize(
    ("reader", "content", "options", "message"),
    [
        (read_lines, "1\n\nx\n", (int, "a number"), r"a.list, line 3: 'x' is not a number"),
        (read_table, '# c\n"1\n",2\n3\n', (lambda row: row[1], "A,B", "#"), r"a.list, line 4: .*3.* is not A,B"),
        (read_table, "1\0,2\n", (lambda row: int(row[0]), "A,B"), r"a.list, line [01]: "),
        (read_records, "a,b\n1,2\n3\n", (dict, "a"), r"a.list, line 3: .*3.* is not a"),
        (read_records, "a,b\n1,2\n", (dict, "a,c"), r"a.list, line 1: there is no column 'c'"),
        (read_items, "[1,\n2,\n", (list, int, "a number"), r"a.list, line 3: "),
        (read_items, '[1, "x"]', (list, int, "a number"), r"a.list, item 2: 'x' is not a number"),
        (read_items, "7", (list, int, "a number"), r"a.list does not hold what it should: a number"),
        (read_items, b"\xff\xfe[]", (list, int, "a number"), r"a.list does not hold what it should"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, reader, content, options, message):
    path = lay(tmp_path, {"a.list": content}) / "a.list"
    with pytest.raises(DataError, match=message):
        list(reader(path, *options))


def test_a_list_that_is_a_folder(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        list(read_lines(tmp_path, str, "a name"))
