"""Released weights of transformers find their places: for each layout its names, in patterns, with their shapes."""

import re
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.weights.encoder_folder import import_weights, load_encoder
from avlearn.models.weights.importers import find_layout


def linear(name: str, inputs: int, outputs: int) -> str:
    return f"{name}.weight {outputs} {inputs}\n{name}.bias {outputs}\n"


def norm(name: str, dim: int = 768) -> str:
    return f"{name}.weight {dim}\n{name}.bias {dim}\n"


def timm_block(block: str, qkv: str) -> str:
    return (
        norm(f"{block}.norm1")
        + qkv
        + linear(f"{block}.attn.proj", 768, 768)
        + norm(f"{block}.norm2")
        + linear(f"{block}.mlp.fc1", 768, 3072)
        + linear(f"{block}.mlp.fc2", 3072, 768)
    )


def no_key_bias(block: str) -> str:
    return f"{block}.attn.q_bias 768\n{block}.attn.v_bias 768\n{block}.attn.qkv.weight 2304 768\n"


def hf4_block(block: str, bias: str) -> str:
    """As transformers 4 names it; ``bias`` lists what has one."""
    attention = f"{block}.attention.attention"
    biases = {"qkv": "".join(f"{attention}.{name}.bias 768\n" for name in ("query", "key", "value"))}
    biases["qv"] = f"{attention}.q_bias 768\n{attention}.v_bias 768\n"
    return (
        biases[bias]
        + "".join(f"{attention}.{name}.weight 768 768\n" for name in ("query", "key", "value"))
        + linear(f"{block}.attention.output.dense", 768, 768)
        + linear(f"{block}.intermediate.dense", 768, 3072)
        + linear(f"{block}.output.dense", 3072, 768)
        + norm(f"{block}.layernorm_before")
        + norm(f"{block}.layernorm_after")
    )


def hf5_block(block: str) -> str:
    return (
        "".join(linear(f"{block}.attention.{name}_proj", 768, 768) for name in "qkvo")
        + norm(f"{block}.layernorm_before")
        + norm(f"{block}.layernorm_after")
        + linear(f"{block}.mlp.fc1", 768, 3072)
        + linear(f"{block}.mlp.fc2", 3072, 768)
    )


def hf_timesformer(frames: int, places: int) -> str:
    block = "timesformer.encoder.layer.{12}"
    return (
        "timesformer.embeddings.cls_token 1 1 768\n"
        f"timesformer.embeddings.position_embeddings 1 {places} 768\n"
        f"timesformer.embeddings.time_embeddings 1 {frames} 768\n"
        "timesformer.embeddings.patch_embeddings.projection.weight 768 3 16 16\n"
        "timesformer.embeddings.patch_embeddings.projection.bias 768\n"
        + linear(f"{block}.attention.attention.qkv", 768, 2304)
        + linear(f"{block}.attention.output.dense", 768, 768)
        + linear(f"{block}.intermediate.dense", 768, 3072)
        + linear(f"{block}.output.dense", 3072, 768)
        + norm(f"{block}.layernorm_before")
        + norm(f"{block}.layernorm_after")
        + norm(f"{block}.temporal_layernorm")
        + linear(f"{block}.temporal_attention.attention.qkv", 768, 2304)
        + linear(f"{block}.temporal_attention.output.dense", 768, 768)
        + linear(f"{block}.temporal_dense", 768, 768)
        + norm("timesformer.layernorm")
        + linear("classifier", 768, 400)
    )


def hf_vivit(block: str) -> str:
    return (
        "vivit.embeddings.cls_token 1 1 768\n"
        "vivit.embeddings.position_embeddings 1 3137 768\n"
        "vivit.embeddings.patch_embeddings.projection.weight 768 3 2 16 16\n"
        "vivit.embeddings.patch_embeddings.projection.bias 768\n"
        + block
        + norm("vivit.layernorm")
        + linear("classifier", 768, 400)
    )


