import json
import re
from collections import Counter

import pytest

from avlearn.data.corpora import list_corpora, read_corpus
from avlearn.errors import DataError

from .layout import lay

FIRST_LISTS = {
    "audioset": "balanced_train_segments.csv", "ava": "ava_action_list_v2.2.pbtxt", "ave": "trainSet.txt",
    "charades": "Charades_v1_classes.txt", "esc10": "CLASS/1-100032-A.ogg", "esc50": "esc50.csv",
    "flickr_soundnet": "flickr_test.csv", "grid": "s1/NAME.mpg", "hmdb51": "brush_hair_test_split1.txt",
    "kinetics400": "train.csv of Kinetics-400", "kinetics600": "train.csv of Kinetics-600",
    "kinetics700": "train.csv of Kinetics-700", "music": "MUSIC_solo_videos.json",
    "music21": "MUSIC21_solo_videos.json", "something_something_v1": "something-something-v1-train.csv",
    "something_something_v2": "something-something-v2-train.json", "sports1m": "labels.txt",
    "ucf101": "trainlist01.txt", "ut_interaction": "set1_0_1_4.avi", "vggsound": "vggsound.csv", "vggss": "vggss.json",
    "vggsounder": "vggsounder.csv", "vggsounder_audible": "vggsounder.csv", "vggsounder_visible": "vggsounder.csv",
    "youtube8m": "vocabulary.csv",
}  # fmt: skip


def test_every_corpus_is_listed():
    assert list_corpora() == sorted(FIRST_LISTS)


@pytest.mark.parametrize("name", sorted(FIRST_LISTS))
def test_a_missing_list_is_named_with_where_it_is_offered(tmp_path, name):
    with pytest.raises(DataError, match=rf"holds no .*{re.escape(FIRST_LISTS[name])}.* https?://\S+$"):
        read_corpus(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kinetcs400", {}, "there is no corpus 'kinetcs400'; the nearest is 'kinetics400'; if a plugin adds it"),
        ("ucf101", {"fld": 2}, "ucf101 has no option 'fld'; the nearest is 'fold'"),
        ("grid", {"fold": 3}, "no fold 3: choose 1 to 2"),
        ("ucf101", {"fold": 4}, "no fold 4: choose 1 to 3"),
        ("hmdb51", {"fold": 0}, "no fold 0: choose 1 to 3"),
        ("esc10", {"fold": 6}, "no fold 6: choose 1 to 5"),
    ],
)
def test_unknown_names_options_and_folds(tmp_path, name, options, message):
    with pytest.raises(DataError, match=message):
        read_corpus(name, tmp_path, **options)


