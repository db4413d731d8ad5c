"""A audio track on another clock keeps its instants."""

import numpy as np
import pytest

from avlearn.errors import NoAudioError
from avlearn.media import write_video, write_wav
from avlearn.media.retime import Retimed

RATE = 16000


@pytest.mark.parametrize("speed", [1.001, 0.96, 1.0])
@pytest.mark.parametrize("origin", [0.0, -0.25])
def test_sample_n_is_the_instant_that_the_clock_says(tmp_path, speed, origin):
    t = np.arange(10 * RATE) / RATE

    def sweep(t):
        return 0.5 * np.sin(2 * np.pi * (200 * t + 15 * t**2))

    write_wav(tmp_path / "sweep.wav", sweep(t)[None].astype(np.float32), RATE)
    track = Retimed(tmp_path / "sweep.wav", origin, speed)
    pieces = []
    while track.end() is None or sum(p.shape[1] for p in pieces) < track.end():
        pieces.append(track.read(sum(p.shape[1] for p in pieces), 7000))
        track.forget(sum(p.shape[1] for p in pieces))
    heard = np.concatenate(pieces, 1)[0]
    assert track.end() == pytest.approx((10 - origin) / speed * RATE, abs=2)
    at = origin + np.arange(RATE, 9 * RATE) / RATE * speed
    assert np.abs(heard[RATE : 9 * RATE] - sweep(at)).max() < 1e-3


def test_no_audio_is_refused(tmp_path):
    write_video(tmp_path / "mute.mp4", np.zeros((25, 64, 64, 3), np.uint8), 25)
    with pytest.raises(NoAudioError):
        Retimed(tmp_path / "mute.mp4", 0.0, 1.001)
