"""Grad-CAM points at what a network is known to look at."""

import numpy as np
import pytest
import torch
from hand_made import Bands, Colours, classifying

from avlearn.apply.explain.grad_cam import class_maps, grad_cam
from avlearn.apply.explain.network import of_recognizer
from avlearn.config import RecognizerConfig
from avlearn.models.inputs import audio_input
from avlearn.models.recognizer import Recognizer

RED = torch.tensor([[1.0, -0.5, -0.5], [-0.5, -0.5, 1.0]])  # of red and of blue


def wandering_squares() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Grey frames with a red and a blue square of a cell that wander: ``[1, 3, T, 64, 64]``, and their cells (y, x)."""
    rng = np.random.default_rng(0)
    video = torch.full((1, 3, 20, 64, 64), 0.5) + 0.05 * torch.randn(1, 3, 20, 64, 64)
    red, blue = (rng.integers(0, 8, (20, 2)) for _ in range(2))
    for t in range(20):
        for (y, x), colour in ((blue[t], (0, 0, 1.0)), (red[t], (1.0, 0, 0))):
            video[0, :, t, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = torch.tensor(colour)[:, None, None]
    return video, red, blue


def test_the_peak_is_at_the_object_in_every_frame_and_the_centre_is_not():
    video, red, blue = wandering_squares()
    network = classifying(Colours(), RED, ("red", "blue"), (3, 20, 64, 64))
    maps = class_maps(network, "video", video, [0, 1]).numpy()
    assert maps.shape == (2, 20, 8, 8)
    shares = []
    for heat, cells in zip(maps, (red, blue), strict=True):
        peaks = np.stack(np.unravel_index(heat.reshape(20, -1).argmax(1), (8, 8)), 1)
        shares.append((peaks == cells).all(1).mean())
    centre = (red == 4).all(1).mean()
    assert shares[0] == 1 and shares[1] >= 0.95 and centre <= 0.1  # where they meet, red hides blue


def test_a_network_that_sees_the_top_left_alone_has_its_map_there():
    seen = torch.zeros(8, 8)
    seen[:3, :3] = 1
    network = classifying(Colours(seen), RED, ("red", "blue"), (3, 20, 64, 64))
    heat = class_maps(network, "video", torch.rand(1, 3, 20, 64, 64), [0])[0]
    assert heat[:, :3, :3].sum() > 0
    assert heat.sum() == heat[:, :3, :3].sum()


def test_of_averaged_features_and_a_linear_classifier_it_is_the_class_activation_map():
    """Zhou et al., CVPR 2016."""
    video, _, _ = wandering_squares()
    network = classifying(Colours(), RED, ("red", "blue"), (3, 20, 64, 64))
    features = network.encoders["video"].forward_features(video)[0]
    expected = torch.einsum("kd,dtyx->ktyx", RED, features).relu() / features[0].numel()
    torch.testing.assert_close(class_maps(network, "video", video, [0, 1]), expected)


def test_nothing_is_hot_where_nothing_speaks_for_the_class():
    assert not grad_cam(torch.rand(3, 4, 5), -torch.ones(3, 4, 5)).any()


def test_audio_is_judged_by_the_band_that_decides():
    network = classifying(Bands(), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), ("low", "high"), (1, 32, 40))
    heard = torch.rand(1, 1, 32, 40)
    heard[..., 12:20] += 5  # a loud moment, of all bands
    low, high = class_maps(network, "audio", heard, [0, 1])
    assert low.shape == (8, 10)
    assert not low[4:].any() and not high[:4].any()
    assert (low[:4, 3:5].mean() > 5 * low[:4, :3].mean()) and (high[4:, 3:5].mean() > 5 * high[4:, :3].mean())


@pytest.mark.parametrize(
    ("audio", "options", "shape"),
    [
        ("conv2d_tiny", {}, (4, 8)),
        ("resnet9", {"mels": 40}, (2, 8)),
        ("conv2d_10", {"kind": "log_linear", "n_fft": 1024, "window": 0.04, "bins": 257}, (17, 4)),
        ("waveform_multisensory", {"kind": "waveform"}, (1, 10)),
    ],
)
def test_maps_of_audio_have_the_bands_of_the_last_stage_that_has_some(audio, options, shape):
    spectrogram = RecognizerConfig(labels=("a", "b")).spectrogram.model_copy(update=options)
    own = {"in_chans": 1} if audio.startswith("waveform") else {}
    config = RecognizerConfig(
        audio=audio, audio_options=own, inputs="audio", labels=("a", "b"), seconds=0.66, spectrogram=spectrogram
    )
    network = of_recognizer(Recognizer(config).eval().requires_grad_(False))
    given = audio_input(network.model.audio, network.model.spectrogram, torch.randn(1, 10560) / 9)
    maps = class_maps(network, "audio", given, [0, 1])
    assert maps.shape == (2, *shape) and (maps >= 0).all() and maps.isfinite().all()


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_of_two_encoders_each_has_the_map_of_its_share(kind):
    config = RecognizerConfig(inputs="both", labels=("a", "b", "c"), seconds=0.64, size=32)
    model = Recognizer(config).eval().requires_grad_(False)
    network = of_recognizer(model)
    video, audio = torch.rand(1, 3, 16, 32, 32), torch.randn(1, 10240) / 9
    given = {"video": video, "audio": audio_input(model.audio, model.spectrogram, audio)}
    shares = [network.score(one, values) for one, values in given.items()]
    torch.testing.assert_close(sum(shares), model(video, audio))
    assert class_maps(network, kind, given[kind], [2]).shape == {"video": (1, 8, 4, 4), "audio": (1, 4, 8)}[kind]
