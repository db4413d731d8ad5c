"""Names of transformers' weights that a paper's authors released with code of their own."""

from avlearn.models.weights.importers.huggingface import AUDIOSET
from avlearn.models.weights.importers.layout import Tensors, WeightLayout, renamed


def _videomae(tensors: Tensors) -> Tensors:
    """Also mmaction2's files."""
    return renamed(
        renamed(tensors, [(r"^(encoder|backbone)\.", "")]),
        [
            (r"^(head|cls_head\.fc_cls)\.", "classifier."),
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"\.mlp\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
        ],
    )


def _motionformer(tensors: Tensors) -> Tensors:
    """Without what its network does not use: an embedding of single frames, and the values of ``proj_kv``."""
    if "patch_embed.proj.weight" not in tensors:  # ours
        return tensors
    found = renamed(tensors, [(r"^head\.", "classifier.")])
    found = {name: tensor for name, tensor in found.items() if not name.startswith("patch_embed.")}
    return {name: tensor.chunk(2)[0] if ".proj_kv." in name else tensor for name, tensor in found.items()}


def _vtn(tensors: Tensors) -> Tensors:
    tensors = renamed(tensors, [(r"^temporal_encoder\.encoder\.layer\.", "temporal.blocks.")])
    return renamed(
        tensors,
        [
            (r"^backbone\.", ""),
            (r"^cls_token$", "temporal.cls_token"),
            (r"^temporal_encoder\.embeddings\.LayerNorm\.", "temporal.embedding_norm."),
            (r"^temporal_encoder\.embeddings\.", "temporal."),
            (r"\.attention\.self\.", ".attn."),
            (r"\.attention\.output\.dense\.", ".attn.dense."),
            (r"\.attention\.output\.LayerNorm\.", ".norm1."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"\.output\.dense\.", ".mlp.fc2."),
            (r"\.output\.LayerNorm\.", ".norm2."),
            (r"^mlp_head\.4\.", "classifier."),
        ],
    )


def _swin(tensors: Tensors) -> Tensors:
    """Also mmaction2's files."""
    tensors = renamed(tensors, [(r"^backbone\.", "")])
    tensors = renamed(tensors, [(r"\.mlp\.fc1\.", ".mlp.0."), (r"\.mlp\.fc2\.", ".mlp.3.")])
    return renamed(
        tensors,
        [
            (r"^layers\.(\d)\.blocks\.", lambda match: f"features.{2 * int(match[1])}."),
            (r"^layers\.(\d)\.downsample\.", lambda match: f"features.{2 * int(match[1]) + 1}."),
            (r"^norm3\.", "norm."),  # as mmaction2 1.x calls it
            (r"^cls_head\.fc_cls\.", "classifier."),
        ],
    )


def _vjepa2(tensors: Tensors) -> Tensors:
    """What it learned of single images stays, and so do norms of the blocks that others learned from."""
    return renamed(tensors, [(r"^(backbone\.)?norms_block\.3\.", "norm."), (r"^backbone\.", "")])


def _ast(tensors: Tensors) -> Tensors:
    """The class and distillation tokens' own classifiers, of the image network that AST began from, are not used."""
    return renamed(
        tensors, [(r"^v\.(?!head)", ""), (r"^mlp_head\.0\.", "head_norm."), (r"^mlp_head\.1\.", "classifier.")]
    )


LAYOUTS = (
    WeightLayout("videomae", r"^(backbone\.)?blocks\.0\.attn\.q_bias$", _videomae),
    WeightLayout("videomae pre-training", r"^encoder\.blocks\.0\.attn\.q_bias$", _videomae, {"pooled_norm": False}),
    WeightLayout("motionformer", r"^blocks\.0\.attn\.proj_kv\.", _motionformer, {"project_values": False}),
    WeightLayout("motionformer divided", r"^blocks\.0\.timeattn\.", _motionformer, {"attention": "divided"}),
    WeightLayout("v-jepa 2.1", r"^(backbone\.)?video_mod_embed$", _vjepa2),
    WeightLayout("vtn", r"^temporal_encoder\.encoder\.layer\.0\.attention\.self\.query_global\.", _vtn),
    WeightLayout("video swin", r"^(backbone\.)?layers\.0\.blocks\.0\.attn\.relative_position_bias_table$", _swin),
    WeightLayout("ast", r"^v\.blocks\.0\.attn\.qkv\.", _ast, {}, *AUDIOSET),
    WeightLayout("torchvggish", r"^embeddings\.[024]\.weight$", dict),  # our names are its names
)
