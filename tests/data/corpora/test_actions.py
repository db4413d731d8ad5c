import pytest

from avlearn.data.corpora import read_corpus
from avlearn.errors import DataError

from .layout import brief, lay

TWO = "something-something-v2"


def test_ucf101(tmp_path):
    lay(
        tmp_path,
        {
            "ucfTrainTestlist/classInd.txt": "1 Archery\r\n2 HandstandPushups\r\n",
            "ucfTrainTestlist/trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\r\n"
            "HandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\n\r\n",
            "ucfTrainTestlist/testlist01.txt": "Archery/v_Archery_g01_c01.avi\r\n",
            "ucfTrainTestlist/trainlist02.txt": "Archery/v_Archery_g01_c01.avi 1\r\n",
            "UCF-101/Archery/v_Archery_g08_c01.avi": "",
            "v_HandStandPushups_g08_c01.mp4": "",
        },
    )
    assert brief(read_corpus("ucf101", tmp_path), tmp_path) == [
        ("UCF-101/Archery/v_Archery_g08_c01.avi", "Archery", "train"),
        ("v_HandStandPushups_g08_c01.mp4", "HandstandPushups", "train"),
        ("Archery/v_Archery_g01_c01.avi", "Archery", "test"),
    ]
    assert brief(read_corpus("ucf101", tmp_path, fold=2), tmp_path) == [
        ("Archery/v_Archery_g01_c01.avi", "Archery", "train")
    ]
    with pytest.raises(DataError, match=r"holds no trainlist03.txt"):
        read_corpus("ucf101", tmp_path, fold=3)
    lay(tmp_path, {"trainlist03.txt": "Archery/v_Archery_g08_c01.avi one\n"})
    with pytest.raises(DataError, match=r"trainlist03.txt, line 1: .* is not CLASS/NAME.avi"):
        read_corpus("ucf101", tmp_path, fold=3)


def test_folds_are_known_where_the_lists_of_all_are_there(tmp_path):
    lists = {f"{split}list0{k}.txt": "" for split in ("train", "test") for k in (1, 2, 3)}
    lists |= {f"{'test' if k == 2 else 'train'}list0{k}.txt": "A/v_A_g01_c01.avi\n" for k in (1, 2, 3)}
    lay(tmp_path, lists)
    (entry,) = read_corpus("ucf101", tmp_path, fold=2)
    assert (entry.split, entry.folds) == ("test", ("train", "test", "train"))
    (tmp_path / "testlist03.txt").unlink()
    (entry,) = read_corpus("ucf101", tmp_path, fold=2)
    assert (entry.split, entry.folds) == ("test", ())
    hmdb = lay(tmp_path / "hmdb", {f"wave_test_split{k}.txt": f"a.avi {k - 1}\n" for k in (1, 2, 3)})
    (entry,) = read_corpus("hmdb51", hmdb)
    assert (entry.split, entry.folds) == ("", ("", "train", "test"))


def test_ut_interaction_as_it_is_published(tmp_path):
    names = (
        "segmented_set1/0_1_4.avi",
        "segmented_set2/24_15_0.avi",
        "elsewhere/0_1_4.avi",
        "segmented_set1/9_1_9.avi",
    )
    lay(tmp_path, dict.fromkeys(names[:1] + names[3:] + names[1:2], ""))
    entries = read_corpus("ut_interaction", tmp_path)
    assert brief(entries, tmp_path) == [(names[0], "punch", "test"), (names[1], "shake hands", "")]
    assert entries[1].folds == ("",) * 10 + ("train",) * 4 + ("test",) + ("train",) * 5


def test_hmdb51(tmp_path):
    lay(
        tmp_path,
        {
            "splits/wave_test_split1.txt": "#20_wave_f.avi 2 \na(1)_wave.avi 0 \n",
            "splits/brush_hair_test_split1.txt": "April_brush_hair_u.avi 1 \n",
            "splits/brush_hair_test_split2.txt": "April_brush_hair_u.avi 3 \n",
            "wave/#20_wave_f.avi": "",
        },
    )
    assert brief(read_corpus("hmdb51", tmp_path), tmp_path) == [
        ("brush_hair/April_brush_hair_u.avi", "brush_hair", "train"),
        ("wave/#20_wave_f.avi", "wave", "test"),
        ("wave/a(1)_wave.avi", "wave", ""),
    ]
    with pytest.raises(DataError, match=r"split2.txt, line 1: .* is not NAME.avi and 0, 1 or 2"):
        read_corpus("hmdb51", tmp_path, fold=2)


