import pytest

from avlearn.data.corpora import read_corpus
from avlearn.data.manifest import Event
from avlearn.errors import DataError

from .layout import brief, lay

ESC50 = "filename,fold,target,category,esc10,src_file,take\n"
XML = """<?xml version="1.0"?>
<annotations>
  <filename>10000130166</filename>
  <annotator><bbox><type>0</type><xmin>64</xmin><ymin>0</ymin><xmax>128</xmax><ymax>256</ymax></bbox></annotator>
  <annotator>
    <bbox><type>0</type><xmin>0</xmin><ymin>0</ymin><xmax>256</xmax><ymax>256</ymax></bbox>
    <bbox><type>0</type><xmin>32</xmin><ymin>32</ymin><xmax>64</xmax><ymax>64</ymax></bbox>
  </annotator>
</annotations>
"""

# Two letters that stand for a gigabyte.
ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 1000}">' for i in range(1, 4))
DOCTYPE = f'<!DOCTYPE annotations [<!ENTITY e0 "x">{ENTITIES}]>'


def test_music(tmp_path):
    lay(
        tmp_path,
        {
            "MUSIC_duet_videos.json": '{"version": 1.0, "videos": {"saxophone acoustic_guitar": ["ywH4K8mQ-1s"]}}',
            "MUSIC_solo_videos.json": '{"version": 1, "videos": {"flute": ["jW_AuF6dQYY", "x"], "tuba": ["x", "-y"]}}',
            "MUSIC21_solo_videos.json": '{"version": 2.0, "videos": {"pipa": ["z"]}}',
            "solo/flute/x.mp4": "",
            "solo/tuba/x.mp4": "",
            "-y.webm": "",
        },
    )
    assert brief(read_corpus("music", tmp_path), tmp_path) == [
        ("flute/jW_AuF6dQYY.mp4", "flute", ""),
        ("solo/flute/x.mp4", "flute", ""),
        ("solo/tuba/x.mp4", "tuba", ""),
        ("-y.webm", "tuba", ""),
        ("saxophone acoustic_guitar/ywH4K8mQ-1s.mp4", "saxophone+acoustic_guitar", ""),
    ]
    assert brief(read_corpus("music21", tmp_path), tmp_path) == [("pipa/z.mp4", "pipa", "")]
    for content, message in (
        ('{"videos": {"flute": ["x"], "tuba": [7]}}', "item 2: .* is not a class and the IDs of its videos"),
        ('{"videos": ["x"]}', "does not hold what it should"),
        ('{\n"videos": {', "line 2: "),
    ):
        lay(tmp_path, {"MUSIC_solo_videos.json": content})
        with pytest.raises(DataError, match=f"MUSIC_solo_videos.json,? {message}"):
            read_corpus("music", tmp_path)


def test_esc50(tmp_path):
    rows = "1-100032-A-0.wav,1,0,dog,True,100032,A\n2-100038-A-14.wav,2,14,chirping_birds,False,100038,A\n"
    lay(tmp_path, {"ESC-50/meta/esc50.csv": ESC50 + rows, "ESC-50/audio/1-100032-A-0.wav": ""})
    dog, bird = "ESC-50/audio/1-100032-A-0.wav", "audio/2-100038-A-14.wav"
    assert brief(read_corpus("esc50", tmp_path), tmp_path) == [(dog, "dog", "test"), (bird, "chirping_birds", "train")]
    assert brief(read_corpus("esc50", tmp_path, fold=2), tmp_path)[1] == (bird, "chirping_birds", "test")
    assert brief(read_corpus("esc10", tmp_path, fold=3), tmp_path) == [(dog, "dog", "train")]
    assert read_corpus("esc50", tmp_path)[1].folds == ("train", "test", "train", "train", "train")
    lay(tmp_path, {"ESC-50/meta/esc50.csv": ESC50 + rows + "a.wav,one,0,dog,True,1,A\n"})
    with pytest.raises(DataError, match=r"esc50.csv, line 4: "):
        read_corpus("esc50", tmp_path)


def test_esc10(tmp_path):
    names = (
        "002 - Rain/2-1-A.ogg",
        "001 - Dog bark/5-1-B.ogg",
        "001 - Dog bark/1-1-A.ogg",
        "rain/1-2-A.wav",
        "theme.mp3",
    )
    lay(tmp_path, dict.fromkeys(names, ""))
    assert brief(read_corpus("esc10", tmp_path, fold=5), tmp_path) == [
        ("001 - Dog bark/1-1-A.ogg", "Dog bark", "train"),
        ("001 - Dog bark/5-1-B.ogg", "Dog bark", "test"),
        ("002 - Rain/2-1-A.ogg", "Rain", "train"),
        ("rain/1-2-A.wav", "rain", "train"),
    ]
    assert read_corpus("esc10", tmp_path)[1].folds == ("train",) * 4 + ("test",)


def test_flickr_soundnet(tmp_path):
    lay(
        tmp_path,
        {
            "Flickr_train_144k.txt": "5692223126.wav\n8374823878",
            "flickr_test.csv": "10000130166,202\r\n10007936344,0\r\n",
            "flickr_test_plus_silent.csv": "video,audio,label\n",
            "Annotations/10000130166.xml": XML,
            "other/10007936344.xml": "not of this corpus",
            "Data/8374823878.wav": "",
            "Data/10000130166.mp4": "",
        },
    )
    entries = read_corpus("flickr_soundnet", tmp_path)
    assert brief(entries, tmp_path) == [
        ("5692223126.mp4", "", "train"),
        ("Data/8374823878.wav", "", "train"),
        ("Data/10000130166.mp4", "", "test"),
        ("10007936344.mp4", "", "test"),
    ]
    assert entries[2].events == (
        Event("1", 0.0, 0.0, (0.25, 0.0, 0.5, 1.0)),
        Event("2", 0.0, 0.0, (0.0, 0.0, 1.0, 1.0)),
        Event("2", 0.0, 0.0, (0.125, 0.125, 0.25, 0.25)),
    )
    assert not any(entry.events for entry in (entries[0], entries[3]))
    for name, content, message in (
        ("Flickr_train_144k.txt", "1.wav\ntwo.wav\n", "line 2: 'two.wav' is not ID.wav"),
        ("flickr_test.csv", "10000130166,202\nvideo,audio\n", "line 2: .* is not ID,NUMBER"),
        ("Annotations/10000130166.xml", XML.replace("<ymax>64</ymax>", "<ymax/>"), "box 3: .* is not a bbox"),
        ("Annotations/10000130166.xml", XML.replace("</annotator>\n</", "</"), "line 8: "),
        ("Annotations/10000130166.xml", XML.replace("<annotations>", f"{DOCTYPE}<annotations>", 1), "a document type"),
    ):
        lay(tmp_path / "bad", {"flickr_test.csv": "10000130166,202\n", name: content})
        with pytest.raises(DataError, match=f"{name}.*{message}"):
            read_corpus("flickr_soundnet", tmp_path / "bad")
        (tmp_path / "bad" / name).unlink()
    (tmp_path / "bad" / "Annotations" / "10000130166.xml").write_bytes(XML.encode("utf-16"))
    with pytest.raises(DataError, match="not in UTF-8"):
        read_corpus("flickr_soundnet", tmp_path / "bad")