def hf_ast(block: str) -> str:
    name = "audio_spectrogram_transformer"
    return (
        f"{name}.embeddings.cls_token 1 1 768\n"
        f"{name}.embeddings.distillation_token 1 1 768\n"
        f"{name}.embeddings.position_embeddings 1 1214 768\n"
        f"{name}.embeddings.patch_embeddings.projection.weight 768 1 16 16\n"
        f"{name}.embeddings.patch_embeddings.projection.bias 768\n"
        + block
        + norm(f"{name}.layernorm")
        + norm("classifier.layernorm")
        + linear("classifier.dense", 768, 527)
    )


HF_VIDEOMAE = (
    "videomae.embeddings.patch_embeddings.projection.weight 768 3 2 16 16\n"
    "videomae.embeddings.patch_embeddings.projection.bias 768\n"
)
HF_VIDEOMAE_5 = (
    hf4_block("videomae.encoder.layer.{12}", "qv").replace(".q_bias", ".query.bias").replace(".v_bias", ".value.bias")
)
TUBELETS = "patch_embed.proj.weight 768 3 2 16 16\npatch_embed.proj.bias 768\n"


def motionformer(attention: str, classes: int) -> str:
    return (
        "cls_token 1 1 768\npos_embed 1 197 768\ntemp_embed 1 8 768\n"
        "patch_embed.proj.weight 768 3 16 16\npatch_embed.proj.bias 768\n"
        + "".join(f"patch_embed_3d.{line.removeprefix('patch_embed.')}\n" for line in TUBELETS.splitlines())
        + timm_block("blocks.{12}", attention)
        + norm("norm")
        + linear("pre_logits.fc", 768, 768)
        + linear("head", 768, classes)
    )


def longformer() -> str:
    block = "temporal_encoder.encoder.layer.{3}"
    names = ("query", "key", "value", "query_global", "key_global", "value_global")
    return (
        "cls_token 1 1 768\n"
        "temporal_encoder.embeddings.position_ids 1 288\n"
        "temporal_encoder.embeddings.position_embeddings.weight 288 768\n"
        "temporal_encoder.embeddings.token_type_embeddings.weight 2 768\n"
        + norm("temporal_encoder.embeddings.LayerNorm")
        + "".join(linear(f"{block}.attention.self.{name}", 768, 768) for name in names)
        + linear(f"{block}.attention.output.dense", 768, 768)
        + norm(f"{block}.attention.output.LayerNorm")
        + linear(f"{block}.intermediate.dense", 768, 3072)
        + linear(f"{block}.output.dense", 3072, 768)
        + norm(f"{block}.output.LayerNorm")
        + norm("mlp_head.0")
        + linear("mlp_head.1", 768, 768)
        + linear("mlp_head.4", 768, 400)
    )


def swin(width: int, depths: tuple[int, ...], heads: tuple[int, ...], last_norm: str) -> str:
    found = f"backbone.patch_embed.proj.weight {width} 3 2 4 4\nbackbone.patch_embed.proj.bias {width}\n"
    found += norm("backbone.patch_embed.norm", width)
    for layer, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        dim = width << layer
        block = f"backbone.layers.{layer}.blocks.{{{depth}}}"
        found += norm(f"{block}.norm1", dim)
        found += f"{block}.attn.relative_position_bias_table 2535 {count}\n"
        found += f"{block}.attn.relative_position_index 392 392\n"
        found += linear(f"{block}.attn.qkv", dim, 3 * dim) + linear(f"{block}.attn.proj", dim, dim)
        found += norm(f"{block}.norm2", dim)
        found += linear(f"{block}.mlp.fc1", dim, 4 * dim) + linear(f"{block}.mlp.fc2", 4 * dim, dim)
        if layer < 3:
            found += f"backbone.layers.{layer}.downsample.reduction.weight {2 * dim} {4 * dim}\n"
            found += norm(f"backbone.layers.{layer}.downsample.norm", 4 * dim)
    return found + norm(f"backbone.{last_norm}", 8 * width) + linear("cls_head.fc_cls", 8 * width, 400)


@dataclass(frozen=True)
class Case:
    """A file's names and shapes, the encoder that it is for, its layout, and what of it the encoder does not have."""

    names: str
    encoder: str
    layout: str
    classes: int | None = 400
    left: str = "^$"
    options: dict = field(default_factory=dict)


