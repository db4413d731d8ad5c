"""Whatever bytes a file holds, reading it ends in a clip or in an error that says what is wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avlearn.errors import MediaError
from avlearn.media import ClipReader, Window, stream

sys.path.append(str(Path(__file__).parents[2] / "tools" / "attack"))

import media
from damage import damage


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    return media.originals(tmp_path_factory.mktemp("files"))


def test_files_are_read_whole_before_they_are_damaged(files, tmp_path):
    for name, data in files.items():
        if not name.endswith(".ogg"):
            (tmp_path / name).write_bytes(data)
            assert media.attempt(tmp_path / name) == [None, None, None], name


def test_a_header_with_a_frame_in_a_lifetime_is_not_believed(files, tmp_path):
    data = files["mpeg4_mp3.avi"]
    scale = data.index(b"vids") + 20  # then the rate: frames a second are rate over scale
    damaged = tmp_path / "slow.avi"
    damaged.write_bytes(
        data[:scale] + (2**31 - 1).to_bytes(4, "little") + (1).to_bytes(4, "little") + data[scale + 8 :]
    )
    assert len(media.attempt(damaged)) == 3  # whatever else they raised would come through


def test_damage_is_the_same_for_a_seed(files):
    first, again, other = ([damage(seed, k, files) for k in range(40)] for seed in (1, 1, 2))
    assert first == again and first != other
    assert sum(data not in files.values() for _, _, data in first) > 30


@pytest.mark.parametrize("rate", [None, 16_000])
@pytest.mark.parametrize("value", [2e38, -2e38, np.nan])
def test_samples_that_no_audio_has_are_refused(tmp_path, value, rate):
    audio = np.zeros((8_000, 1), np.float32)
    audio[1_000:1_010] = value
    soundfile.write(tmp_path / "a.wav", audio, 8_000, "FLOAT")
    reader = ClipReader(video=False, sample_rate=rate)
    with pytest.raises(MediaError, match="too loud to be audio"):
        reader.read(tmp_path / "a.wav", [Window(0.0, 0.5)])
    with pytest.raises(MediaError, match="too loud to be audio"):
        next(stream(tmp_path / "a.wav", 0.5, 0.5, video=False, sample_rate=rate))


def test_floats_that_hold_integers_are_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full((8_000, 1), -(2.0**31), np.float32), 8_000, "FLOAT")
    clip = ClipReader(video=False).read(tmp_path / "a.wav", [Window(0.0, 0.5)])[0]
    assert (clip.audio == -(2.0**31)).all()
