"""Names of pytorchvideo's weights."""

import re

from avlearn.models.weights.importers.layout import Tensors, WeightLayout, joined, letter, renamed
from avlearn.models.weights.importers.pyslowfast import mvit


def _residual(tensors: Tensors) -> Tensors:
    """Its residual networks with one or two pathways, R(2+1)D and CSN."""
    # Where time is pooled, the pool is a block that has no weights.
    pooled = not any(name.startswith("blocks.2.") for name in tensors)

    def place(match: re.Match[str], rest: str) -> str:
        pathway = match["p"]
        return ("slow.", "fast.")[int(pathway)] + rest if pathway else rest

    def block(match: re.Match[str], rest: str) -> str:
        layer = int(match["s"])
        return place(match, f"layer{layer - 1 if pooled and layer > 1 else layer}.{match['j']}.{rest}")

    path = r"(?:multipathway_blocks\.(?P<p>\d)\.)?"
    at = rf"^blocks\.(?P<s>\d)\.{path}res_blocks\.(?P<j>\d+)\."
    inner = {"conv_t": 0, "norm": 1, "conv_xy": 3}
    return renamed(
        tensors,
        [
            (rf"^blocks\.0\.{path}conv\.", lambda m: place(m, "stem.0.")),
            (rf"^blocks\.0\.{path}norm\.", lambda m: place(m, "stem.1.")),
            (r"^blocks\.(\d)\.multipathway_fusion\.conv_fast_to_slow\.", r"laterals.\1.0."),
            (r"^blocks\.(\d)\.multipathway_fusion\.norm\.", r"laterals.\1.1."),
            (at + r"branch1_conv\.", lambda m: block(m, "downsample.0.")),
            (at + r"branch1_norm\.", lambda m: block(m, "downsample.1.")),
            (
                at + r"branch2\.conv_b\.(?P<x>conv_xy|norm|conv_t)\.",
                lambda m: block(m, f"conv2.0.{inner[m['x']]}."),
            ),
            (at + r"branch2\.conv_(?P<x>[abc])\.", lambda m: block(m, f"conv{letter(m['x'])}.0.")),
            (at + r"branch2\.norm_(?P<x>[abc])\.", lambda m: block(m, f"conv{letter(m['x'])}.1.")),
            (r"^blocks\.\d\.proj\.", "classifier."),
        ],
    )


def _mvit(tensors: Tensors) -> Tensors:
    """Its pools are there twice, under other names."""
    tensors = {name: tensor for name, tensor in tensors.items() if "._attention_pool_" not in name}
    tensors = renamed(tensors, [(r"^cls_positional_encoding\.", ""), (r"^patch_embed\.patch_model\.", "conv_proj.")])
    tensors = renamed(tensors, [(r"^norm_embed\.", "norm."), (r"^head\.proj\.", "classifier.")])
    return mvit(joined(tensors, "{}"))


def _x3d(tensors: Tensors) -> Tensors:
    """The names of the stem's two convolutions are exchanged there."""

    def block(match: re.Match[str], rest: str) -> str:
        return f"s{int(match['s']) + 1}.pathway0_res{match['j']}.{rest}"

    at = r"^blocks\.(?P<s>\d)\.res_blocks\.(?P<j>\d+)\."
    return renamed(
        tensors,
        [
            (r"^blocks\.0\.conv\.conv_t\.", "s1.pathway0_stem.conv_xy."),
            (r"^blocks\.0\.conv\.conv_xy\.", "s1.pathway0_stem.conv."),
            (r"^blocks\.0\.norm\.", "s1.pathway0_stem.bn."),
            (at + r"branch1_conv\.", lambda m: block(m, "branch1.")),
            (at + r"branch1_norm\.", lambda m: block(m, "branch1_bn.")),
            (at + r"branch2\.norm_b\.0\.", lambda m: block(m, "branch2.b_bn.")),
            (at + r"branch2\.norm_b\.1\.block\.0\.", lambda m: block(m, "branch2.se.fc1.")),
            (at + r"branch2\.norm_b\.1\.block\.2\.", lambda m: block(m, "branch2.se.fc2.")),
            (at + r"branch2\.conv_(?P<x>[abc])\.", lambda m: block(m, f"branch2.{m['x']}.")),
            (at + r"branch2\.norm_(?P<x>[abc])\.", lambda m: block(m, f"branch2.{m['x']}_bn.")),
            (r"^blocks\.5\.pool\.pre_conv\.", "head.conv_5."),
            (r"^blocks\.5\.pool\.pre_norm\.", "head.conv_5_bn."),
            (r"^blocks\.5\.pool\.post_conv\.", "classifier.lin_5."),
            (r"^blocks\.5\.proj\.", "classifier.projection."),
        ],
    )


LAYOUTS = (
    WeightLayout("pytorchvideo x3d", r"^blocks\.0\.conv\.conv_t\.", _x3d, {"shortcut_norm": False}),
    WeightLayout("pytorchvideo mvit", r"^patch_embed\.patch_model\.", _mvit),
    # The authors of CSN trained with another epsilon.
    WeightLayout("pytorchvideo", r"^blocks\.0\.(multipathway_blocks\.0\.)?conv\.", _residual, {"eps": 1e-5}),
)
