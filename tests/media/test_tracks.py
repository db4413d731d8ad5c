"""Which streams a file holds, and which of them are read."""

import av
import numpy as np
import pytest
import small

from avlearn.errors import MediaError, NoAudioError, NoVideoError
from avlearn.media import ClipReader, Selected, Window, probe, read_clip, stream


def hertz(audio: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(audio[0]))
    return float(np.fft.rfftfreq(audio.shape[1], 1 / rate)[spectrum.argmax()])


def test_probe_lists_every_track_and_says_which_is_read(tmp_path):
    path = small.write(tmp_path / "a.mp4", layouts=("mono", "stereo"), languages=("eng", "fra"))
    info = probe(path)
    assert [(t.kind, t.number, t.codec, t.language, t.channels) for t in info.tracks] == [
        ("video", 1, "h264", "und", 0), ("audio", 1, "aac", "eng", 1), ("audio", 2, "aac", "fra", 2)
    ]  # fmt: skip
    assert [t.used for t in info.tracks].count(True) == 2 and info.tracks[0].why == "the only one"
    assert "1 channel, from" in info.text() and "audio track 2: aac 16000 Hz, 2 channels" in info.text()
    second = probe(Selected(path, 2))
    assert second.audio.language == "fra" and second.tracks[2].used and second.tracks[2].why == "selected"
    assert info.to_dict()["tracks"][1]["language"] == "eng"


@pytest.mark.parametrize(("number", "tone"), [(1, 300), (2, 600)])
def test_the_selected_track_is_the_one_that_is_heard(tmp_path, number, tone):
    path = small.write(tmp_path / "a.mkv", layouts=("mono", "mono"), languages=("eng", "fra"))
    clip = read_clip(Selected(path, number), 0.1, 0.5)
    assert hertz(clip.audio, clip.sample_rate) == pytest.approx(tone, abs=4)
    with pytest.raises(NoAudioError, match="no number 3"):
        probe(Selected(path, 3))


def with_cover(path, **given):
    """A file with a cover image besides, as its first video stream."""
    small.write(path.with_name("plain.mkv"), **given)
    with av.open(str(path.with_name("plain.mkv"))) as source, av.open(str(path), "w") as target:
        cover = target.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        copies = {s.index: target.add_stream_from_template(s) for s in source.streams}
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 200, np.uint8), "rgb24")
        target.mux(cover.encode(frame))
        target.mux(cover.encode(None))
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
    return path


def test_a_cover_image_is_not_the_video(tmp_path):
    path = with_cover(tmp_path / "a.mp4")
    info = probe(path)
    assert info.video.codec == "h264" and sorted(t.cover for t in info.tracks if t.kind == "video") == [False, True]
    assert len(read_clip(path, info.start, 0.4).video) == 10


def test_music_with_a_cover_has_no_video(tmp_path):
    path = with_cover(tmp_path / "a.mp4", frames=0)
    info = probe(path)
    assert info.video is None and info.audio.codec == "aac" and info.duration == pytest.approx(0.8, abs=0.1)
    with pytest.raises(NoVideoError):
        next(stream(path, 0.3, 0.3))
    assert sum(c.audio.shape[1] for c in stream(path, 0.3, 0.3, video=False)) == pytest.approx(0.8 * 16000, abs=2048)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mov"])
@pytest.mark.parametrize(("frames", "seconds"), [(1, 0.05), (1, 0), (0, 0.03)])
def test_one_frame_or_one_packet_is_read_or_refused_in_a_line(tmp_path, suffix, frames, seconds):
    path = small.write(tmp_path / f"a.{suffix}", frames, seconds, codec="mjpeg" if suffix == "avi" else "libx264")
    has = {"video": frames > 0, "audio": seconds > 0}
    if (suffix, frames) == ("ts", 0):  # of one packet the demuxer tells no rate
        with pytest.raises(MediaError, match="neither"):
            probe(path)
        return
    info = probe(path)
    assert (info.video is not None) == has["video"] and (info.audio is not None) == has["audio"]
    assert 0 < info.duration < 1.0, info
    [clip] = ClipReader(fps=25, **has).read(path, [Window(info.start, 0.04)])
    assert len(clip.video) == has["video"]
    pieces = list(stream(path, 0.2, 0.2, fps=25, **has))
    assert sum(len(c.video) for c in pieces) == frames, info
    for wanted in ({"video": True, "audio": False}, {"video": False, "audio": True}):
        if not all(has[kind] for kind, used in wanted.items() if used):
            with pytest.raises(MediaError, match="has no"):
                ClipReader(**wanted).read(path, [Window(info.start, 0.04)])