CASES = {
    "videomae of transformers 4": Case(
        HF_VIDEOMAE + hf4_block("videomae.encoder.layer.{12}", "qv") + norm("fc_norm") + linear("classifier", 768, 400),
        "videomae_b",
        "hugging face videomae",
    ),
    "videomae of transformers 5": Case(
        HF_VIDEOMAE + HF_VIDEOMAE_5 + norm("fc_norm") + linear("classifier", 768, 400),
        "videomae_b",
        "hugging face videomae",
    ),
    "pre-trained videomae of transformers": Case(
        "mask_token 1 1 384\n"
        + HF_VIDEOMAE
        + hf4_block("videomae.encoder.layer.{12}", "qv")
        + norm("videomae.layernorm")
        + "encoder_to_decoder.weight 384 768\n"
        + linear("decoder.decoder_layers.{4}.output.dense", 1536, 384)
        + norm("decoder.norm", 384)
        + linear("decoder.head", 384, 1536),
        "videomae_b",
        "hugging face videomae pre-training",
        None,
        "^(mask_token|encoder_to_decoder|decoder)",
        {"pooled_norm": False},
    ),
    "videomae": Case(
        TUBELETS + timm_block("blocks.{12}", no_key_bias("blocks.{12}")) + norm("fc_norm") + linear("head", 768, 174),
        "videomae_b",
        "videomae",
        174,
    ),
    "pre-trained videomae": Case(
        "mask_token 1 1 384\n"
        + "".join(f"encoder.{line}\n" for line in TUBELETS.splitlines())
        + timm_block("encoder.blocks.{12}", no_key_bias("encoder.blocks.{12}"))
        + norm("encoder.norm")
        + linear("decoder.blocks.{4}.mlp.fc2", 1536, 384)
        + norm("decoder.norm", 384)
        + linear("decoder.head", 384, 1536)
        + "encoder_to_decoder.weight 384 768\n",
        "videomae_b",
        "videomae pre-training",
        None,
        "^(mask_token|encoder_to_decoder|decoder)",
        {"pooled_norm": False},
    ),
    "videomae of mmaction2": Case(
        "backbone.pos_embed 1 1568 768\n"
        "backbone.patch_embed.projection.weight 768 3 2 16 16\nbackbone.patch_embed.projection.bias 768\n"
        + timm_block("backbone.blocks.{12}", no_key_bias("backbone.blocks.{12}"))
        .replace("mlp.fc1.", "mlp.layers.0.0.")
        .replace("mlp.fc2.", "mlp.layers.1.")
        + norm("backbone.fc_norm")
        + linear("cls_head.fc_cls", 768, 400),
        "videomae_b",
        "videomae",
        left="^pos_embed$",  # sines and cosines
    ),
    "vivit of transformers 4": Case(
        hf_vivit(hf4_block("vivit.encoder.layer.{12}", "qkv")), "vivit_b", "hugging face vivit"
    ),
    "vivit of transformers 5": Case(hf_vivit(hf5_block("vivit.layers.{12}")), "vivit_b", "hugging face vivit"),
    "timesformer of transformers": Case(hf_timesformer(8, 197), "timesformer_b", "hugging face timesformer"),
    "timesformer-hr of transformers": Case(hf_timesformer(16, 785), "timesformer_hr", "hugging face timesformer"),
    "timesformer-l of transformers": Case(hf_timesformer(96, 197), "timesformer_l", "hugging face timesformer"),
    "ast of transformers 4": Case(
        hf_ast(hf4_block("audio_spectrogram_transformer.encoder.layer.{12}", "qkv")),
        "ast_b",
        "hugging face ast",
        527,
        options={"eps": 1e-12},
    ),
    "ast of transformers 5": Case(
        hf_ast(hf5_block("audio_spectrogram_transformer.layers.{12}")),
        "ast_b",
        "hugging face ast",
        527,
        options={"eps": 1e-12},
    ),
    "ast": Case(
        "v.cls_token 1 1 768\nv.dist_token 1 1 768\nv.pos_embed 1 1214 768\n"
        "v.patch_embed.proj.weight 768 1 16 16\nv.patch_embed.proj.bias 768\n"
        + timm_block("v.blocks.{12}", linear("v.blocks.{12}.attn.qkv", 768, 2304))
        + norm("v.norm")
        + linear("v.head", 768, 1000)
        + linear("v.head_dist", 768, 1000)
        + norm("mlp_head.0")
        + linear("mlp_head.1", 768, 527),
        "ast_b",
        "ast",
        527,
        r"^v\.head(_dist)?\.",  # of the image network that it began from
    ),
    "motionformer": Case(
        motionformer(
            linear("blocks.{12}.attn.qkv", 768, 2304)
            + linear("blocks.{12}.attn.proj_q", 768, 768)
            + linear("blocks.{12}.attn.proj_kv", 768, 1536),
            400,
        ),
        "motionformer_b",
        "motionformer",
        options={"project_values": False},
    ),
    "motionformer divided": Case(
        motionformer(
            linear("blocks.{12}.attn.qkv", 768, 2304)
            + linear("blocks.{12}.timeattn.qkv", 768, 2304)
            + linear("blocks.{12}.timeattn.proj", 768, 768)
            + norm("blocks.{12}.norm3"),
            174,
        ),
        "motionformer_b",
        "motionformer divided",
        174,
        options={"attention": "divided"},
    ),
    "v-jepa 2.1": Case(
        "".join(f"backbone.{line}\n" for line in TUBELETS.splitlines())
        + "backbone.patch_embed_img.proj.weight 768 3 1 16 16\nbackbone.patch_embed_img.proj.bias 768\n"
        + "backbone.img_mod_embed 1 1 768\nbackbone.video_mod_embed 1 1 768\n"
        + timm_block("backbone.blocks.{12}", linear("backbone.blocks.{12}.attn.qkv", 768, 2304))
        + norm("backbone.norms_block.{4}"),
        "vjepa2_1_b",
        "v-jepa 2.1",
        None,
        r"^(patch_embed_img|img_mod_embed|norms_block\.[012])",  # of single images, and for others to learn from
    ),
    "vtn": Case(
        "backbone.cls_token 1 1 768\nbackbone.pos_embed 1 197 768\n"
        "backbone.patch_embed.proj.weight 768 3 16 16\nbackbone.patch_embed.proj.bias 768\n"
        + timm_block("backbone.blocks.{12}", linear("backbone.blocks.{12}.attn.qkv", 768, 2304))
        + norm("backbone.norm")
        + longformer(),
        "vtn_b",
        "vtn",
        left="position_ids",
    ),
    "swin-t": Case(swin(96, (2, 2, 6, 2), (3, 6, 12, 24), "norm"), "swin3d_t", "video swin"),
    "swin-s of mmaction2": Case(swin(96, (2, 2, 18, 2), (3, 6, 12, 24), "norm3"), "swin3d_s", "video swin"),
    "swin-b": Case(swin(128, (2, 2, 18, 2), (4, 8, 16, 32), "norm"), "swin3d_b", "video swin"),
    "vggish": Case(
        "".join(
            f"features.{place}.weight {outputs} {inputs} 3 3\nfeatures.{place}.bias {outputs}\n"
            for place, inputs, outputs in (
                (0, 1, 64),
                (3, 64, 128),
                (6, 128, 256),
                (8, 256, 256),
                (11, 256, 512),
                (13, 512, 512),
            )
        )
        + linear("embeddings.0", 12288, 4096)
        + linear("embeddings.2", 4096, 4096)
        + linear("embeddings.4", 4096, 128),
        "vggish",
        "torchvggish",
        None,
    ),
}


