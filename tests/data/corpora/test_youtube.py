import json

import pytest

from avlearn.data.corpora import read_corpus
from avlearn.data.manifest import Event
from avlearn.errors import DataError

from .layout import brief, lay

CLASSES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n2,/t/dd00088,"Gush"\n'
HEAD = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=1, num_segs=1\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)


def test_audioset(tmp_path):
    lay(
        tmp_path,
        {
            "class_labels_indices.csv": CLASSES,
            "eval_segments.csv": HEAD + '--4gqARaEJE, 0.000, 10.000, "/t/dd00088"\n',
            "balanced_train_segments.csv": HEAD + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/m/05zppz"\r\n\r\n',
            "unbalanced_train_segments.csv": HEAD + '---1_cCGK4M,0.000,8.500,"/m/09x0r"\n',
            "balanced/--PJHxphWEs.mp4": "",
        },
    )
    assert brief(read_corpus("audioset", tmp_path), tmp_path) == [
        ("balanced/--PJHxphWEs.mp4", "Speech+Male speech, man speaking", "train"),
        ("---1_cCGK4M_000000.mp4", "Speech", "train"),
        ("--4gqARaEJE_000000.mp4", "Gush", "test"),
    ]
    for row in ('--PJHxphWEs, 30.000, 40.000, "/m/unknown"', "--PJHxphWEs, 30.000", 'x, a, b, "/m/09x0r"'):
        lay(tmp_path, {"balanced_train_segments.csv": HEAD + row})
        with pytest.raises(DataError, match=r"balanced_train_segments.csv, line 4: .* is not ID, START"):
            read_corpus("audioset", tmp_path)
    (tmp_path / "class_labels_indices.csv").unlink()
    with pytest.raises(DataError, match=r"holds no class_labels_indices.csv"):
        read_corpus("audioset", tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a_b-cdefghi_30_38.5.mp4", True),
        ("a_b-cdefghi_30000_38500.mkv", True),
        ("a_b-cdefghi_30.000_38.500.mp4", True),
        ("a_b-cdefghi_000030.mp4", True),
        ("a_b-cdefghi-30-38.5.flac", True),
        ("a_b-cdefghi_30000.mp4", True),
        ("a_b-cdefghi.mp4", True),
        ("a_b-cdefghi_40_50.mp4", False),
        ("a_b-cdefghi_30_40.mp4", False),
        ("a_b-cdefghi.f137.mp4", False),
        ("a_b-cdefgh_30.mp4", False),
    ],
)
def test_names_of_stretches(tmp_path, name, found):
    segments = HEAD + 'a_b-cdefghi, 30.000, 38.500, "/m/09x0r"\n'
    lay(tmp_path, {"class_labels_indices.csv": CLASSES, "eval_segments.csv": segments, f"clips/{name}": ""})
    (entry,) = read_corpus("audioset", tmp_path)
    assert entry.path == tmp_path / (f"clips/{name}" if found else "a_b-cdefghi_000030.mp4")


def test_the_stretch_is_preferred_to_the_whole(tmp_path):
    names = ("abcdefghijk.mp4", "abcdefghijk_20_30.mp4", "abcdefghijk_30_40.mp4")
    lay(tmp_path, {"vggsound.csv": "abcdefghijk,30,dog barking,test\n"} | dict.fromkeys(names, ""))
    assert read_corpus("vggsound", tmp_path)[0].path.name == "abcdefghijk_30_40.mp4"


def test_vggsound(tmp_path):
    rows = '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"bird chirping, tweeting",train\n'
    lay(tmp_path, {"vggsound.csv": rows, "test.csv": "bad", "video/---g-f_I2yQ_1000_11000.mp4": ""})
    assert brief(read_corpus("vggsound", tmp_path), tmp_path) == [
        ("video/---g-f_I2yQ_1000_11000.mp4", "people marching", "test"),
        ("--0PQM4-hqg_000030.mp4", "bird chirping, tweeting", "train"),
    ]
    lay(tmp_path, {"vggsound.csv": rows + "--0PQM4-hqg,30,bird chirping, tweeting,train\n"})
    with pytest.raises(DataError, match=r"vggsound.csv, line 3: .* is not ID,START,LABEL,SPLIT"):
        read_corpus("vggsound", tmp_path)


