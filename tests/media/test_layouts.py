"""Audio whose channels come in an order that has no name: some releases of PyAV free its memory twice."""

import subprocess
import sys

import pytest
import small

READ = """
import sys
from avlearn.errors import MediaError
from avlearn.media import probe, read_clip, stream
try:
    info = probe(sys.argv[1])
    clip = read_clip(sys.argv[1], video=False)
    streamed = sum(piece.audio.shape[1] for piece in stream(sys.argv[1], 0.3, 0.3, video=False))
    print(info.audio.channels, *clip.audio.shape, streamed, clip.audio.std() > 0.05)
except MediaError as error:
    print(error)
"""


def read_in_a_child(path) -> str:
    """What reading says; the process must live to its end."""
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-500:]}"
    return done.stdout.strip()


@pytest.mark.parametrize(("layout", "channels", "tag"), [("7.1", 8, 128), ("6.1", 7, 142), ("5.1", 6, 124)])
def test_pcm_in_another_order_of_channels_is_read(tmp_path, layout, channels, tag):
    path = small.write(tmp_path / "a.mov", 0, audio="pcm_s16le", layouts=(layout,), rate=8000)
    data = path.read_bytes()
    at = data.index(b"chan") + 8  # then the layout's tag (Core Audio Format, mChannelLayoutTag)
    path.write_bytes(data[:at] + (tag << 16 | channels).to_bytes(4) + data[at + 4 :])
    assert read_in_a_child(path) == f"{channels} {channels} 6400 6400 True"


def test_channels_that_only_the_decoder_puts_in_another_order(tmp_path):
    """Opus of mapping family 2 (ambisonics) with two more channels: RFC 8486."""
    path = small.write(tmp_path / "a.mkv", 0, audio="libopus", layouts=("5.1",), rate=48_000)
    data = path.read_bytes()
    at = data.index(b"OpusHead") + 18
    assert data[at] == 1
    path.write_bytes(data[:at] + b"\2" + data[at + 1 :])
    assert read_in_a_child(path).startswith("6 6 ")


def test_many_channels_without_a_layout_are_read(tmp_path):
    path = small.write(tmp_path / "a.mov", 0, audio="pcm_s16le", layouts=("7.1",), rate=8000)
    data = path.read_bytes()
    begin = data.index(b"chan")
    path.write_bytes(data[:begin] + b"free" + data[begin + 4 :])
    assert read_in_a_child(path) == "8 8 6400 6400 True"
