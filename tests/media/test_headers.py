"""What a header says is held against the file's size and packets before it is believed."""

import re
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
import small

from avlearn.errors import MediaError
from avlearn.media import probe, read_clip, stream


def with_edits(path, count: int):
    """Its first track shown by so many edits, each of all of it."""

    def repeat(content: bytes) -> bytes:
        return content[:4] + count.to_bytes(4) + content[8:20] * count

    path.write_bytes(small.change_box(path.read_bytes(), "moov/trak/edts/elst", repeat))
    return path


def test_edits_out_of_proportion_to_the_file_are_refused_at_once(tmp_path):
    path = with_edits(small.write(tmp_path / "a.mp4"), 200_000)
    with pytest.raises(MediaError, match="200000 edits"):
        probe(path)


def test_a_few_edits_that_repeat_are_read(tmp_path):
    path = with_edits(small.write(tmp_path / "a.mp4"), 5)
    assert sum(len(clip.video) for clip in stream(path, 0.5, 0.5, audio=False)) == pytest.approx(100, abs=5)


def test_more_samples_than_the_file_could_hold_are_refused(tmp_path):
    path = small.write(tmp_path / "a.mp4")

    def promise(content: bytes) -> bytes:
        return content[:4] + (1).to_bytes(4) + (100_000_000).to_bytes(4)

    path.write_bytes(small.change_box(path.read_bytes(), "moov/trak/mdia/minf/stbl/stsz", promise))
    with pytest.raises(MediaError, match="100000000 samples"):
        probe(path)


@pytest.mark.parametrize("within", ["", "udta", "dinf", "mvex", "tref", "wave", "sinf", "schi", "ilst", "stbl"])
def test_more_samples_in_fragments_than_the_file_has_bytes_are_refused(tmp_path, within):
    """A run whose samples are all of the usual size counts them without a byte for each; it may lie out of place."""
    path = tmp_path / "a.mp4"
    original = str(small.write(tmp_path / "a.mkv", codec="mpeg4", seconds=0))
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(original) as source, av.open(str(path), "w", options=fragments) as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = track
                target.mux(packet)
    assert read_clip(path, 0.0, 0.4, audio=False).video.shape == (10, 48, 64, 3)

    def promise(fragment: bytes) -> bytes:
        run = (16).to_bytes(4) + b"trun" + bytes(4) + (100_000).to_bytes(4)
        return fragment + ((8 + len(run)).to_bytes(4) + within.encode() + run if within else run)

    path.write_bytes(small.change_box(path.read_bytes(), "moof/traf", promise))
    with pytest.raises(MediaError, match=r"promises 1000\d\d samples in fragments"):
        probe(path)


@pytest.mark.parametrize("wide", [2_000_000_000, 1])
def test_an_absurd_shape_of_pixels_is_not_believed(tmp_path, wide):
    path = small.write(tmp_path / "a.mp4", codec="mpeg4", aspect=Fraction(4, 3))

    def stretch(entry: bytes) -> bytes:
        at = entry.index(b"pasp") + 4
        return entry[:at] + wide.to_bytes(4) + (1 if wide > 1 else 2_000_000_000).to_bytes(4) + entry[at + 8 :]

    path.write_bytes(small.change_box(path.read_bytes(), "moov/trak/mdia/minf/stbl/stsd", stretch))
    assert (probe(path).video.width, probe(path).video.height) == (64, 48)
    assert read_clip(path, 0.0, 0.2).video.shape == (5, 48, 64, 3)


def test_frames_larger_than_the_file_could_hold_are_refused(tmp_path):
    """A few bytes of H.264 that say 16384x16384."""
    path = small.write(tmp_path / "a.mkv", 1, 0, codec="mjpeg")
    data = path.read_bytes()
    at = data.index(b"\xff\xc0") + 5  # then height and width (ITU-T T.81, B.2.2)
    path.write_bytes(data[:at] + (60_000).to_bytes(2) + (60_000).to_bytes(2) + data[at + 4 :])
    with pytest.raises(MediaError):
        read_clip(path, 0.0, 0.04, audio=False)


