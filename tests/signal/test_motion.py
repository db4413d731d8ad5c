import pytest
import torch

from avlearn.signal.motion import AUDIO_RATE, audio_events, grid_motion


def test_motion_is_that_of_the_cell_and_of_the_frame_in_which_something_changes():
    frames = torch.zeros(5, 24, 24)
    frames[2:, :12, 12:] = 100
    brightness, motion, change = grid_motion(frames, 2)
    assert brightness.shape == motion.shape == change.shape == (5, 4)
    assert motion.nonzero().tolist() == [[2, 1]]
    assert motion[2, 1] == pytest.approx(10)
    assert change.nonzero().tolist() == [[2, 1], [3, 1]]
    assert brightness[:, 1].tolist() == [0, 0, 100, 100, 100]


def test_onset_is_where_a_sound_begins_and_not_where_it_ends():
    audio = torch.zeros(16000)
    audio[8000:12000] = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1
    loudness, onset, levels, onsets = audio_events(audio, 16000)
    assert loudness.shape == onset.shape == (AUDIO_RATE, 1)
    assert levels.shape == onsets.shape == (AUDIO_RATE, 8)
    assert 48 <= int(onset.argmax()) <= 52
    assert float(onset[70:80].max()) < 0.1 * float(onset.max())
    assert float(loudness[55:70].mean()) > float(loudness[90:].mean()) + 3


@pytest.mark.parametrize("samples", [0, 100, 200])
def test_audio_of_a_moment_has_as_many_events_as_it_lasts(samples):
    assert all(len(events) == samples // 160 for events in audio_events(torch.zeros(samples), 16000))