def test_folders_must_be_there(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*videos"):
        read_corpus("grid", tmp_path / "videos")
    with pytest.raises(DataError, match=r"there is no folder .*lists"):
        read_corpus("grid", tmp_path, tmp_path / "lists")


@pytest.mark.parametrize(
    ("name", "options", "splits", "labels", "events"),
    [
        ("ucf101", {}, {"train": 9537, "test": 3783}, 101, 0),
        ("ucf101", {"fold": 2}, {"train": 9586, "test": 3734}, 101, 0),
        ("ucf101", {"fold": 3}, {"train": 9624, "test": 3696}, 101, 0),
        ("vggsound", {}, {"test": 15446}, 309, 0),
        ("vggss", {}, {"test": 5158}, 221, 5923),
        ("music", {}, {"": 536 + 149}, 11, 0),
        ("music21", {}, {"": 1164}, 21, 0),
        ("flickr_soundnet", {}, {"train": 144000, "test": 250}, 0, 0),
    ],
)
def test_published_annotations(published_annotations, tmp_path, name, options, splits, labels, events):
    entries = read_corpus(name, tmp_path, published_annotations, **options)
    assert Counter(entry.split for entry in entries) == splits
    assert len({label for entry in entries for label in entry.labels}) == labels
    assert sum(len(entry.events) for entry in entries) == events
    assert len({entry.path for entry in entries}) == len(entries)
    assert all(tmp_path in entry.path.parents for entry in entries)


def test_published_folds_of_ucf101(published_annotations, tmp_path):
    first, second = (read_corpus("ucf101", tmp_path, published_annotations, fold=k) for k in (1, 2))
    assert all(entry.split == entry.folds[0] for entry in first)
    assert all(entry.split == entry.folds[1] for entry in second)
    assert {entry.path: entry.folds for entry in first} == {entry.path: entry.folds for entry in second}
    assert [Counter(splits)["test"] for splits in zip(*(e.folds for e in first), strict=True)] == [3783, 3734, 3696]


def test_published_audioset_classes(published_annotations, tmp_path):
    classes = (published_annotations / "audioset" / "class_labels_indices.csv").read_bytes()
    segments = '# a\n# b\n# YTID\n--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/05zppz"\n'
    lay(tmp_path, {"class_labels_indices.csv": classes, "eval_segments.csv": segments})
    (entry,) = read_corpus("audioset", tmp_path)
    assert entry.labels == ("Domestic animals, pets", "Male speech, man speaking")


def test_published_boxes_of_real_files(published_annotations, real_videos):
    entries = read_corpus("vggss", real_videos, published_annotations)
    found = {str(entry.path.relative_to(real_videos.parent)): entry for entry in entries if entry.path.is_file()}
    lines = (published_annotations / "boxes_of_media.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines if line.split("\t")[2] == "vggss"]
    assert rows and sorted(found) == sorted(row[0] for row in rows)
    for path, _, _, _, label, boxes in rows:
        assert found[path].labels == (label,)
        assert [[*event.box] for event in found[path].events] == json.loads(boxes)


def test_published_boxes_lie_in_the_picture(published_annotations, tmp_path):
    entries = read_corpus("vggss", tmp_path, published_annotations)
    for left, top, right, bottom in (event.box for entry in entries for event in entry.events):
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    assert sum(not entry.events for entry in entries) == 2


def test_published_grid(published_corpora):
    entries = read_corpus("grid", published_corpora / "grid")
    speakers = [int(entry.labels[0][1:]) for entry in entries]
    assert speakers == sorted(speakers) and set(speakers) == {1, 2, 3, 4, 5, 30, 31, 32, 33, 34}
    assert sum(bool(entry.events) for entry in entries) > 1000
    for entry in entries:
        assert entry.path.is_file() and entry.path.parent.name == entry.labels[0]
        if not entry.events:  # some sentences came without their words
            continue
        assert len(entry.events) == 6 and 0 < entry.events[0].start < entry.events[-1].end < 3.1
        # The name of a sentence is the first letter of each word, with z for zero.
        said = "".join(event.label[0] for event in entry.events)
        assert said[:4] + said[5] == entry.path.stem[:4] + entry.path.stem[5]


def test_published_esc10(published_corpora):
    entries = read_corpus("esc10", published_corpora / "esc10", fold=2)
    assert len(entries) == 400 and set(Counter(entry.labels for entry in entries).values()) == {40}
    assert all(entry.path.is_file() and (entry.split == "test") == (entry.path.name[0] == "2") for entry in entries)
    assert Counter(entry.split for entry in entries) == {"train": 320, "test": 80}


def test_published_ut_interaction(published_corpora):
    entries = read_corpus("ut_interaction", published_corpora / "ut_interaction", fold=8)
    assert set(Counter(entry.labels for entry in entries).values()) == {20}
    assert Counter(entry.split for entry in entries) == {"": 60, "train": 53, "test": 7}
    assert all(entry.path.name.split("_")[2] == "8" for entry in entries if entry.split == "test")
    for splits in zip(*(entry.folds for entry in entries), strict=True):
        assert Counter(splits)[""] == 60 and 5 <= Counter(splits)["test"] <= 7
    assert all(entry.folds.count("test") == 1 for entry in entries)
