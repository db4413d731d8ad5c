"""The transform that files are separated by is that of training, at any sample rate."""

import pytest
import torch

from avlearn.apply.separate.masks import _Transform
from avlearn.signal import Stft

WINDOW, HOP = 0.064, 0.016  # seconds


def test_at_the_rate_of_training_it_is_the_same():
    audio = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    ours = _Transform(16000, WINDOW, HOP, 16000, audio.device)
    trained = Stft(16000, WINDOW, HOP)
    assert torch.allclose(ours.forward(audio), trained.forward(audio), atol=1e-4)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_a_window_lasts_as_long_and_audio_comes_back_at_every_rate(rate):
    ours = _Transform(rate, WINDOW, HOP, rate, torch.device("cpu"))
    assert ours.length == pytest.approx(WINDOW * rate, abs=1) and ours.bin_hz == pytest.approx(1 / WINDOW, rel=1e-3)
    audio = torch.randn(1, rate, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours.inverse(ours.forward(audio)), audio, atol=1e-5)
