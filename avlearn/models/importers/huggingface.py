"""Names of Hugging Face's weights."""

from avlearn.models.importers.layout import Layout, Tensors, joined, renamed


def _timesformer(tensors: Tensors) -> Tensors:
    tensors = {name.removeprefix("timesformer."): tensor for name, tensor in tensors.items()}
    tensors = renamed(tensors, [(r"^encoder\.layer\.", "blocks.")])
    return renamed(
        tensors,
        [
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.time_embeddings$", "time_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"\.temporal_layernorm\.", ".temporal_norm1."),
            (r"\.temporal_attention\.attention\.qkv\.", ".temporal_attn.qkv."),
            (r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
            (r"\.temporal_dense\.", ".temporal_fc."),
            (r"\.attention\.attention\.qkv\.", ".attn.qkv."),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"\.output\.dense\.", ".mlp.fc2."),
            (r"^layernorm\.", "norm."),
        ],
    )


def _vivit(tensors: Tensors) -> Tensors:
    tensors = {name.removeprefix("vivit."): tensor for name, tensor in tensors.items()}
    tensors = renamed(tensors, [(r"^layers\.(\d+)\.attention\.", r"blocks.\1.attn."), (r"^layers\.", "blocks.")])
    tensors = renamed(
        tensors,
        [
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"\.attn\.o_proj\.", ".attn.proj."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"^layernorm\.", "norm."),
        ],
    )
    return joined(tensors, "{}_proj")


LAYOUTS = (
    Layout("hugging face timesformer", r"^(timesformer\.)?encoder\.layer\.0\.temporal_", _timesformer),
    Layout("hugging face vivit", r"^(vivit\.)?layers\.0\.attention\.", _vivit),
)