@pytest.mark.parametrize("names", [f"{TWO}-{{}}.json", "labels/{}.json"])
def test_something_something_v2(tmp_path, names):
    train = '[{"id": "78687", "label": "holding a potato", "template": "Holding [something]", "placeholders": ["a"]}]'
    val = '[{"id": "74225", "label": "spinning", "template": "Spinning [something] that [something]"}]'
    test = '[{"id":"1420"}, {"id":"3"}]'
    lists = {names.format(split): text for split, text in (("train", train), ("validation", val), ("test", test))}
    lay(tmp_path, lists | {f"20bn-{TWO}/78687.webm": ""})
    expected = [
        (f"20bn-{TWO}/78687.webm", "Holding something", "train"),
        ("74225.webm", "Spinning something that something", "val"),
        ("1420.webm", "", "test"),
        ("3.webm", "", "test"),
    ]
    assert brief(read_corpus("something_something_v2", tmp_path), tmp_path) == expected
    lay(tmp_path, {"test-answers.csv": "3;Folding something\n"})
    expected[3] = ("3.webm", "Folding something", "test")
    assert brief(read_corpus("something_something_v2", tmp_path), tmp_path) == expected
    lay(tmp_path, {names.format("train"): '[{"id": "1", "template": "A"}, {"id": "2"}]'})
    with pytest.raises(DataError, match=r"train.json, item 2: .* is not id and template"):
        read_corpus("something_something_v2", tmp_path)


def test_something_something_v1(tmp_path):
    one = "lists/something-something-v1"
    lay(
        tmp_path,
        {
            f"{one}-labels.csv": "Holding something\n",
            f"{one}-train.csv": "100218;Something falling like a feather or paper\n",
            f"{one}-validation.csv": "2;Holding something\n",
            f"{one}-test.csv": "3\n",
            "train.csv": "not;of;this;corpus",
            "videos/100218.webm": "",
        },
    )
    assert brief(read_corpus("something_something_v1", tmp_path), tmp_path) == [
        ("videos/100218.webm", "Something falling like a feather or paper", "train"),
        ("2.webm", "Holding something", "val"),
        ("3.webm", "", "test"),
    ]
    lay(tmp_path, {f"{one}-validation.csv": "2;Holding something\nthree;Holding something\n"})
    with pytest.raises(DataError, match=r"validation.csv, line 2: .* is not ID;LABEL"):
        read_corpus("something_something_v1", tmp_path)


def test_sports1m(tmp_path):
    url = "http://www.youtube.com/watch?v="
    lay(
        tmp_path,
        {
            "labels.txt": "abseiling\nroad bicycle racing\ncycling\n",
            "original/train_partition.txt": f"{url}-ZvsgMwJ_Zo 2,1\n{url}abcdefghij_ 0\n",
            "original/test_partition.txt": f"{url}QcvDbVA1cAA 0\n",
            "videos/-ZvsgMwJ_Zo.mkv": "",
        },
    )
    assert brief(read_corpus("sports1m", tmp_path), tmp_path) == [
        ("videos/-ZvsgMwJ_Zo.mkv", "cycling+road bicycle racing", "train"),
        ("abcdefghij_.mp4", "abseiling", "train"),
        ("QcvDbVA1cAA.mp4", "abseiling", "test"),
    ]
    for line in (f"{url}QcvDbVA1cAA 3", "QcvDbVA1cAA 0", f"{url}QcvDbVA1cAA"):
        lay(tmp_path, {"original/test_partition.txt": line})
        with pytest.raises(DataError, match=r"test_partition.txt, line 1: "):
            read_corpus("sports1m", tmp_path)
