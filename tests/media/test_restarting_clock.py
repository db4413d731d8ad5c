"""Durations and instants are those of the packets, also where the file's clock starts again, wraps or leaps."""

import struct

import numpy as np
import pytest
import small

from avlearn.errors import MediaError
from avlearn.media import ClipReader, Window, probe, read_clip, stream

FRAMES, SECONDS = 50, 2.0
WRAP = 2**33 / 90_000  # seconds at which the stamps of a transport stream begin again


def joined(path, *begins: float):
    """Recordings one behind the other, each with its own clock; the frames of each are the same."""
    parts = []
    for k, begin in enumerate(begins):
        part = small.write(
            path.with_name(f"{k}{path.suffix}"), FRAMES, SECONDS, begin=begin, gop=25, codec="mpeg2video", audio="mp2"
        )
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
@pytest.mark.parametrize("begins", [(0, 0), (100, 3), (0, 20_000), (0, 0, 0)])
def test_every_part_of_a_file_whose_clock_jumps_is_read(tmp_path, suffix, begins):
    path = joined(tmp_path / f"a.{suffix}", *begins)
    info = probe(path)
    assert info.duration == pytest.approx(len(begins) * SECONDS, abs=0.15 * len(begins))
    clips = list(stream(path, 0.5, 0.5, fps=25))
    assert sum(len(clip.video) for clip in clips) == pytest.approx(len(begins) * FRAMES, abs=4 * len(begins))
    audio = np.concatenate([clip.audio for clip in clips], 1)[0]
    quiet = [np.abs(audio[k : k + 1600]).max() < 0.1 for k in range(0, len(audio) - 3200, 1600)]
    assert not any(quiet[1:]), "a part without its audio"
    first, second = read_clip(path, info.start, 1.0), None
    for late in np.arange(0, 0.2, 0.01):
        second = read_clip(path, info.start + SECONDS + late, 1.0)
        if np.array_equal(second.video[:20], first.video[:20]):
            break
    else:
        raise AssertionError("the second part is not the first again")
    assert (np.diff(second.times) >= 0).all() and second.times[0] >= info.start + SECONDS - 1e-6


def test_a_clock_that_wraps_goes_on(tmp_path):
    path = small.write(tmp_path / "a.ts", FRAMES, SECONDS, begin=WRAP - 2.4, codec="mpeg2video", audio="mp2")
    info = probe(path)
    assert info.duration == pytest.approx(SECONDS, abs=0.15)
    assert sum(len(clip.video) for clip in stream(path, 0.5, 0.5, fps=25)) == pytest.approx(FRAMES, abs=2)


def test_a_clock_that_jumps_at_every_turn_is_refused(tmp_path):
    path = joined(tmp_path / "a.ts", *[0] * 2)
    path.write_bytes(path.read_bytes() * 150)
    with pytest.raises(MediaError, match="clock jumps"):
        probe(path)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "avi", "ts", "flv"])
def test_a_file_that_begins_late_is_as_long_as_it_is(tmp_path, suffix):
    codecs = {"codec": "mpeg4", "audio": "libmp3lame"} if suffix == "avi" else {}
    path = small.write(tmp_path / f"a.{suffix}", 50, 2.0, begin=0.0 if suffix == "avi" else 3600.0, gop=25, **codecs)
    info = probe(path)
    assert info.duration == pytest.approx(2.0, abs=0.15)
    assert read_clip(path).audio.shape[1] < 2.2 * 16_000


@pytest.mark.parametrize(("frames", "seconds", "late"), [(20, 12.0, 0.0), (300, 1.0, 0.0), (25, 2.0, 5.0)])
def test_streams_of_matroska_are_each_as_long_as_they_are(tmp_path, frames, seconds, late):
    info = probe(small.write(tmp_path / "a.mkv", frames, seconds, late=late))
    assert info.video.duration == pytest.approx(frames / 25, abs=0.05)
    assert info.audio.duration == pytest.approx(seconds, abs=0.15)
    assert info.audio.start - info.video.start == pytest.approx(late, abs=0.1)


def test_a_duration_that_no_packet_bears_out_is_not_believed(tmp_path):
    path = small.write(tmp_path / "a.mkv")
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a double
    path.write_bytes(data[:at] + struct.pack(">d", 4.9e12) + data[at + 8 :])
    assert probe(path).duration == pytest.approx(0.8, abs=0.1)
    path = small.write(tmp_path / "a.mp4")
    longer = small.change_box(path.read_bytes(), "moov/trak/mdia/mdhd", lambda box: box[:16] + b"\x7f" * 4 + box[20:])
    longer = small.change_box(longer, "moov/trak/edts/elst", lambda box: box[:8] + b"\x7f" * 4 + box[12:])
    path.write_bytes(longer)
    assert probe(path).duration == pytest.approx(0.8, abs=0.1)
    windows = [Window(0.0, 0.4), Window(0.4, 0.3)]
    assert [len(clip.video) for clip in ClipReader(fps=25).read(path, windows)] == [10, 8]