def released(names: str) -> dict[str, Tensor]:
    """Tensors of a file, each with a value of its own: a repeated number's copies, too."""
    tensors: dict[str, Tensor] = {}
    for line in names.splitlines():
        name, *sides = line.split()
        times = re.search(r"\{(\d+)\}", name)
        for number in range(int(times[1]) if times else 1):
            value = torch.tensor(float(len(tensors)))
            tensors[name.replace(times[0], str(number)) if times else name] = value.expand([int(s) for s in sides])
    return tensors


def values(tensor: Tensor, pieces: int = 1) -> tuple[float, ...]:
    """The value of each piece of the rows."""
    parts = tensor.chunk(pieces)
    assert all(bool((part == part.flatten()[0]).all()) for part in parts)
    return tuple(float(part.flatten()[0]) for part in parts)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_finds_its_place(name):
    case = CASES[name]
    tensors = released(case.names)
    assert find_layout(tensors).name == case.layout
    model = create_model(case.encoder, weights=tensors, num_classes=case.classes)
    assert model.config["options"] == case.options
    assert all(re.search(case.left, left) for left in model.loaded.left), model.loaded.left
    # Each parameter has the value of one tensor (query, key and value each of one, where they were apart), no two the
    # same, and only those that are left are missing.
    got = [values(p, 3 if ".qkv." in key else 1) for key, p in model.named_parameters()]
    assert all(len(set(parts)) in (1, 3) for parts in got)
    single = [value for parts in got for value in dict.fromkeys(parts)]
    assert len(set(single)) == len(single)
    assert len(tensors) - len(single) == len(model.loaded.left) + unused(tensors)


