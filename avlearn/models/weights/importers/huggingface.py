"""Names of Hugging Face's weights: its files keep those of transformers 4, its models have changed some in 5."""

from avlearn.models.weights.importers.layout import Rename, Tensors, WeightLayout, joined, renamed

_PARTS: list[Rename] = [
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.time_embeddings$", "time_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"\.temporal_layernorm\.", ".temporal_norm1."),
    (r"\.temporal_attention\.attention\.qkv\.", ".temporal_attn.qkv."),
    (r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
    (r"\.temporal_dense\.", ".temporal_fc."),
    (r"\.attention\.attention\.(qkv\.|q_bias$|v_bias$)", r".attn.\1"),
    (r"\.attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r".attn.\1_proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.layernorm\.", "head_norm."),
    (r"^classifier\.dense\.", "classifier."),
]


def _transformer(tensors: Tensors) -> Tensors:
    tensors = renamed(tensors, [(r"^(timesformer|vivit|videomae|audio_spectrogram_transformer)\.", "")])
    tensors = renamed(tensors, [(r"^(encoder\.layer|layers)\.(?=\d)", "blocks.")])
    tensors = joined(renamed(tensors, _PARTS), "{}_proj")
    # VideoMAE's keys have no bias, so those of queries and values are left.
    return renamed(tensors, [(r"\.attn\.([qv])_proj\.bias$", r".attn.\1_bias")])


AUDIOSET = (-4.2677393,), (2 * 4.5689974,)  # of log-mel values; twice their std

LAYOUTS = (
    WeightLayout(
        "hugging face timesformer",
        r"^(timesformer\.)?encoder\.layer\.0\.(temporal_|attention\.attention\.qkv\.)",
        _transformer,
    ),
    WeightLayout("hugging face videomae pre-training", r"^videomae\.layernorm\.", _transformer, {"pooled_norm": False}),
    WeightLayout(
        "hugging face videomae",
        r"^(videomae\.encoder\.layer\.0\.|encoder\.layer\.0\.attention\.attention\.q_bias$)",
        _transformer,
    ),
    WeightLayout(
        "hugging face ast",
        r"^(audio_spectrogram_transformer\.)?embeddings\.distillation_token$",
        _transformer,
        {"eps": 1e-12},
        *AUDIOSET,
    ),
    WeightLayout(
        "hugging face vivit",
        r"^(vivit\.)?(layers\.0\.attention\.|encoder\.layer\.0\.attention\.attention\.)",
        _transformer,
    ),
)
