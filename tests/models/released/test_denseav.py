"""DenseAV: released names, the numbers of its authors' code, and what the tools get of it."""

import numpy as np
import pytest
import torch
from small_denseav import DIM, denseav_inputs, denseav_tensors

from avlearn.errors import ModelError
from avlearn.models.released.denseav import DenseAVSystem, load_denseav

AUTHORS = [  # by heads, columns and steps
    *(1.49132, 1.45985, 1.7151, 1.67532, 2.03017, 1.98249),
    *(-3.6113, -3.6011, -5.09527, -5.09532, -5.31467, -5.30558),
]


@torch.no_grad()
def test_similarities_are_those_of_the_authors_code():
    found = load_denseav(denseav_tensors(), 2).similarity(*denseav_inputs())
    assert found.shape == (1, 2, 4, 6, 2)
    torch.testing.assert_close(found[0, :, 1, ::2].flatten(), torch.tensor(AUTHORS), rtol=2e-5, atol=2e-5)


@torch.no_grad()
def test_changes_of_low_rank_are_added_to_frozen_weights():
    plain, changed = denseav_tensors(), denseav_tensors()
    down, up = torch.randn(8, DIM) / 10, torch.randn(3 * DIM, 8) / 10
    frozen = "image_model.model.blocks.0.attn.qkv"
    plain[f"{frozen}.weight"] = plain[f"{frozen}.weight"] + 4 * up @ down
    changed = {name.replace("image_model.", "image_model.base_model.model."): each for name, each in changed.items()}
    frozen = "image_model.base_model.model.model.blocks.0.attn.qkv"
    for part in ("weight", "bias"):
        changed[f"{frozen}.base_layer.{part}"] = changed.pop(f"{frozen}.{part}")
    changed |= {f"{frozen}.lora_A.default.weight": down, f"{frozen}.lora_B.default.weight": up}
    image, audio = denseav_inputs()
    expected = load_denseav(plain, 2).heatmap(image, audio)
    torch.testing.assert_close(load_denseav(changed, 2).heatmap(image, audio), expected)
    renamed = {
        name.replace("conv.weight_g", "conv.parametrizations.weight.original0").replace(
            "conv.weight_v", "conv.parametrizations.weight.original1"
        ): each
        for name, each in plain.items()
    }
    torch.testing.assert_close(load_denseav(renamed, 2).heatmap(image, audio), expected)


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ("audio_model.model.encoder.pos_conv_embed.conv.weight_g", r"missing .*audio\.positions\.weight"),
        ("image_aligner.norm.norm.weight", "1 of .* parameters are missing"),
        ("audio_cls", "1 of .* parameters are missing"),
    ],
)
def test_what_is_missing_is_named(absent, said):
    found = denseav_tensors()
    del found[absent]
    with pytest.raises(ModelError, match=said):
        load_denseav(found, 2)
    with pytest.raises(ModelError, match="tensors have no place in DenseAV; the first is more"):
        load_denseav({**denseav_tensors(), "more": torch.zeros(1)}, 2)


def test_the_tools_get_a_map_of_any_frame():
    system = DenseAVSystem(load_denseav(denseav_tensors(), 2), "DenseAV", torch.device("cpu"), None)
    frame = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    heat = system.localize_window(frame, torch.randn(1, 9000) / 10)
    assert heat.shape == (28, 49) and heat.isfinite().all()
    coarse = DenseAVSystem(system.network, "DenseAV", torch.device("cpu"), torch.bfloat16)
    assert coarse.localize_window(frame, torch.randn(1, 9000) / 10).dtype == torch.float32
    loud = system.localize_window(frame, torch.randn(1, 100) / 10)
    assert loud.isfinite().all()
    assert system.localize_window(frame, torch.zeros(1, 48000)).isfinite().all()
