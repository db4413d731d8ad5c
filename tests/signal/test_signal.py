"""Spectrograms lie where they say, and transforms come back."""

import torch

from avlearn.signal import LogMel, Stft


def test_a_click_lights_the_frame_that_it_falls_in():
    spectrogram = LogMel(16000, 512, 0.025, 0.01, 64)
    for frame in (10, 37, 61):
        audio = torch.zeros(1, 16000)
        audio[0, frame * 160 + 80] = 1.0
        energy = spectrogram(audio).sum((0, 1, 2))
        assert energy.shape == (100,)
        assert int(energy.argmax()) == frame


def test_the_transform_comes_back_at_any_rate():
    for rate in (16000, 22050, 44100, 48000):
        stft = Stft(rate, 0.064, 0.032)
        audio = torch.randn(2, rate)
        assert (stft.inverse(stft(audio), rate) - audio).abs().max() < 1e-5
        assert abs(stft.bin_hz - 15.625) < 0.05


def test_a_window_need_be_no_multiple_of_the_hop():
    stft = Stft(11025, 1022 / 11025, 256 / 11025)
    assert (stft.n_fft, stft.hop_samples) == (1022, 256)
    audio = torch.randn(11025, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(stft.inverse(stft(audio), 11025), audio, atol=1e-5)