def test_vggsound_in_its_first_edition(tmp_path):
    test = '0_8-g2rof7E_000049.mp4,"heart sounds, heartbeat"\r\n'
    lay(tmp_path, {"test.csv": test, "train.csv": "a_b_c_d_e_f_000300.mp4,rapping\r\n", "0_8-g2rof7E_000049.mp4": ""})
    assert brief(read_corpus("vggsound", tmp_path), tmp_path) == [
        ("a_b_c_d_e_f_000300.mp4", "rapping", "train"),
        ("0_8-g2rof7E_000049.mp4", "heart sounds, heartbeat", "test"),
    ]
    lay(tmp_path, {"test.csv": "video,label\n"})
    with pytest.raises(DataError, match=r"test.csv, line 1: "):
        read_corpus("vggsound", tmp_path)


def test_vggsounder(tmp_path):
    head = "video_id,label,modality,background_music,static_image,voice_over\n"
    rows = (
        '--i-y1v8Hy8_000000,"child speech, kid speaking",AV,False,False,True\n'
        "-0BIyqJj9ZU_000030,baby laughter,A,False,False,False\n"
        "--i-y1v8Hy8_000000,playing harp,V,False,False,True\n"
    )
    lay(tmp_path, {"vggsounder.csv": head + rows, "video/-0BIyqJj9ZU_30_40.mp4": ""})
    found = {
        name: [(entry.path.name, entry.labels, entry.split) for entry in read_corpus(name, tmp_path)]
        for name in ("vggsounder", "vggsounder_audible", "vggsounder_visible")
    }
    speech, first, second = "child speech, kid speaking", "--i-y1v8Hy8_000000.mp4", "-0BIyqJj9ZU_30_40.mp4"
    heard = (second, ("baby laughter",), "test")
    assert found["vggsounder"] == [(first, (speech, "playing harp"), "test"), heard]
    assert found["vggsounder_audible"] == [(first, (speech,), "test"), heard]
    assert found["vggsounder_visible"] == [(first, (speech, "playing harp"), "test")]
    lay(tmp_path, {"vggsounder.csv": head + rows + "-0BIyqJj9ZU_000030,baby laughter,H,False,False,False\n"})
    with pytest.raises(DataError, match=r"vggsounder.csv, line 5: .*'H'.* is not video_id,label,modality"):
        read_corpus("vggsounder", tmp_path)


def test_vggss(tmp_path):
    boxes = [[0.25, 0.5, 0.75, 1.0], [0.5, 0.25, 1.25, 0.5], [0.5, 0.5, -2.9e16, 0.75], [0.5, 1.0, 0.75, 1.0]]
    items = [
        {"file": "zpWu_korVYg_000032", "class": "elk bugling", "bbox": boxes},
        {"file": "gEvCUcZ6w88_000030", "class": "tap dancing", "bbox": boxes[2:]},
    ]
    lay(tmp_path, {"vggss.json": json.dumps(items), "x/zpWu_korVYg_32000_42000.mp4": ""})
    first, second = read_corpus("vggss", tmp_path)
    assert brief([first, second], tmp_path) == [
        ("x/zpWu_korVYg_32000_42000.mp4", "elk bugling", "test"),
        ("gEvCUcZ6w88_000030.mp4", "tap dancing", "test"),
    ]
    assert first.events == (
        Event("elk bugling", 5.0, 5.0, (0.25, 0.5, 0.75, 1.0)),
        Event("elk bugling", 5.0, 5.0, (0.5, 0.25, 1.0, 0.5)),
    )
    assert second.events == ()
    for item in (
        {"file": "short", "class": "a", "bbox": []},
        {"file": items[0]["file"], "class": "a", "bbox": [[0, 1]]},
    ):
        lay(tmp_path, {"vggss.json": json.dumps([*items, item])})
        with pytest.raises(DataError, match=r"vggss.json, item 3: "):
            read_corpus("vggss", tmp_path)
