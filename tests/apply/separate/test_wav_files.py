"""WAV files of tracks, as long as they may be."""

import pytest

from avlearn.apply.separate.tracks import WavFiles


@pytest.mark.parametrize(("form", "size"), [("float", 4), ("24", 3)])
def test_what_gets_longer_than_a_wav_can_say_is_rf64(tmp_path, form, size):
    most = 2**31 / (48000 * 8 * size)  # seconds
    (tmp_path / "part").mkdir()
    for seconds, container in ((0.99 * most, "WAV"), (1.01 * most, "RF64")):
        with WavFiles([tmp_path / "part" / "a.wav"], 48000, 8, form, seconds) as wavs:
            assert [file.format for file in wavs.files] == [container]
