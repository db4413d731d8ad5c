"""The network of voices: whose mask is whose, and what it makes of silence and of faces that are not there."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avlearn.apply.faces import MOUTH
from avlearn.apply.separate.shown_faces import _HEAD, _SIDE, mouth_of_head
from avlearn.models.released.systems import SeparateSystem
from avlearn.models.speech_sync import SAMPLE_RATE
from avlearn.models.voices import VoiceSeparation, attractor_masks, load_voices, open_voices, seen_as_cropped


@pytest.fixture(scope="module")
def mixture():
    """2 s of noise, and lips of two."""
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(2, 2 * SAMPLE_RATE, generator=generator) / 20
    return audio, torch.cat([torch.randn(2, 128, 51, generator=generator), torch.ones(2, 1, 51)], 1)


def test_faces_that_change_places_change_tracks(mixture):
    audio, lips = mixture
    model = load_voices()
    tracks = model.separate(audio, lips)
    assert tracks.shape == (2, 2, 2 * SAMPLE_RATE)
    torch.testing.assert_close(model.separate(audio, lips.flip(0)), tracks.flip(0), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(model.separate(3 * audio, lips), 3 * tracks, atol=1e-5, rtol=1e-3)


def test_masks_of_all_and_of_what_is_left_add_up_to_one(mixture):
    audio, lips = mixture
    with torch.inference_mode():
        spectrum, masks, place = load_voices().masked(audio, lips[None].expand(2, -1, -1, -1))
    assert masks.shape == (2, 3, *spectrum.shape[1:]) and place.shape[2:] == (160, spectrum.shape[2])
    torch.testing.assert_close(masks.sum(1), torch.ones_like(masks[:, 0]))


def test_one_face_three_faces_and_none_in_view_are_taken_and_silence_stays_silent(mixture):
    audio, lips = mixture
    model = load_voices()
    for count in (1, 3):
        assert model.separate(audio[:1], lips[:1].expand(count, -1, -1)).shape == (count, 1, audio.shape[1])
    assert model.separate(audio, torch.zeros_like(lips)).isfinite().all()
    assert not model.separate(torch.zeros_like(audio), lips).any()


def test_what_lies_together_is_one_voices_though_its_attractor_saw_little_of_it():
    place = torch.zeros(1, 2, 4, 6)
    place[:, 0, :, :3], place[:, 1, :, 3:] = 4, 4
    weights = torch.zeros(1, 2, 4, 6)
    weights[:, 0, 0, 0], weights[:, 1, 0, 5] = 1, 1
    masks = attractor_masks(place, weights)
    assert masks[0, 0, :, :3].min() > 0.95 and masks[0, 1, :, 3:].min() > 0.95


def test_the_embedding_and_the_query_are_learned_by_what_the_masks_are_wrong_about(mixture):
    audio, lips = mixture
    model = VoiceSeparation().train()
    _, masks, _ = model.masked(audio, lips[None].expand(2, -1, -1, -1))
    masks[:, 0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.masks.parameters())


def test_mouths_of_heads_are_seen_as_those_of_crops():
    """Grey noise: the same part of a face, though cropped at another scale."""
    noise = np.random.default_rng(0).integers(0, 255, (12, 12, 1))
    frame = np.kron(noise.repeat(3, 2), np.ones((24, 24, 1))).astype(np.uint8)
    landmarks = np.array([[110.0, 100], [178, 100], [144, 135], [118, 168], [170, 168]])
    mouth = mouth_of_head(_HEAD.crop(frame, landmarks)[None])[0]
    margin = (MOUTH.side - 48) // 2
    direct = MOUTH.crop(frame, landmarks)[margin:-margin, margin:-margin].astype(float)
    seen = seen_as_cropped(mouth).astype(float)
    assert _SIDE == 210 and np.corrcoef(direct.ravel(), seen.ravel())[0, 1] > 0.99
    shifted = seen_as_cropped(np.roll(mouth, 8, 0)).astype(float)
    assert np.corrcoef(direct.ravel(), shifted.ravel())[0, 1] < 0.9


def test_as_a_system_it_takes_windows_and_mouths():
    system: SeparateSystem = open_voices(device=torch.device("cpu"))
    assert len(system.looks) == 76 and system.looks[0] == -1.5 and system.faces
    rng = np.random.default_rng(0)
    seen = [[*rng.integers(0, 255, (76, 96, 96), np.uint8), np.zeros((210, 210, 3), np.uint8)]] * 2
    tracks = system.separate_window(torch.randn(2, system.samples) / 20, seen)
    assert tracks.shape == (2, 2, system.samples) and tracks.isfinite().all()


def test_a_face_that_is_away_for_a_moment_is_not_seen_then():
    system = open_voices(device=torch.device("cpu"))
    rng = np.random.default_rng(0)
    mouths = list(rng.integers(0, 255, (76, 96, 96), np.uint8))
    given = []
    system.network = SimpleNamespace(
        lips=lambda crops: system_lips(crops, given), separate=lambda audio, lips: given.append(lips) or audio[None]
    )
    system.separate_window(torch.zeros(1, 48000), [[*mouths[:40], *[None] * 36, mouths[0]]])
    crops, lips = given
    assert not lips[0, :, 40:].any() and (lips[0, :, :40] == 1).all()
    assert (crops[0, 40:] == crops[0, 39]).all(), "what stands there does not move"


def system_lips(crops, given):
    given.append(crops)
    return torch.ones(1, 128, crops.shape[1])
