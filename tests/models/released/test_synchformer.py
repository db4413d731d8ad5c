"""Synchformer: its front end and segments, its parts against PyTorch's own, released names, and DeSync."""

from types import SimpleNamespace

import pytest
import torch
import torchaudio
from released_names import released_shapes
from torch import nn

from avlearn.errors import ModelError
from avlearn.models.released.synchformer import (
    OFFSETS,
    Aggregator,
    SegmentCLIP,
    Synchformer,
    SyncTransformer,
    _names,
    audio_segments,
    desync,
    load_segment_clip,
    load_synchformer,
    segment_mel,
    video_segments,
)
from avlearn.models.video.motionformer import DividedAttention, Motionformer

SMALL = {"dim": 48, "depth": 1, "heads": 4, "size": 32}
FUSION = {"fusion_depth": 1, "fusion_heads": 4}
Shapes = dict[str, tuple[int, ...]]


def affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def aggregator(name: str) -> Shapes:
    shapes = {f"{name}.cls_token": (1, 1, 768)}
    shapes |= {f"{name}.self_attn.in_proj_weight": (2304, 768), f"{name}.self_attn.in_proj_bias": (2304,)}
    shapes |= affine(f"{name}.self_attn.out_proj", 768, 768)
    shapes |= affine(f"{name}.linear1", 3072, 768) | affine(f"{name}.linear2", 768, 3072)
    return shapes | affine(f"{name}.norm1", 768) | affine(f"{name}.norm2", 768)


def extractors(video: str, audio: str) -> Shapes:
    shapes: Shapes = {f"{video}.{name}": (1, n, 768) for name, n in (("cls_token", 1), ("pos_embed", 197))}
    shapes |= {f"{video}.temp_embed": (1, 8, 768)} | affine(f"{video}.norm", 768)
    shapes |= affine(f"{video}.patch_embed.proj", 768, 3, 16, 16)
    shapes |= affine(f"{video}.patch_embed_3d.proj", 768, 3, 2, 16, 16)
    for i in range(12):
        block = f"{video}.blocks.{i}."
        for name in ("norm1", "norm2", "norm3"):
            shapes |= affine(block + name, 768)
        for name in ("attn", "timeattn"):
            shapes |= affine(f"{block}{name}.qkv", 2304, 768) | affine(f"{block}{name}.proj", 768, 768)
        shapes |= affine(f"{block}mlp.fc1", 3072, 768) | affine(f"{block}mlp.fc2", 768, 3072)
    ast = f"{audio}.ast."
    embeddings = (("cls_token", 1), ("distillation_token", 1), ("position_embeddings", 74))
    shapes |= {f"{ast}embeddings.{name}": (1, n, 768) for name, n in embeddings}
    shapes |= affine(f"{ast}embeddings.patch_embeddings.projection", 768, 1, 16, 16) | affine(f"{ast}layernorm", 768)
    for i in range(12):
        layer = f"{ast}encoder.layer.{i}."
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            shapes |= affine(layer + name, 768, 768)
        shapes |= affine(f"{layer}attention.output.dense", 768, 768)
        shapes |= affine(f"{layer}intermediate.dense", 3072, 768) | affine(f"{layer}output.dense", 768, 3072)
        shapes |= affine(f"{layer}layernorm_before", 768) | affine(f"{layer}layernorm_after", 768)
    return shapes | aggregator(f"{video}.spatial_attn_agg") | aggregator(f"{audio}.freq_attn_agg")


def second_stage(head: str = "off_head", classes: int = 21, segments: int = 14) -> Shapes:
    shapes = extractors("vfeat_extractor", "afeat_extractor") | affine("vproj", 768, 768) | affine("aproj", 768, 768)
    shapes |= {"transformer.OFF_tok": (1, 1, 768), "transformer.MOD_tok": (1, 1, 768)}
    shapes |= {"transformer.pos_emb_cfg.pos_emb": (1, 2 + 14 * segments, 768)}
    for name in ("vis_in_lnorm", "aud_in_lnorm", "ln_f"):
        shapes |= affine(f"transformer.{name}", 768)
    for i in range(3):
        block = f"transformer.blocks.{i}."
        shapes |= affine(f"{block}ln1", 768) | affine(f"{block}ln2", 768)
        for name in ("key", "query", "value", "proj"):
            shapes |= affine(f"{block}attn.{name}", 768, 768)
        shapes |= affine(f"{block}mlp.0", 3072, 768) | affine(f"{block}mlp.2", 768, 3072)
    return shapes | affine(f"transformer.{head}", classes, 768)