@pytest.mark.parametrize("name", ["ast", "ast of transformers 5"])
def test_spectrograms_of_ast_are_standardised_as_in_its_training(name):
    """Its code takes the mean of AudioSet's log-mel values off, and divides by twice their std."""
    model = create_model("ast_b", weights=released(CASES[name].names), num_classes=527)
    assert model.mean.tolist() == pytest.approx([-4.2677393]) and model.std.tolist() == pytest.approx([9.1379948])


def unused(tensors: dict[str, Tensor]) -> int:
    """Tensors that are no parameters of ours, and not left over either."""
    tables = sum(name.endswith("relative_position_index") for name in tensors)
    images = sum(name.startswith("patch_embed.") for name in tensors) if "temp_embed" in tensors else 0
    return tables + images


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        (
            "videomae of transformers 4",
            {
                "videomae.encoder.layer.7.attention.attention.q_bias": "blocks.7.attn.q_bias",
                "videomae.encoder.layer.7.attention.attention.v_bias": "blocks.7.attn.v_bias",
                "videomae.encoder.layer.7.attention.output.dense.bias": "blocks.7.attn.proj.bias",
                "videomae.encoder.layer.7.output.dense.bias": "blocks.7.mlp.fc2.bias",
                "videomae.encoder.layer.7.layernorm_before.weight": "blocks.7.norm1.weight",
            },
        ),
        (
            "ast of transformers 4",
            {
                "audio_spectrogram_transformer.embeddings.distillation_token": "dist_token",
                "audio_spectrogram_transformer.layernorm.weight": "norm.weight",
                "classifier.layernorm.weight": "head_norm.weight",
                "classifier.dense.bias": "classifier.bias",
            },
        ),
        (
            "vtn",
            {
                "cls_token": "temporal.cls_token",
                "backbone.cls_token": "cls_token",
                "temporal_encoder.embeddings.LayerNorm.bias": "temporal.embedding_norm.bias",
                "temporal_encoder.encoder.layer.2.attention.output.LayerNorm.bias": "temporal.blocks.2.norm1.bias",
                "temporal_encoder.encoder.layer.2.intermediate.dense.bias": "temporal.blocks.2.mlp.fc1.bias",
                "temporal_encoder.encoder.layer.2.output.dense.bias": "temporal.blocks.2.mlp.fc2.bias",
                "temporal_encoder.encoder.layer.2.output.LayerNorm.bias": "temporal.blocks.2.norm2.bias",
                "mlp_head.1.bias": "mlp_head.1.bias",
            },
        ),
        (
            "swin-t",
            {
                "backbone.layers.2.blocks.5.mlp.fc1.weight": "features.4.5.mlp.0.weight",
                "backbone.layers.2.downsample.norm.bias": "features.5.norm.bias",
                "backbone.norm.weight": "norm.weight",
            },
        ),
        ("motionformer", {"patch_embed_3d.proj.bias": "patch_embed_3d.proj.bias", "head.bias": "classifier.bias"}),
        (
            "motionformer divided",
            {f"blocks.5.{name}.bias": f"blocks.5.{name}.bias" for name in ("timeattn.proj", "norm3")},
        ),
    ],
)
def test_places_that_could_be_mistaken(name, pairs):
    case = CASES[name]
    tensors = released(case.names)
    state = create_model(case.encoder, weights=tensors, num_classes=case.classes).state_dict()
    for theirs, ours in pairs.items():
        assert values(state[ours]) == values(tensors[theirs]), theirs


