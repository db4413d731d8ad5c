"""SparseSync: its front end, its parts by hand and against PyTorch's own, and released names."""

import pytest
import torch
import torchaudio
from released_names import released_shapes
from torch import nn
from torchvision.models import resnet18

from avlearn.errors import ModelError
from avlearn.models.released.sparsesync import (
    AxisPositions,
    Selector,
    SparseSync,
    _names,
    clip_spectrogram,
    load_sparsesync,
)

Shapes = dict[str, tuple[int, ...]]
# Channels into the mixed blocks of S3D, by where they lie, and those of the convolutions in their branches.
MIXED = {
    5: (192, 64, 96, 128, 16, 32, 32),
    6: (256, 128, 128, 192, 32, 96, 64),
    8: (480, 192, 96, 208, 16, 48, 64),
    9: (512, 160, 112, 224, 24, 64, 64),
    10: (512, 128, 128, 256, 24, 64, 64),
    11: (512, 112, 144, 288, 32, 64, 64),
    12: (528, 256, 160, 320, 32, 128, 128),
    14: (832, 256, 160, 320, 32, 128, 128),
    15: (832, 384, 192, 384, 48, 128, 128),
}


def affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def norm(name: str, channels: int) -> Shapes:
    statistics = {f"{name}.running_mean": (channels,), f"{name}.running_var": (channels,)}
    return affine(name, channels) | statistics | {f"{name}.num_batches_tracked": ()}


def conv(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.conv.weight": (outputs, inputs, 1, 1, 1)} | norm(f"{name}.bn", outputs)


def separable(name: str, inputs: int, outputs: int, size: int = 3) -> Shapes:
    space = {f"{name}.conv_s.weight": (outputs, inputs, 1, size, size)} | norm(f"{name}.bn_s", outputs)
    return space | {f"{name}.conv_t.weight": (outputs, outputs, size, 1, 1)} | norm(f"{name}.bn_t", outputs)


def s3d() -> Shapes:
    base = "vfeat_extractor.base."
    shapes = separable(f"{base}0", 3, 64, 7) | conv(f"{base}2", 64, 64) | separable(f"{base}3", 64, 192)
    for place, (inputs, width0, inner1, width1, inner2, width2, width3) in MIXED.items():
        block = f"{base}{place}.branch"
        shapes |= conv(f"{block}0.0", inputs, width0) | conv(f"{block}3.1", inputs, width3)
        shapes |= conv(f"{block}1.0", inputs, inner1) | separable(f"{block}1.1", inner1, width1)
        shapes |= conv(f"{block}2.0", inputs, inner2) | separable(f"{block}2.1", inner2, width2)
    return shapes


def block(name: str, norms: int, attentions: tuple[str, ...]) -> Shapes:
    shapes = affine(f"{name}.mlp.0", 2048, 512) | affine(f"{name}.mlp.2", 512, 2048)
    for i in range(norms):
        shapes |= affine(f"{name}.ln{i + 1}", 512)
    for attention in attentions:
        for part in ("key", "query", "value", "proj"):
            shapes |= affine(f"{name}.{attention}.{part}", 512, 512)
    return shapes


def released(classes: int = 21) -> Shapes:
    shapes = s3d() | affine("v_bridge.bridge.0", 512, 1024, 1, 1, 1)
    audio = {name: tuple(tensor.shape) for name, tensor in resnet18().state_dict().items() if name[:3] != "fc."}
    shapes |= {f"afeat_extractor.{name}": shape for name, shape in audio.items()}
    shapes["afeat_extractor.conv1.weight"] = (64, 1, 7, 7)
    top = "transformer."
    shapes |= affine(f"{top}pre_lnorm_vis", 512) | affine(f"{top}pre_lnorm_aud", 512)
    sides = {"vis": {"time": (16, 172), "height": (7, 170), "width": (7, 170)}}
    sides["aud"] = {"freq": (9, 256), "time": (20, 256)}
    for side, axes in sides.items():
        shapes |= {f"{top}{side}_pos_emb.{axis}_embed.weight": shape for axis, shape in axes.items()}
    for selector in (f"{top}v_selector.", f"{top}a_selector."):
        shapes |= {f"{selector}selectors": (16, 512), f"{selector}selectors_pos_emb.time_embed.weight": (16, 512)}
        for i in range(3):
            shapes |= block(f"{selector}blocks.{i}", 3, ("attn", "xattn"))
    fusion = f"{top}global_transformer."
    shapes |= {f"{fusion}OFF_tok": (1, 1, 512), f"{fusion}MOD_tok": (1, 1, 512)}
    for name in ("vis_in_lnorm", "aud_in_lnorm", "ln_f"):
        shapes |= affine(fusion + name, 512)
    for i in range(3):
        shapes |= block(f"{fusion}blocks.{i}", 2, ("attn",))
    return shapes | {f"{top}off_head.weight": (classes, 512)}


def on_meta(shapes: Shapes) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def small() -> SparseSync:
    """For 16 frames of 32 x 32 pixels and 32 spectrogram frames."""
    return SparseSync(3, video_grid=(2, 1, 1), audio_grid=(9, 1), depth=1, selectors=4)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, 3, 16, 32, 32), torch.randn(2, 1, 257, 32)


def test_the_names_below_are_the_released_ones():
    assert released_shapes("sparsesync") == released()


@pytest.mark.parametrize("classes", [21, 3])
def test_every_released_parameter_has_a_place(classes):
    with torch.device("meta"):
        model = load_sparsesync(on_meta(released(classes)))
    assert sum(parameter.numel() for parameter in model.parameters()) == 54_348_652 - (21 - classes) * 512
    assert not model.training and model.head.out_features == classes