def on_meta(shapes: Shapes) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def shaken(model: nn.Module) -> nn.Module:
    """With random values in every parameter, in eval mode."""
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.2)
        if "norm" in name and name.endswith("weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def inputs(segments: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(batch, segments, 3, 16, 32, 32), torch.randn(batch, segments, 1, 128, 66)


def test_the_names_below_are_the_released_ones():
    assert released_shapes("synchformer") == second_stage()


def test_every_released_parameter_has_a_place():
    tensors = on_meta(second_stage())
    with torch.device("meta"):
        model = load_synchformer(tensors)
    unused = sum(tensors[f"vfeat_extractor.patch_embed.proj.{part}"].numel() for part in ("weight", "bias"))
    assert sum(tensor.numel() for tensor in tensors.values()) == 237_460_245
    assert sum(parameter.numel() for parameter in model.parameters()) == 237_460_245 - unused
    assert not model.training and model.segments == 14


def test_where_released_parameters_go():
    numbers = {name: torch.tensor([float(number)]) for number, name in enumerate(second_stage())}
    found = {name: tensor.tolist() for name, tensor in _names(numbers).items()}
    places = {
        "video.blocks.3.timeattn.qkv.weight": ["vfeat_extractor.blocks.3.timeattn.qkv.weight"],
        "video.pos_embed": ["vfeat_extractor.pos_embed"],
        "space.attn.qkv.bias": ["vfeat_extractor.spatial_attn_agg.self_attn.in_proj_bias"],
        "space.mlp.fc2.weight": ["vfeat_extractor.spatial_attn_agg.linear2.weight"],
        "audio.blocks.5.norm2.bias": ["afeat_extractor.ast.encoder.layer.5.layernorm_after.bias"],
        "audio.blocks.5.attn.proj.bias": ["afeat_extractor.ast.encoder.layer.5.attention.output.dense.bias"],
        "audio.blocks.5.attn.qkv.weight": [
            f"afeat_extractor.ast.encoder.layer.5.attention.attention.{part}.weight"
            for part in ("query", "key", "value")
        ],
        "audio.dist_token": ["afeat_extractor.ast.embeddings.distillation_token"],
        "frequency.attn.proj.weight": ["afeat_extractor.freq_attn_agg.self_attn.out_proj.weight"],
        "frequency.cls_token": ["afeat_extractor.freq_attn_agg.cls_token"],
        "video_proj.bias": ["vproj.bias"],
        "audio_proj.bias": ["aproj.bias"],
        "fusion.off_token": ["transformer.OFF_tok"],
        "fusion.mod_token": ["transformer.MOD_tok"],
        "fusion.video_norm.bias": ["transformer.vis_in_lnorm.bias"],
        "fusion.audio_norm.bias": ["transformer.aud_in_lnorm.bias"],
        "fusion.blocks.2.norm1.bias": ["transformer.blocks.2.ln1.bias"],
        "fusion.blocks.2.mlp.fc2.bias": ["transformer.blocks.2.mlp.2.bias"],
        "fusion.blocks.2.attn.qkv.bias": [
            f"transformer.blocks.2.attn.{part}.bias" for part in ("query", "key", "value")
        ],
        "head.bias": ["transformer.off_head.bias"],
    }
    assert {name: found[name] for name in places} == {
        name: [numbers[part].item() for part in parts] for name, parts in places.items()
    }
    dropped = {"vfeat_extractor.patch_embed.proj.weight", "vfeat_extractor.patch_embed.proj.bias"}
    assert sorted(value for values in found.values() for value in values) == sorted(
        numbers[name].item() for name in numbers.keys() - dropped
    )


def test_released_synchronizability_has_two_classes_and_fewer_segments():
    with torch.device("meta"):
        model = load_synchformer(on_meta(second_stage("sync_head", 2, 13)))
    assert (model.segments, model.head.out_features) == (13, 2)


@pytest.mark.parametrize("projected", [False, True])
def test_released_first_stage(projected):
    shapes = extractors("v_encoder", "a_encoder") | {"logit_scale": ()}
    if projected:
        shapes |= affine("vproj", 768, 768) | affine("aproj", 768, 768)
    with torch.device("meta"):
        model = load_segment_clip(on_meta(shapes))
    assert isinstance(model.video_proj, nn.Linear) == projected


@pytest.mark.parametrize(
    ("missing", "group"),
    [
        ("vfeat_extractor.temp_embed", "video$"),
        ("afeat_extractor.ast.encoder.layer.4.attention.attention.key.bias", r"audio\.blocks\.4\.attn\.qkv"),
        ("transformer.off_head.bias", "head$"),
    ],
)
def test_a_group_that_is_missing_is_named(missing, group):
    tensors = {name: tensor for name, tensor in on_meta(second_stage()).items() if name != missing}
    with torch.device("meta"), pytest.raises(ModelError, match=group):
        load_synchformer(tensors)


def test_a_tensor_without_a_place_is_named():
    with torch.device("meta"), pytest.raises(ModelError, match=r"transformer\.more"):
        load_synchformer(on_meta(second_stage() | {"transformer.more": (3,)}))


def test_mel_is_torchaudios_and_its_end_is_zero_before_the_standardisation():
    audio = 0.1 * torch.randn(2, 3, 10240)
    mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=1024, win_length=400, hop_length=160, n_mels=128)(audio)
    expected = ((mel + 1e-6).log() + 4.2677393) / (2 * 4.5689974)
    found = segment_mel(audio)
    assert found.shape == (2, 3, 1, 128, 66)
    torch.testing.assert_close(found[..., :65].squeeze(2), expected)
    torch.testing.assert_close(found[..., 65:], torch.full((2, 3, 1, 128, 1), 4.2677393 / (2 * 4.5689974)))


