"""Files that name other files are refused by every way of reading, and what they name is not opened."""

import av
import cv2
import numpy as np
import pytest
import small

from avlearn.errors import MediaError
from avlearn.media import ClipReader, MediaFile, Window, boxes, probe, read_clip, stream
from avlearn.media.open_file import Slice

DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<Period><AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1"><BaseURL>secret.ts</BaseURL>
</Representation></AdaptationSet></Period></MPD>
"""
LISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:5,\nsecret.ts\n#EXT-X-ENDLIST\n",
    "a.mp4": "ffconcat version 1.0\nfile secret.ts\n",
    "a.mpd": DASH,
    "a.sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 33\r\n",
    "a.xml": '<?xml version="1.0"?>\n<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">\n',
}
WINDOW = Window(0.0, 0.2)
READERS = {
    "probe": probe,
    "read_clip": read_clip,
    "ClipReader": lambda source: ClipReader().read(source, [WINDOW]),
    "audio": lambda source: ClipReader(video=False).read(source, [WINDOW]),
    "stream": lambda source: next(stream(source, 0.2, 0.2)),
    "MediaFile": lambda source: MediaFile(source).info,
}


@pytest.fixture
def secret(tmp_path):
    return small.write(tmp_path / "secret.ts")


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_other_files_is_refused(tmp_path, secret, name, read):
    (tmp_path / name).write_text(LISTS[name])
    whole = Slice(tmp_path / name, 0, len(LISTS[name]))
    for source in (tmp_path / name, whole):
        with pytest.raises(MediaError, match="is a list of other files, not a media file"):
            read(source)


@pytest.mark.parametrize("name", ["a.m3u8", "a.mp4"])
def test_a_list_that_its_first_bytes_do_not_tell_is_refused_by_its_demuxer(tmp_path, secret, name, monkeypatch):
    (tmp_path / name).write_text(LISTS[name])
    with av.open(str(tmp_path / name)) as container:  # FFmpeg alone reads it
        assert container.streams.video
    monkeypatch.setattr(boxes, "refuse_list", lambda head, name: None)
    for read in READERS.values():
        with pytest.raises(MediaError):
            read(tmp_path / name)


def test_a_name_with_a_pattern_is_no_row_of_frames(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "%d.png").write_bytes(b"nothing")
    with av.open(f"file:{tmp_path}/%d.png") as container:  # FFmpeg alone reads 0.png
        assert container.streams.video[0].width == 64
    with pytest.raises(MediaError):
        probe(tmp_path / "%d.png")


@pytest.mark.parametrize("name", ["0.png", "0.ppm", "0.jpg"])
def test_a_video_alone_is_read(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), np.zeros((48, 64, 3), np.uint8))
    assert probe(tmp_path / name).video.width == 64
