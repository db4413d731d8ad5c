"""Layers of encoders: every parameter is in one, from the input to the head."""

import pytest
import torch

from avlearn.models.depth import HEAD, INPUT, is_classifier, layers_of
from avlearn.models.registry import create_model, list_models


@pytest.mark.parametrize(
    "name", ["videomae_b", "r2plus1d_18", "swin3d_t", "conv2d_tiny", "x3d_s", "frame_cnn", "two_stream_r50"]
)
def test_layers_are_in_the_order_of_the_data(name):
    with torch.device("meta"):
        encoder = create_model(name, num_classes=5)
    layers = layers_of(encoder)
    names = list(layers)
    assert names[-1] == HEAD and any(map(is_classifier, layers[HEAD]))
    assert INPUT not in names or names[0] == INPUT
    numbers = [int(layer.rsplit(".", 1)[-1]) for layer in names if layer.rsplit(".", 1)[-1].isdigit()]
    assert numbers == sorted(numbers) and len(names) >= 4


def test_every_parameter_of_every_encoder_is_in_one_layer():
    for name in list_models():
        with torch.device("meta"):
            encoder = create_model(name, num_classes=5)
        members = [member for layer in layers_of(encoder).values() for member in layer]
        assert sorted(members) == sorted(dict(encoder.named_parameters())), name