def test_mel_tells_what_is_missing_from_silence():
    silence = segment_mel(torch.zeros(1, 8000))  # 51 frames
    assert silence[..., :51].max() < -1 < 0 < silence[..., 51:].min()
    with pytest.raises(ValueError, match="66"):
        segment_mel(torch.zeros(1, 66 * 160))


def test_mel_frames_are_centred_on_multiples_of_the_hop():
    click = torch.zeros(1, 10240)
    click[0, 20 * 160] = 1
    assert segment_mel(click).mean((0, 1, 2)).argmax() == 20


def test_segments_of_eight_seconds():
    video, audio = torch.arange(200.0).view(1, 1, 200, 1, 1).expand(1, 3, -1, 2, 2), torch.arange(128000.0)[None]
    frames, samples = video_segments(video), audio_segments(audio)
    assert frames.shape == (1, 24, 3, 16, 2, 2) and samples.shape == (1, 24, 10240)
    assert torch.equal(frames[0, 5, 1, :, 0, 1], torch.arange(40.0, 56.0))
    assert torch.equal(samples[0, 5], torch.arange(5 * 5120.0, 7 * 5120.0))
    assert frames[0, 5, 0, 0, 0, 0] / 25 == samples[0, 5, 0] / 16000


def test_classes_are_fifths_of_a_second_from_two_before_to_two_after():
    assert torch.allclose(torch.tensor(OFFSETS), torch.linspace(-2, 2, 21), atol=1e-6) and OFFSETS[10] == 0


@pytest.mark.parametrize("over_time", [False, True])
def test_divided_attention_by_hand(over_time):
    """Patch by patch, one head."""
    frames, places, dim = 3, 4, 8
    attention = shaken(DividedAttention(dim, 1, over_time))
    x = torch.rand(1, 1 + frames * places, dim)
    with torch.no_grad():
        query, key, value = (part[0] for part in attention.project(x))
        rows = [(query[0] @ key.T / dim**0.5).softmax(-1) @ value]
        for i in range(frames * places):
            own = torch.arange(frames * places)
            own = own[own % places == i % places] if over_time else own[own // places == i // places]
            seen = torch.cat([torch.tensor([0]), 1 + own])
            rows.append((query[1 + i] @ key[seen].T / dim**0.5).softmax(-1) @ value[seen])
        torch.testing.assert_close(attention(x, frames)[0], attention.proj(torch.stack(rows)), rtol=0, atol=1e-5)


def test_an_unknown_attention_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="'divided'"):
        Motionformer(attention="joint")


def test_an_aggregator_is_a_transformer_layer_over_the_class_token_and_the_others():
    ours = shaken(Aggregator(48, 4))
    theirs = nn.TransformerEncoderLayer(48, 4, 192, 0.0, nn.GELU(), 1e-6, batch_first=True, norm_first=True).eval()
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj": "self_attn.out_proj", "mlp.fc": "linear"}
    weights = {}
    for name, tensor in ours.state_dict().items():
        for part, replacement in names.items():
            name = name.replace(part, replacement)
        weights[name] = tensor
    theirs.load_state_dict({name: tensor for name, tensor in weights.items() if name != "cls_token"})
    x = torch.randn(2, 3, 5, 48)
    with torch.no_grad():
        tokens = torch.cat([ours.cls_token.expand(6, -1, -1), x.flatten(0, 1)], 1)
        expected = theirs(tokens)[:, 0].unflatten(0, (2, 3))
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)


