import pytest

from avlearn.data.corpora import read_corpus
from avlearn.data.manifest import Event
from avlearn.errors import DataError

from .layout import brief, lay

AVE_HEAD = "Category&VideoID&Quality&StartTime&EndTime\n"
CHARADES = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
PBTXT = """label {
  name: "bend/bow (at the waist)"
  label_id: 1
  label_type: PERSON_MOVEMENT
}
item {
  name: "watch (a person)"
  id: 80
}
"""
AVA = "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\r\n-5KQ66BBWC4,0903,0.1,0.2,0.3,0.4,1,1\r\n"


def test_ave(tmp_path):
    train = "Church bell&RUhOCu3LNXM&good&0&10\nMale speech&RUhOCu3LNXM&good&2&5\nChurch bell&RUhOCu3LNXM&good&7&8\n"
    test = AVE_HEAD + "Bus&abcdefghijk&good&1&3"
    lay(
        tmp_path,
        {
            "Annotations.txt": AVE_HEAD + train + "Bus&abcdefghijk&good&1&3\nHorn&unlistedvid&good&0&1\n\n",
            "trainSet.txt": train,
            "testSet.txt": test,
            "AVE/RUhOCu3LNXM.mp4": "",
        },
    )
    entries = read_corpus("ave", tmp_path)
    assert brief(entries, tmp_path) == [
        ("AVE/RUhOCu3LNXM.mp4", "Church bell+Male speech", "train"),
        ("abcdefghijk.mp4", "Bus", "test"),
        ("unlistedvid.mp4", "Horn", ""),
    ]
    assert entries[0].events == (
        Event("Church bell", 0.0, 10.0),
        Event("Male speech", 2.0, 5.0),
        Event("Church bell", 7.0, 8.0),
    )
    lay(tmp_path, {"testSet.txt": test + "\nBus&abcdefghijk&good&1\n"})
    with pytest.raises(DataError, match=r"testSet.txt, line 3: 'Bus&abcdefghijk&good&1' is not Category&VideoID"):
        read_corpus("ave", tmp_path)


def test_charades(tmp_path):
    row = '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking.\nMore.",food;stove,"He ""cooks""",{},24.83\n'
    lay(
        tmp_path,
        {
            "Charades_v1_classes.txt": "c000 Holding some clothes\nc092 Watching a laptop, or something\n",
            "Charades_v1_train.csv": CHARADES + row.format("c092 11.90 21.20;c000 0.00 12.60;c092 1.00 2.00"),
            "Charades_v1_test.csv": CHARADES + row.format("").replace("46GP8", "N11GT"),
            "Charades_v1_480/46GP8.mp4": "",
        },
    )
    entries = read_corpus("charades", tmp_path)
    assert brief(entries, tmp_path) == [
        ("Charades_v1_480/46GP8.mp4", "Watching a laptop, or something+Holding some clothes", "train"),
        ("N11GT.mp4", "", "test"),
    ]
    assert entries[0].events[:2] == (
        Event("Watching a laptop, or something", 11.9, 21.2),
        Event("Holding some clothes", 0.0, 12.6),
    )
    assert len(entries[0].events) == 3 and entries[1].events == ()
    lay(tmp_path, {"Charades_v1_test.csv": CHARADES + row.format("c157 0.00 1.00")})
    with pytest.raises(DataError, match=r"Charades_v1_test.csv, line 3: "):
        read_corpus("charades", tmp_path)


def test_ava(tmp_path):
    lay(
        tmp_path,
        {
            "annotations/ava_action_list_v2.2.pbtxt": PBTXT,
            "annotations/ava_train_v2.2.csv": AVA + "other_video,0902,0.0,0.0,1.0,1.0,1,3\r\n",
            "annotations/ava_train_v2.1.csv": "bad",
            "annotations/ava_val_v2.2.csv": "1j20qq1JyX4,1000,0.1,0.2,0.3,0.4,80,7\n",
            "annotations/ava_train_excluded_timestamps_v2.2.csv": "other_video,0903\r\n-5KQ66BBWC4,903\r\n",
            "trainval/-5KQ66BBWC4.mkv": "",
        },
    )
    entries = read_corpus("ava", tmp_path)
    assert brief(entries, tmp_path) == [
        ("trainval/-5KQ66BBWC4.mkv", "watch (a person)", "train"),
        ("other_video.mp4", "bend/bow (at the waist)", "train"),
        ("1j20qq1JyX4.mp4", "watch (a person)", "val"),
    ]
    assert entries[0].events == (Event("watch (a person)", 902.0, 902.0, (0.077, 0.151, 0.283, 0.811)),)
    assert [entry.events[0].start for entry in read_corpus("ava", tmp_path, start=900)] == [2.0, 2.0, 100.0]
    for row in ("x,0902,0,0,1,1,2,1", "x,0902,,,,,,", "x,0902"):
        lay(tmp_path, {"annotations/ava_val_v2.2.csv": row})
        with pytest.raises(DataError, match=r"ava_val_v2.2.csv, line 1: "):
            read_corpus("ava", tmp_path)


@pytest.mark.parametrize("aligns", ["align/{}/{}.align", "{}/align/{}.align"])
def test_grid(tmp_path, aligns):
    said = "0 23750 sil\r\n23750 29500 bin\r\n29500 34000 sp\r\n34000 35500 blue\r\n35500 74500 sil\r\n"
    lay(
        tmp_path,
        {
            aligns.format("s1", "bbaf2n"): said,
            aligns.format("s10", "bbaf2n"): "0 25000 lay\n",
            aligns.format("s3", "bbaf2n"): said,
            "s10/video/mpg_6000/bbaf2n.mpg": "",
            "s1/bbaf2n.mp4": "",
            "s1/bbaf2n.wav": "",
            "s2/bbaf3s.mpg": "",
            "s2/._bbaf3s.mpg": "",
            "s20/bbaf2n.mpg": "",
            "tutorial.mp4": "",
        },
    )
    entries = read_corpus("grid", tmp_path)
    assert brief(entries, tmp_path) == [
        ("s1/bbaf2n.mp4", "s1", "train"),
        ("s2/bbaf3s.mpg", "s2", "train"),
        ("s10/video/mpg_6000/bbaf2n.mpg", "s10", "val"),
        ("s20/bbaf2n.mpg", "s20", "test"),
    ]
    assert [entry.split for entry in read_corpus("grid", tmp_path, fold=2)] == ["test", "test", "test", "val"]
    assert entries[0].events == (Event("bin", 0.95, 1.18), Event("blue", 1.36, 1.42))
    assert entries[1].events == () and entries[2].events == (Event("lay", 0.0, 1.0),)
    lay(tmp_path, {aligns.format("s2", "bbaf3s"): "0 23750 sil\n23750 bin\n"})
    with pytest.raises(DataError, match=r"bbaf3s.align, line 2: '23750 bin' is not FROM TO WORD"):
        read_corpus("grid", tmp_path)
