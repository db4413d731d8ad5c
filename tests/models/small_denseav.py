"""A small DenseAV by the names of the released files, whose numbers are the same on every machine."""

import numpy as np
import torch
from torch import Tensor

DIM, WIDTH, CODE = 64, 8, 8
Shapes = dict[str, tuple[int, ...]]


def affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def block(name: str, dim: int) -> Shapes:
    shapes = affine(f"{name}.norm1", dim) | affine(f"{name}.attn.qkv", 3 * dim, dim) | affine(f"{name}.norm2", dim)
    shapes |= affine(f"{name}.attn.proj", dim, dim)
    return shapes | affine(f"{name}.mlp.fc1", 4 * dim, dim) | affine(f"{name}.mlp.fc2", dim, 4 * dim)


def shapes() -> Shapes:
    """Of a small one with one block a side; its common space is of 8 channels, which the last block pads to 12."""
    image, audio = "image_model.model", "audio_model.model"
    found: Shapes = {f"{image}.cls_token": (1, 1, DIM), f"{image}.pos_embed": (1, 785, DIM)}
    found |= affine(f"{image}.patch_embed.proj", DIM, 3, 8, 8) | block(f"{image}.blocks.0", DIM)
    found |= affine(f"{image}.norm", DIM)
    for number, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        layer = f"{audio}.feature_extractor.conv_layers.{number}"
        found |= affine(f"{layer}.conv", WIDTH, WIDTH if number else 1, kernel) | affine(f"{layer}.layer_norm", WIDTH)
    found |= {f"{audio}.masked_spec_embed": (DIM,)} | affine(f"{audio}.feature_projection.layer_norm", WIDTH)
    found |= affine(f"{audio}.feature_projection.projection", DIM, WIDTH)
    places = f"{audio}.encoder.pos_conv_embed.conv"
    found |= {f"{places}.bias": (DIM,), f"{places}.weight_g": (1, 1, 128), f"{places}.weight_v": (DIM, DIM // 16, 128)}
    layer = f"{audio}.encoder.layers.0"
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        found |= affine(f"{layer}.attention.{name}", DIM, DIM)
    found |= affine(f"{layer}.layer_norm", DIM) | affine(f"{layer}.final_layer_norm", DIM)
    found |= affine(f"{layer}.feed_forward.intermediate_dense", 4 * DIM, DIM)
    found |= affine(f"{layer}.feed_forward.output_dense", DIM, 4 * DIM) | affine(f"{audio}.encoder.layer_norm", DIM)
    found |= affine("image_aligner.norm.norm", DIM) | affine("image_aligner.layer", CODE, DIM, 1, 1)
    found |= affine("image_aligner.cls_layer", CODE, DIM) | affine("audio_aligner.mod_list.1.norm", DIM)
    found |= affine("audio_aligner.mod_list.2.layer", CODE, DIM, 1, 3)
    found |= affine("audio_aligner.mod_list.2.cls_layer", CODE, DIM)
    found |= affine("audio_aligner.mod_list.3.layer", CODE, CODE, 1, 3)
    found |= block("audio_aligner.mod_list.4.block", CODE + 4)
    return found | {"audio_cls": (DIM,), "sim_cal.w": (1,)}


def scattered(number: int, *shape: int) -> Tensor:
    """In [0, 1), the same on every machine."""
    places = torch.arange(int(np.prod(shape)))
    return ((places * places * 7919 + places * 31 + number * 104729) % 1009 / 1009).view(shape)


def denseav_tensors() -> dict[str, Tensor]:
    return {name: scattered(number, *shape) - 0.5 for number, (name, shape) in enumerate(shapes().items())}


def denseav_inputs() -> tuple[Tensor, Tensor]:
    return scattered(1, 1, 3, 32, 48), scattered(2, 1, 8000) - 0.5
