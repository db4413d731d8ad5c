"""Names of PySlowFast's weights."""

import re

from avlearn.models.weights.importers.layout import Tensors, WeightLayout, letter, renamed


def _residual(tensors: Tensors) -> Tensors:
    """Its residual networks with one or two pathways."""
    two = any("pathway1" in name for name in tensors)

    def place(match: re.Match[str], rest: str) -> str:
        pathway = ("slow.", "fast.")[int(match["p"])] if two else ""
        return pathway + rest

    def block(match: re.Match[str], rest: str) -> str:
        return place(match, f"layer{int(match['s']) - 1}.{match['j']}.{rest}")

    at = r"^s(?P<s>\d)\.pathway(?P<p>\d)_res(?P<j>\d+)\."
    return renamed(
        tensors,
        [
            (r"^s1\.pathway(?P<p>\d)_stem\.conv\.", lambda m: place(m, "stem.0.")),
            (r"^s1\.pathway(?P<p>\d)_stem\.bn\.", lambda m: place(m, "stem.1.")),
            (r"^s(\d)_fuse\.conv_f2s\.", lambda m: f"laterals.{int(m[1]) - 1}.0."),
            (r"^s(\d)_fuse\.bn\.", lambda m: f"laterals.{int(m[1]) - 1}.1."),
            (at + r"branch1\.", lambda m: block(m, "downsample.0.")),
            (at + r"branch1_bn\.", lambda m: block(m, "downsample.1.")),
            (at + r"branch2\.(?P<x>[abc])\.", lambda m: block(m, f"conv{letter(m['x'])}.0.")),
            (at + r"branch2\.(?P<x>[abc])_bn\.", lambda m: block(m, f"conv{letter(m['x'])}.1.")),
            (
                r"^s(?P<s>\d)\.pathway(?P<p>\d)_nonlocal(?P<j>\d+)\.",
                lambda m: block(m, "nonlocal_block."),
            ),
            (r"^head\.projection\.", "classifier."),
        ],
    )


def _x3d(tensors: Tensors) -> Tensors:
    return renamed(tensors, [(r"^head\.(lin_5|projection)\.", r"classifier.\1.")])


def mvit(tensors: Tensors) -> Tensors:
    tensors = renamed(tensors, [(r"^(blocks\.\d+)\.proj\.", r"\1.project."), (r"\.mlp\.fc1\.", ".mlp.0.")])
    return renamed(
        tensors,
        [
            (r"^patch_embed\.proj\.", "conv_proj."),
            (r"^cls_token$", "pos_encoding.class_token"),
            (r"^pos_embed_(spatial|temporal|class)$", r"pos_encoding.\1_pos"),
            (r"\.attn\.(pool_[qkv])\.weight", r".attn.\1.pool.weight"),
            (r"\.attn\.norm_([qkv])\.", r".attn.pool_\1.norm_act.0."),
            (r"\.attn\.proj\.", ".attn.project.0."),
            (r"\.mlp\.fc2\.", ".mlp.3."),
            (r"^head\.projection\.", "classifier."),
        ],
    )


LAYOUTS = (
    WeightLayout("pyslowfast x3d", r"^s1\.pathway0_stem\.conv_xy\.", _x3d),
    WeightLayout("pyslowfast", r"^s1\.pathway0_stem\.", _residual),
    WeightLayout("pyslowfast mvit", r"^blocks\.\d+\.attn\.pool_[qkv]\.weight$", mvit),
)
