"""The input of audio encoders: equal to librosa's, frame by frame in its place; and the samples themselves."""

import librosa
import numpy as np
import pytest
import torch

from avlearn.config import Spectrogram
from avlearn.signal import FrontEnd
from avlearn.signal.mfcc import mfcc


def recording(rate: int) -> torch.Tensor:
    """Two recordings of a second, with tones and noise."""
    time = torch.arange(rate) / rate
    tones = torch.stack([(2 * torch.pi * hertz * time).sin() for hertz in (440.0, 3000.0)])
    return 0.3 * tones + 0.05 * torch.randn(2, rate)


def librosa_power(audio: torch.Tensor, options: Spectrogram, rate: int) -> np.ndarray:
    """Power of windows that are centred on the middles of hops, ``[B, n_fft // 2 + 1, N]``."""
    hop, window = round(options.hop * rate), round(options.window * rate)
    ends = ((options.n_fft - hop) // 2, options.n_fft - hop - (options.n_fft - hop) // 2)
    padded = np.pad(audio.double().numpy(), ((0, 0), ends), mode="reflect")
    return np.abs(librosa.stft(padded, n_fft=options.n_fft, hop_length=hop, win_length=window, center=False)) ** 2


# Of AVID-CMA, whose values are decibels, a mean and std of those; of GDT; of Synchformer.
LINEAR = Spectrogram(kind="log_linear", n_fft=1024, window=1024 / 24000, hop=0.01, bins=257, mean=-6.9, std=4.5)
GDT = Spectrogram(kind="log_mel", n_fft=1024, window=0.02, hop=0.01, mels=40, floor=1e-8, mean=-12.9, std=17.89)
SYNCHFORMER = Spectrogram(
    kind="log_mel", n_fft=1024, window=0.025, hop=0.01, mels=128, floor=1e-6, mean=-4.2677393, std=2 * 4.5689974
)


def test_log_linear_bands_are_means_of_librosas_bins():
    audio = recording(24000)
    power = librosa_power(audio, LINEAR, 24000)
    pairs = np.concatenate([power[:, :1], (power[:, 1::2] + power[:, 2::2]) / 2], 1)
    decibels = librosa.power_to_db(pairs + LINEAR.floor, ref=1.0, top_db=None, amin=1e-12)
    per_unit = 10 / np.log(10)
    expected = (decibels - LINEAR.mean * per_unit) / (LINEAR.std * per_unit)
    found = FrontEnd(24000, LINEAR)(audio)
    assert found.shape == (2, 1, 257, 100)
    assert np.abs(found[:, 0].numpy() - expected).max() < 1e-4


def test_all_bins_are_bands_where_no_number_is_given():
    audio = recording(16000)
    options = Spectrogram(kind="log_linear", n_fft=512, window=0.032, hop=0.01)
    expected = np.log(librosa_power(audio, options, 16000) + 1e-5)
    assert np.abs(FrontEnd(16000, options)(audio)[:, 0].numpy() - (expected + 5) / 4).max() < 1e-4


@pytest.mark.parametrize(("options", "rate"), [(GDT, 24000), (SYNCHFORMER, 16000), (Spectrogram(), 16000)])
def test_log_mel_bands_are_librosas(options, rate):
    audio = recording(rate)
    filters = librosa.filters.mel(sr=rate, n_fft=options.n_fft, n_mels=options.mels, htk=True, norm=None)
    expected = np.log(filters @ librosa_power(audio, options, rate) + options.floor)
    found = FrontEnd(rate, options)(audio)
    assert found.shape == (2, 1, options.mels, 100)
    assert np.abs(found[:, 0].numpy() - (expected - options.mean) / options.std).max() < 1e-4


def test_cepstra_are_of_windows_around_the_middles_of_frames():
    audio, options = recording(16000), Spectrogram(kind="mfcc", mean=2.0, std=3.0)
    found = FrontEnd(16000, options)(audio)
    assert found.shape == (2, 1, 13, 100)
    # Frame 40 is of the samples 6,400 to 6,560; its window begins 120 before. The first of all is emphasised by none.
    alone = (mfcc(audio[:, 6280 - 160 : 6680])[..., 1:2] - 2) / 3
    assert (found[..., 40:41] - alone).abs().max() < 1e-4
    click = torch.zeros(1, 16000)
    click[0, 37 * 160 + 80] = 1.0
    energy = FrontEnd(16000, Spectrogram(kind="mfcc"))(click)[0, 0, 0]
    assert abs(int(energy.argmax()) - 37) <= 1  # windows of two and a half frames hear it alike


def test_samples_are_left_as_they_are():
    audio = recording(21000)
    front_end = FrontEnd(21000, Spectrogram(kind="waveform"))
    assert torch.equal(front_end(audio), audio[:, None])
    assert front_end.hop == 1 / 21000


def test_margins_are_silence_on_either_side():
    audio = recording(16000)
    wide, bare = (FrontEnd(16000, Spectrogram(margin=margin)) for margin in (3, 0))
    found = wide(audio)
    assert found.shape[3] == 106
    silence = torch.zeros(2, 3 * 160)
    assert torch.equal(found, bare(torch.cat([silence, audio, silence], 1)))
    assert (found[..., 10:-10] - bare(audio)[..., 7:-7]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Spectrogram(kind="log_linear", n_fft=512, window=0.02, bins=200), "257 bins do not make 200 bands"),
        (Spectrogram(kind="log_linear", n_fft=512, window=0.02, bins=513), "257 bins do not make 513 bands"),
        (Spectrogram(n_fft=8), "a window of 600 samples does not go with n_fft 8"),
        (Spectrogram(kind="mfcc"), "16000 samples a second, not 24000"),
    ],
)
@pytest.mark.filterwarnings("error")  # a refusal is told once, and not by what others make of it before
def test_what_cannot_be_made_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        FrontEnd(24000, options)
