import pytest

from avlearn.data.corpora import read_corpus
from avlearn.errors import DataError

from .layout import brief, lay

TRAIN = (
    "label,youtube_id,time_start,time_end,split,is_cc\r\n"
    'testifying,---QUuC4vJs,84,94,train,0\r\n"air drumming",_dbcJuKJQNs,40.0,50.0,train,0\r\n\r\n'
)
VAL = "label,youtube_id,time_start,time_end,split\nsinging,-3B32lodo2M,59,69,validate\n"
TEST = "youtube_id,time_start,time_end,split\n0wR5jVB-WPk,1417,1427,test\n"
FIRST, SECOND, THIRD, FOURTH = (
    "---QUuC4vJs_000084_000094.mp4", "_dbcJuKJQNs_000040_000050.mp4",
    "-3B32lodo2M_000059_000069.mp4", "0wR5jVB-WPk_001417_001427.mp4",
)  # fmt: skip


@pytest.mark.parametrize(
    "places",
    [
        (f"train/testifying/{FIRST}", f"train/air drumming/{SECOND}", f"val/singing/{THIRD}", f"test/{FOURTH}"),
        (f"testifying/{FIRST}", f"air_drumming/{SECOND}", f"singing/{THIRD}", FOURTH),
        (f"train/{FIRST}", f"train/{SECOND[:-4]}.webm", f"val/{THIRD[:-4]}.mkv", f"test/{FOURTH}"),
    ],
)
@pytest.mark.parametrize(
    "lists",
    [("annotations/train.csv", "val.csv", "test.csv"), ("kinetics400_train.csv", "validate.txt", "a/b/test.csv")],
)
def test_layouts(tmp_path, places, lists):
    lay(tmp_path, dict(zip(lists, (TRAIN, VAL, TEST), strict=True)) | dict.fromkeys(places, ""))
    assert brief(read_corpus("kinetics400", tmp_path), tmp_path) == [
        (places[0], "testifying", "train"),
        (places[1], "air drumming", "train"),
        (places[2], "singing", "val"),
        (places[3], "", "test"),
    ]


def test_missing_files_are_listed_where_they_would_be(tmp_path):
    lay(tmp_path, {"lists/train.csv": TRAIN, f"videos/{SECOND}": ""})
    videos = tmp_path / "videos"
    assert brief(read_corpus("kinetics600", videos, tmp_path / "lists"), videos) == [
        (f"train/testifying/{FIRST}", "testifying", "train"),
        (SECOND, "air drumming", "train"),
    ]


def test_one_clip_in_two_classes(tmp_path):
    rows = "label,youtube_id,time_start,time_end,split\n" + "".join(
        f"{label},abcdefghijk,0,10,train\n" for label in ("tap dancing", "clapping")
    )
    name = "abcdefghijk_000000_000010.mp4"
    lay(tmp_path, {"train.csv": rows, f"clapping/{name}": "", f"tap_dancing/{name}": ""})
    assert [entry.path.parent.name for entry in read_corpus("kinetics700", tmp_path)] == ["tap_dancing", "clapping"]


@pytest.mark.parametrize("row", ["a,b,x,10,train", "a,b,0,10,dev", "a,b,0"])
def test_a_bad_row(tmp_path, row):
    lay(tmp_path, {"val.csv": VAL + row})
    with pytest.raises(DataError, match=r"val.csv, line 3: .* is not youtube_id,time_start,time_end,split"):
        read_corpus("kinetics400", tmp_path)


def test_the_lists_of_another_edition(tmp_path):
    rows = "".join(f"class {n},abcdefghijk,{n},{n + 10},train\n" for n in range(401))
    lay(tmp_path, {"train.csv": "label,youtube_id,time_start,time_end,split\n" + rows})
    assert len(read_corpus("kinetics600", tmp_path)) == 401
    with pytest.raises(DataError, match="lists 401 classes: that is not Kinetics-400"):
        read_corpus("kinetics400", tmp_path)
