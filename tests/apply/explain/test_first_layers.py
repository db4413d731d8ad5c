"""Filters of first layers are what these layers make of the input."""

import pytest
import torch

from avlearn.apply.explain.filters import MOST, first_layers
from avlearn.apply.explain.network import Canvas, ExplainedNetwork
from avlearn.models import create_model
from avlearn.models.audio.ast import AST
from avlearn.models.encoder import Encoder


def layers(name: str, shape: tuple[int, ...]):
    return layers_of(create_model(name), shape)


def layers_of(encoder: Encoder, shape: tuple[int, ...]):
    encoder.eval().requires_grad_(False)
    kind = "video" if len(shape) == 4 else "audio"
    return encoder, first_layers(ExplainedNetwork("", None, {kind: encoder}, {kind: Canvas(shape, 12.5)}), kind)


def test_of_frames_they_are_the_kernels_over_the_std_of_the_colours():
    encoder, (layer,) = layers("r3d_18", (3, 8, 32, 32))
    kernel = encoder.get_submodule(layer.name).weight
    torch.testing.assert_close(layer.kernels, kernel / encoder.std.view(1, 3, 1, 1, 1), atol=1e-5, rtol=1e-4)


def test_of_differences_of_frames_they_are_films():
    """What dsconv_tiny sees of five frames: its first answers are the filters, laid over the middle of the clip."""
    encoder, (layer,) = layers("dsconv_tiny", (3, 8, 16, 16))
    assert layer.kernels.shape == (16, 3, 5, 6, 6)
    answers = []
    hook = encoder.get_submodule(layer.name).register_forward_hook(lambda *told: answers.append(told[2]))
    first, other = torch.rand(2, 1, 3, 8, 16, 16)
    with torch.no_grad():
        for video in (first, other):
            encoder.forward_features(video)
    hook.remove()
    found = (answers[1] - answers[0])[2, :, 4, 4]  # frame 4, and the pixels 6 to 11 of both sides
    moved = (other - first)[0, :, 2:7, 6:12, 6:12]
    torch.testing.assert_close(found, torch.einsum("dctyx,ctyx->d", layer.kernels, moved), atol=1e-4, rtol=1e-3)


def test_every_stream_has_its_own():
    _, found = layers("slowfast_tiny", (3, 16, 32, 32))
    assert len(found) == 2


@pytest.mark.parametrize("name", ["conv2d_tiny", "conv2d_10"])
def test_of_spectrograms_bands_come_before_frames_whatever_the_network_does(name):
    encoder, (layer,) = layers(name, (1, create_model(name).bins or 64, 64))
    kernel = encoder.get_submodule(layer.name).weight
    if name == "conv2d_10":  # it turns spectrograms
        kernel = kernel.transpose(2, 3)
    torch.testing.assert_close(layer.kernels, kernel[:MOST])


def test_of_many_the_strongest_are_shown():
    _, (layer,) = layers_of(AST(depth=1, bins=32, frames=32), (1, 32, 32))
    assert len(layer.kernels) == MOST and layer.count == 768


def test_there_are_none_of_waveforms():
    assert layers("waveform_multisensory", (2, 8192))[1] == []