@pytest.mark.parametrize("rate", [4_000_000_000, 3_000_000])
def test_an_absurd_sample_rate_is_not_believed(tmp_path, rate):
    path = small.write(tmp_path / "a.mov", 0, audio="pcm_s16le", rate=8000)
    data = path.read_bytes()
    at = data.index(b"sowt") + 28  # then the rate, 16.16
    changed = data[:at] + (rate % 2**32).to_bytes(4) + data[at + 4 :]
    path.write_bytes(changed)
    try:
        clip = read_clip(path, video=False)
    except MediaError:
        return
    assert clip.sample_rate <= 768_000 and clip.audio.nbytes < 2**24 and np.isfinite(clip.audio).all()


def stray(path, which: int) -> None:
    """Make a recording of four seconds; the packets of one of its clusters say that they come hours later."""
    data = small.write(path, 100, 4.0, begin=70_000, codec="mjpeg").read_bytes()
    stamps = [found.end() for found in re.finditer(rb"\x1f\x43\xb6\x75.{4,8}?\xe7\x84", data, re.DOTALL)]
    at = stamps[which]  # milliseconds of the cluster
    assert len(stamps) > 10 and int.from_bytes(data[at : at + 4]) // 1000 in range(70_000, 70_004)
    path.write_bytes(data[:at] + (100_000_000).to_bytes(4) + data[at + 4 :])


@pytest.mark.parametrize("which", [1, 8, -2])
def test_packets_with_stray_stamps_do_not_lengthen_a_file(tmp_path, which):
    stray(tmp_path / "a.mkv", which)
    info = probe(tmp_path / "a.mkv")
    assert (info.start, info.duration) == (pytest.approx(70_000), pytest.approx(4.0, abs=0.1))
    assert info.video.duration == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(("which", "why"), [(0, "begins at 100000.00 s and ends at 70004"), (-1, "cannot lie in")])
def test_a_first_or_last_stamp_that_cannot_be_true_is_refused(tmp_path, which, why):
    stray(tmp_path / "a.mkv", which)
    with pytest.raises(MediaError, match=why):
        probe(tmp_path / "a.mkv")


def lasting(path, ticks: int, *, shown: bool = True) -> None:
    """Frames of so many ticks each, of which there are 12,800 a second; else an edit list hides all but the first."""
    lasts = lambda content: content[:12] + ticks.to_bytes(4) + content[16:]  # noqa: E731
    data = small.write(path, 20, 0, codec="mpeg4").read_bytes()
    data = data.replace(b"edts", b"free") if shown else data
    path.write_bytes(small.change_box(data, "moov/trak/mdia/minf/stbl/stts", lasts))


def test_seconds_without_bytes_are_refused(tmp_path):
    path = tmp_path / "a.mp4"
    lasting(path, 12_800)
    assert probe(path).duration == pytest.approx(20)
    lasting(path, 50 * 12_800)
    with pytest.raises(MediaError, match=f"1000 s cannot lie in {path.stat().st_size} bytes"):
        probe(path)


def test_a_clock_that_leaps_from_packet_to_packet_is_refused(tmp_path):
    lasting(tmp_path / "a.mp4", 2**31 - 1)
    with pytest.raises(MediaError, match="jumps at every packet"):
        probe(tmp_path / "a.mp4")


def test_a_frame_that_is_shown_for_days_is_one_frame(tmp_path):
    lasting(tmp_path / "a.mp4", 2**31 - 1, shown=False)
    assert probe(tmp_path / "a.mp4").duration == pytest.approx(0.04)
    clips = list(islice(stream(tmp_path / "a.mp4", 0.5, 0.5, fps=25, audio=False), 10))
    assert [len(clip.video) for clip in clips] == [1]
    with pytest.raises(MediaError, match=r"cut short: its video ends at 0\.04 s"):
        read_clip(tmp_path / "a.mp4", 0.0, 0.4, fps=25, audio=False)
