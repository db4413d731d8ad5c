"""Released weights under our names: for each layout of the field, where its parameters go.

A layout is recognised by its own names, so that a file needs no more than the name of the network it is for.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from avlearn.errors import ModelError
from avlearn.models.checkpoint import read_tensors

Tensors = dict[str, Tensor]
Rename = tuple[str, str | Callable[[re.Match], str]]

_SHOWN = 4  # names of a group that a message lists


def _renamed(tensors: Tensors, renames: Sequence[Rename]) -> Tensors:
    """Names after the first rename that fits; those that none fits stay."""
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in renames:
            renamed, times = re.subn(pattern, replacement, name, count=1)
            if times:
                name = renamed
                break
        found[name] = tensor
    return found


def _letter(letter: str) -> int:
    return "abc".index(letter) + 1


def _joined(tensors: Tensors, part: str) -> Tensors:
    """Query, key and value, named ``part`` with q, k or v in place of its brace, as one ``qkv``."""
    found = dict(tensors)
    pattern = re.compile(r"^(.+\.attn\.)" + re.escape(part).replace(r"\{\}", "q") + r"\.(weight|bias)$")
    for match in filter(None, map(pattern.match, tensors)):
        names = [f"{match[1]}{part.format(letter)}.{match[2]}" for letter in "qkv"]
        if all(name in found for name in names):
            found[f"{match[1]}qkv.{match[2]}"] = torch.cat([found.pop(name) for name in names])
    return found


# ---- torchvision, and VMZ's PyTorch weights


def _torchvision(tensors: Tensors) -> Tensors:
    return _renamed(tensors, [(r"^(fc|head\.1|head|classifier\.1)\.", "classifier.")])


# ---- PySlowFast


def _pyslowfast(tensors: Tensors) -> Tensors:
    """Its residual networks with one or two pathways."""
    two = any("pathway1" in name for name in tensors)

    def place(match: re.Match, rest: str) -> str:
        pathway = ("slow.", "fast.")[int(match["p"])] if two else ""
        return pathway + rest

    def block(match: re.Match, rest: str) -> str:
        return place(match, f"layer{int(match['s']) - 1}.{match['j']}.{rest}")

    at = r"^s(?P<s>\d)\.pathway(?P<p>\d)_res(?P<j>\d+)\."
    return _renamed(
        tensors,
        [
            (r"^s1\.pathway(?P<p>\d)_stem\.conv\.", lambda m: place(m, "stem.0.")),
            (r"^s1\.pathway(?P<p>\d)_stem\.bn\.", lambda m: place(m, "stem.1.")),
            (r"^s(\d)_fuse\.conv_f2s\.", lambda m: f"laterals.{int(m[1]) - 1}.0."),
            (r"^s(\d)_fuse\.bn\.", lambda m: f"laterals.{int(m[1]) - 1}.1."),
            (at + r"branch1\.", lambda m: block(m, "downsample.0.")),
            (at + r"branch1_bn\.", lambda m: block(m, "downsample.1.")),
            (at + r"branch2\.(?P<x>[abc])\.", lambda m: block(m, f"conv{_letter(m['x'])}.0.")),
            (at + r"branch2\.(?P<x>[abc])_bn\.", lambda m: block(m, f"conv{_letter(m['x'])}.1.")),
            (
                r"^s(?P<s>\d)\.pathway(?P<p>\d)_nonlocal(?P<j>\d+)\.",
                lambda m: block(m, "nonlocal_block."),
            ),
            (r"^head\.projection\.", "classifier."),
        ],
    )


def _pyslowfast_x3d(tensors: Tensors) -> Tensors:
    return _renamed(tensors, [(r"^head\.(lin_5|projection)\.", r"classifier.\1.")])


def _pyslowfast_mvit(tensors: Tensors) -> Tensors:
    tensors = _renamed(tensors, [(r"^(blocks\.\d+)\.proj\.", r"\1.project."), (r"\.mlp\.fc1\.", ".mlp.0.")])
    return _renamed(
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


# ---- pytorchvideo


def _pytorchvideo(tensors: Tensors) -> Tensors:
    """Its residual networks with one or two pathways, R(2+1)D and CSN."""
    # Where time is pooled, the pool is a block that has no weights.
    pooled = not any(name.startswith("blocks.2.") for name in tensors)

    def place(match: re.Match, rest: str) -> str:
        pathway = match["p"]
        return ("slow.", "fast.")[int(pathway)] + rest if pathway else rest

    def block(match: re.Match, rest: str) -> str:
        layer = int(match["s"])
        return place(match, f"layer{layer - 1 if pooled and layer > 1 else layer}.{match['j']}.{rest}")

    path = r"(?:multipathway_blocks\.(?P<p>\d)\.)?"
    at = rf"^blocks\.(?P<s>\d)\.{path}res_blocks\.(?P<j>\d+)\."
    inner = {"conv_t": 0, "norm": 1, "conv_xy": 3}
    return _renamed(
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
            (at + r"branch2\.conv_(?P<x>[abc])\.", lambda m: block(m, f"conv{_letter(m['x'])}.0.")),
            (at + r"branch2\.norm_(?P<x>[abc])\.", lambda m: block(m, f"conv{_letter(m['x'])}.1.")),
            (r"^blocks\.\d\.proj\.", "classifier."),
        ],
    )


def _pytorchvideo_mvit(tensors: Tensors) -> Tensors:
    """Its pools are there twice, under other names."""
    tensors = {name: tensor for name, tensor in tensors.items() if "._attention_pool_" not in name}
    tensors = _renamed(tensors, [(r"^cls_positional_encoding\.", ""), (r"^patch_embed\.patch_model\.", "conv_proj.")])
    tensors = _renamed(tensors, [(r"^norm_embed\.", "norm."), (r"^head\.proj\.", "classifier.")])
    return _pyslowfast_mvit(_joined(tensors, "{}"))


def _pytorchvideo_x3d(tensors: Tensors) -> Tensors:
    """The names of the stem's two convolutions are exchanged there."""

    def block(match: re.Match, rest: str) -> str:
        return f"s{int(match['s']) + 1}.pathway0_res{match['j']}.{rest}"

    at = r"^blocks\.(?P<s>\d)\.res_blocks\.(?P<j>\d+)\."
    return _renamed(
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


# ---- mmaction2


def _mmaction2(tensors: Tensors) -> Tensors:
    """Its residual and channel-separated networks, C3D and TimeSformer."""
    tensors = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    mixed: list[Rename] = []
    if any(".conv2.1.conv." in name for name in tensors):  # ip-CSN: a 1 x 1 x 1 before the channelwise convolution
        mixed = [
            (r"^(layer\d\.\d+\.conv2)\.0\.conv\.", r"\1.0.0."),
            (r"^(layer\d\.\d+\.conv2)\.0\.bn\.", r"\1.0.1."),
            (r"^(layer\d\.\d+\.conv2)\.1\.conv\.", r"\1.0.2."),
            (r"^(layer\d\.\d+\.conv2)\.1\.bn\.", r"\1.1."),
        ]
    return _renamed(
        tensors,
        [
            (r"^conv1\.conv\.", "stem.0."),
            (r"^conv1\.bn\.", "stem.1."),
            *mixed,
            (r"^(layer\d\.\d+\.conv2)\.0\.conv\.", r"\1.0."),
            (r"^(layer\d\.\d+\.conv2)\.0\.bn\.", r"\1.1."),
            (r"^(layer\d\.\d+\.(?:conv\d|downsample))\.conv\.", r"\1.0."),
            (r"^(layer\d\.\d+\.(?:conv\d|downsample))\.bn\.", r"\1.1."),
            (r"^(fc[67])\.", r"classifier.\1."),
            (r"^cls_head\.fc_cls\.", "classifier."),
        ],
    )


def _mmaction2_c3d(tensors: Tensors) -> Tensors:
    return _renamed(_mmaction2(tensors), [(r"^classifier\.(weight|bias)$", r"classifier.fc8.\1")])


# ---- Hugging Face


def _hf_timesformer(tensors: Tensors) -> Tensors:
    tensors = {name.removeprefix("timesformer."): tensor for name, tensor in tensors.items()}
    tensors = _renamed(tensors, [(r"^encoder\.layer\.", "blocks.")])
    return _renamed(
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


def _hf_vivit(tensors: Tensors) -> Tensors:
    tensors = {name.removeprefix("vivit."): tensor for name, tensor in tensors.items()}
    tensors = _renamed(tensors, [(r"^layers\.(\d+)\.attention\.", r"blocks.\1.attn."), (r"^layers\.", "blocks.")])
    tensors = _renamed(
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
    return _joined(tensors, "{}_proj")


LAYOUTS: dict[str, Callable[[Tensors], Tensors]] = {
    "avlearn": lambda tensors: tensors,
    "torchvision": _torchvision,
    "pyslowfast": _pyslowfast,
    "pyslowfast x3d": _pyslowfast_x3d,
    "pyslowfast mvit": _pyslowfast_mvit,
    "pytorchvideo": _pytorchvideo,
    "pytorchvideo x3d": _pytorchvideo_x3d,
    "pytorchvideo mvit": _pytorchvideo_mvit,
    "mmaction2": _mmaction2,
    "mmaction2 c3d": _mmaction2_c3d,
    "hugging face timesformer": _hf_timesformer,
    "hugging face vivit": _hf_vivit,
}


def load_weights(model: nn.Module, source: str | Path | Tensors) -> str:
    """Give an encoder released weights; a classifier for other classes than theirs stays as it is.

    Args:
        model: made by `create_model`.
        source: a weight file (see `read_tensors`), or its tensors.

    Returns:
        The name of the layout.

    Raises:
        ModelError: the file cannot be read, or in no layout does it hold every parameter of the model, in its shape;
            the groups that are missing in the nearest one are named.
    """
    tensors = source if isinstance(source, dict) else read_tensors(source)
    wanted = model.state_dict()
    layouts = {name: layout(tensors) for name, layout in LAYOUTS.items()}
    fitted = {name: _fitted(renamed, wanted) for name, renamed in layouts.items()}
    best = max(layouts, key=lambda name: (len(fitted[name]), len(layouts[name].keys() & wanted.keys())))
    found = fitted[best]
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    if all(name in layouts[best] for name in missing if name.startswith("classifier.")):
        missing = [name for name in missing if not name.startswith("classifier.")]
    if missing:
        raise ModelError(
            f"{source if not isinstance(source, dict) else 'the weights'}: {len(missing)} of {len(wanted)} parameters "
            f"are missing or have another shape (by the names of {best}): {_groups(missing)}"
        )
    model.load_state_dict({**wanted, **found})
    return best


def _fitted(tensors: Tensors, wanted: Tensors) -> Tensors:
    """Tensors that the model has, in its shapes: sides of one more or fewer are taken for the same."""
    fitted = {}
    for name, tensor in tensors.items():
        shape = wanted[name].shape if name in wanted else None
        if shape is not None and [s for s in tensor.shape if s > 1] == [s for s in shape if s > 1]:
            fitted[name] = tensor.reshape(shape)
    return fitted


def _groups(names: Sequence[str]) -> str:
    groups = sorted({name.rpartition(".")[0] for name in names})
    more = f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return ", ".join(groups[:_SHOWN]) + more