def test_query_key_and_value_in_their_order():
    case = CASES["vivit of transformers 4"]
    tensors = released(case.names)
    state = create_model(case.encoder, weights=tensors).state_dict()
    at = "vivit.encoder.layer.3.attention.attention."
    for kind in ("weight", "bias"):
        expected = [values(tensors[f"{at}{part}.{kind}"])[0] for part in ("query", "key", "value")]
        assert list(values(state[f"blocks.3.attn.qkv.{kind}"], 3)) == expected


def test_motionformer_takes_the_keys_of_what_it_projects():
    tensors = released(CASES["motionformer"].names)
    rows = torch.arange(1536.0)
    tensors["blocks.0.attn.proj_kv.bias"] = rows
    state = create_model("motionformer_b", weights=tensors).state_dict()
    assert torch.equal(state["blocks.0.attn.proj_kv.bias"], rows[:768])
    ours = create_model("motionformer_b").state_dict()
    with pytest.raises(ModelError, match=r"blocks\.0\.attn\.proj_kv"):
        create_model("motionformer_b", weights=ours)
    state = create_model("motionformer_b", weights=ours, project_values=True).state_dict()
    assert torch.equal(state["blocks.0.attn.proj_kv.bias"], ours["blocks.0.attn.proj_kv.bias"])


def test_weights_of_ast_bring_the_statistics_of_audioset():
    model = create_model("ast_b", weights=released(CASES["ast"].names)).eval()
    assert float(model.normalized(torch.tensor([[[[-4.2677393]]]]))) == 0
    assert float(model.normalized(torch.tensor([[[[0.3012581]]]]))) == pytest.approx(0.5, abs=1e-6)
    x = torch.randn(1, 1, 32, 32)
    assert torch.equal(create_model("ast_b").normalized(x), x)


def test_files_as_they_are_published(tmp_path):
    """DeepSpeed's envelope, and DataParallel's prefix."""
    tensors = {name: tensor.clone() for name, tensor in released(CASES["videomae"].names).items()}
    torch.save({"module": tensors, "optimizer": None, "epoch": 3}, tmp_path / "checkpoint.pth")
    found = import_weights(tmp_path / "checkpoint.pth", "videomae_b", tmp_path / "videomae")
    assert (found.classes, found.report.layout, found.report.left) == (174, "videomae", [])
    encoder, _ = load_encoder(tmp_path / "videomae")
    assert torch.equal(encoder.classifier.bias, tensors["head.bias"])
    tensors = {f"module.{name}": tensor.clone() for name, tensor in released(CASES["ast"].names).items()}
    torch.save(tensors, tmp_path / "audioset_10_10_0.4593.pth")
    model = create_model("ast_b", weights=tmp_path / "audioset_10_10_0.4593.pth", num_classes=527)
    assert model.loaded.taken == len(model.state_dict())


def test_networks_of_another_shape_are_refused():
    fine_tuned = CASES["videomae"].names
    with pytest.raises(ModelError, match=r"are missing.*fc_norm"):
        create_model("videomae_b", weights=released(fine_tuned.replace("fc_norm", "norm")))
    longer = CASES["motionformer"].names.replace("temp_embed 1 8", "temp_embed 1 16")
    with pytest.raises(ModelError, match=r"1 of .* parameters are missing"):
        create_model("motionformer_b", weights=released(longer))