def test_both_sides_are_one_sequence_between_two_tokens():
    ours = shaken(SyncTransformer(48, 1, 4, length=9))
    layer = nn.TransformerEncoderLayer(48, 4, 192, 0.0, nn.GELU(), batch_first=True, norm_first=True).eval()
    block = ours.blocks[0]
    layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias = block.attn.qkv.weight, block.attn.qkv.bias
    layer.self_attn.out_proj, layer.norm1, layer.norm2 = block.attn.proj, block.norm1, block.norm2
    layer.linear1, layer.linear2 = block.mlp.fc1, block.mlp.fc2
    video, audio = torch.randn(2, 4, 48), torch.randn(2, 3, 48)
    off, mod = (token.expand(2, -1, -1) for token in (ours.off_token, ours.mod_token))
    with torch.no_grad():
        sequence = torch.cat([off, ours.video_norm(video), mod, ours.audio_norm(audio)], 1) + ours.pos_embed
        expected = ours.norm(layer(sequence))[:, 0]
        torch.testing.assert_close(ours(video, audio), expected, rtol=0, atol=1e-5)


def test_shapes():
    model = Synchformer(segments=2, **SMALL, **FUSION).eval()
    with torch.no_grad():
        seen, heard = model.features(*inputs(2))
        assert seen.shape == (2, 2, 8, 48) and heard.shape == (2, 2, 6, 48)
        assert model(*inputs(2)).shape == (2, 21)
    with pytest.raises(ValueError, match="2 segments, not 3"):
        model.compare(torch.zeros(1, 3, 8, 48), torch.zeros(1, 3, 6, 48))


def test_a_segments_features_are_its_own():
    model = shaken(Synchformer(segments=3, **SMALL, **FUSION))
    video, mel = inputs(3, 1)
    other_video, other_mel = video.clone(), mel.clone()
    other_video[:, 1], other_mel[:, 1] = 0, 0
    with torch.no_grad():
        before, after = model.features(video, mel), model.features(other_video, other_mel)
    for part, other in zip(before, after, strict=True):
        assert ((part - other).abs().amax((0, 2, 3)) > 1e-4).tolist() == [False, True, False]


def test_the_first_stage_gives_unit_vectors_of_the_mean_over_time():
    model = shaken(SegmentCLIP(projected=False, **SMALL))
    video, mel = inputs(2)
    with torch.no_grad():
        for vectors, features in zip(model(video, mel), model.features(video, mel), strict=True):
            mean = features.mean(2)
            torch.testing.assert_close(vectors, mean / mean.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize(
    "model", [lambda: Synchformer(segments=2, **SMALL, **FUSION), lambda: SegmentCLIP(**SMALL)], ids=["sync", "clip"]
)
def test_every_parameter_has_a_gradient(model):
    model = shaken(model())
    parts = model(*inputs(2))
    if isinstance(parts, tuple):
        parts = [(parts[0].flatten(0, 1) @ parts[1].flatten(0, 1).T) / model.temperature]
    sum(part.square().sum() for part in parts).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_export():
    model = shaken(Synchformer(segments=2, **SMALL, **FUSION))
    clip = inputs(2)
    with torch.no_grad():
        exported = torch.export.export(model, clip).module()
        torch.testing.assert_close(exported(*clip), model(*clip), rtol=1e-4, atol=1e-5)


def numbered(answers: dict[int, int]) -> SimpleNamespace:
    """A model whose features are numbers of segments, and whose class depends on which one is the first."""

    def compare(seen: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        assert seen.shape == heard.shape == (1, 14) and torch.equal(seen, heard)
        return torch.eye(21)[[answers[int(seen[0, 0])]]]

    def features(frames: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert mel.shape[2:] == (1, 128, 66)
        return torch.arange(frames.shape[1])[None], torch.arange(mel.shape[1])[None]

    return SimpleNamespace(segments=14, features=features, compare=compare)


def test_desync_averages_the_offsets_of_both_ends():
    model = numbered({0: 0, 10: 12})  # of 24 segments; -2 s and 0.4 s
    assert desync(model, torch.zeros(1, 3, 200, 2, 2), torch.zeros(1, 128000)).tolist() == pytest.approx([1.2])


def test_desync_of_a_network():
    model = shaken(Synchformer(**SMALL, **FUSION))
    nn.init.zeros_(model.head.weight)
    model.head.bias.data[3] = 100
    found = desync(model, torch.rand(2, 3, 128, 32, 32), 0.1 * torch.randn(2, 81920))
    assert found.tolist() == pytest.approx([1.4, 1.4])


@pytest.mark.parametrize(("frames", "samples"), [(112, 71680), (200, 120000)])
def test_desync_refuses_clips_that_are_short_or_differ(frames, samples):
    with pytest.raises(ValueError, match="14 segments"):
        desync(numbered({}), torch.zeros(1, 3, frames, 2, 2), torch.zeros(1, samples))