def test_where_released_parameters_go():
    numbers = {name: torch.tensor([float(number)]) for number, name in enumerate(released())}
    found = {name: tensor.tolist() for name, tensor in _names(numbers).items()}
    selector = "transformer.v_selector.blocks.1."
    places = {
        "video.features.0.1.0.weight": ["vfeat_extractor.base.0.conv_t.weight"],
        "video.features.2.1.running_var": ["vfeat_extractor.base.2.bn.running_var"],
        "video.features.5.branch0.1.bias": ["vfeat_extractor.base.5.branch0.0.bn.bias"],
        "video.features.5.branch2.1.0.1.bias": ["vfeat_extractor.base.5.branch2.1.bn_s.bias"],
        "video.features.15.branch3.1.0.weight": ["vfeat_extractor.base.15.branch3.1.conv.weight"],
        "audio.layer4.0.downsample.1.bias": ["afeat_extractor.layer4.0.downsample.1.bias"],
        "bridge.bias": ["v_bridge.bridge.0.bias"],
        "video_norm.bias": ["transformer.pre_lnorm_vis.bias"],
        "audio_norm.bias": ["transformer.pre_lnorm_aud.bias"],
        "video_positions.axes.1": ["transformer.vis_pos_emb.height_embed.weight"],
        "video_positions.axes.2": ["transformer.vis_pos_emb.width_embed.weight"],
        "audio_positions.axes.0": ["transformer.aud_pos_emb.freq_embed.weight"],
        "video_selector.queries": ["transformer.v_selector.selectors"],
        "video_selector.pos_embed": ["transformer.v_selector.selectors_pos_emb.time_embed.weight"],
        "video_selector.blocks.1.norm3.bias": [f"{selector}ln3.bias"],
        "video_selector.blocks.1.linear2.bias": [f"{selector}mlp.2.bias"],
        "video_selector.blocks.1.self_attn.in_proj_weight": [
            f"{selector}attn.{part}.weight" for part in ("query", "key", "value")
        ],
        "video_selector.blocks.1.multihead_attn.in_proj_bias": [
            f"{selector}xattn.{part}.bias" for part in ("query", "key", "value")
        ],
        "video_selector.blocks.1.multihead_attn.out_proj.bias": [f"{selector}xattn.proj.bias"],
        "audio_selector.queries": ["transformer.a_selector.selectors"],
        "fusion.blocks.2.norm2.bias": ["transformer.global_transformer.blocks.2.ln2.bias"],
        "head.weight": ["transformer.off_head.weight"],
    }
    assert {name: found[name] for name in places} == {
        name: [numbers[part].item() for part in parts] for name, parts in places.items()
    }
    assert sorted(value for values in found.values() for value in values) == list(map(float, range(len(numbers))))


def test_a_group_that_is_missing_is_named():
    tensors = on_meta(released())
    del tensors["transformer.a_selector.blocks.2.xattn.key.bias"]
    with torch.device("meta"), pytest.raises(ModelError, match=r"audio_selector\.blocks\.2\.multihead_attn$"):
        load_sparsesync(tensors)


def test_the_spectrogram_is_torchaudios_with_each_frequency_standardised():
    audio = 0.1 * torch.randn(2, 80000)
    log = (torchaudio.transforms.Spectrogram(512, hop_length=128)(audio) + 1e-6).log()
    found = clip_spectrogram(audio)
    assert found.shape == (2, 1, 257, 626)
    torch.testing.assert_close(found.mean(-1), torch.zeros(2, 1, 257), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.std(-1), torch.ones(2, 1, 257))
    torch.testing.assert_close(found[0, 0, 40], (log[0, 40] - log[0, 40].mean()) / log[0, 40].std())


def test_silence_has_a_spectrogram_of_numbers():
    assert clip_spectrogram(torch.zeros(1, 80000)).abs().max() < 10


def test_positions_of_a_place_are_those_of_its_coordinates_side_by_side():
    positions = AxisPositions((3, 2, 4), (2, 1, 1), (0, 2, 1))
    time, row, column = positions.axes
    found = positions(torch.zeros(2, 3, 2, 4, 4))
    torch.testing.assert_close(found[1, 2, 1, 3], torch.cat([time[2], column[3], row[1]]))
    torch.testing.assert_close(found[0, 0, 1, 2], torch.cat([time[0], column[2], row[1]]))


def test_selectors_attend_to_each_other_then_to_the_features():
    """By the equations of a block, one head."""
    model = Selector(8, 1, 1, count=3).eval()
    block = model.blocks[0]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)

    def attended(module: nn.MultiheadAttention, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
        query, key, value = (part @ w.T + b for part, w, b in zip((x, context, context), weights, biases, strict=True))
        return module.out_proj((query @ key.mT / 8**0.5).softmax(-1) @ value)

    context = torch.randn(2, 5, 8)
    x = (model.queries + model.pos_embed).expand(2, -1, -1)
    normed = block.norm1(x)
    x = x + attended(block.self_attn, normed, normed)
    x = x + attended(block.multihead_attn, block.norm2(x), context)
    x = x + block.linear2(nn.functional.gelu(block.linear1(block.norm3(x))))
    torch.testing.assert_close(model(context), x, rtol=0, atol=1e-5)


def test_shapes_and_gradients():
    model = small().eval()
    assert [tuple(part.shape) for part in model.features(*inputs())] == [(2, 4, 512), (2, 4, 512)]
    scores = model(*inputs())
    assert scores.shape == (2, 3)
    scores.square().sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_export():
    model = small().eval()
    clip = inputs()
    with torch.no_grad():
        exported = torch.export.export(model, clip).module()
        torch.testing.assert_close(exported(*clip), model(*clip), rtol=1e-4, atol=1e-5)
