"""Names of mmaction2's weights."""

import re
from functools import partial

import torch

from avlearn.models.weights.importers.layout import Rename, Tensors, WeightLayout, renamed
from avlearn.models.weights.importers.pyslowfast import mvit


def _bare(tensors: Tensors) -> Tensors:
    return {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}


def _residual(tensors: Tensors) -> Tensors:
    """Its residual (TSN among them), non-local and channel-separated networks and C3D."""
    tensors = _bare(tensors)
    mixed: list[Rename] = []
    if any(".conv2.1.conv." in name for name in tensors):  # ip-CSN: a 1 x 1 x 1 before the channelwise convolution
        mixed = [
            (r"^(layer\d\.\d+\.conv2)\.0\.conv\.", r"\1.0.0."),
            (r"^(layer\d\.\d+\.conv2)\.0\.bn\.", r"\1.0.1."),
            (r"^(layer\d\.\d+\.conv2)\.1\.conv\.", r"\1.0.2."),
            (r"^(layer\d\.\d+\.conv2)\.1\.bn\.", r"\1.1."),
        ]
    return renamed(
        tensors,
        [
            (r"^conv1\.conv\.", "stem.0."),
            (r"^conv1\.bn\.", "stem.1."),
            *mixed,
            (r"^(layer\d\.\d+\.conv2)\.0\.conv\.", r"\1.0."),
            (r"^(layer\d\.\d+\.conv2)\.0\.bn\.", r"\1.1."),
            (r"^(layer\d\.\d+)\.non_local_block\.(theta|phi|g)(?:\.0)?\.conv\.", r"\1.nonlocal_block.conv_\2."),
            (r"^(layer\d\.\d+)\.non_local_block\.conv_out\.conv\.", r"\1.nonlocal_block.conv_out."),
            (r"^(layer\d\.\d+)\.non_local_block\.conv_out\.bn\.", r"\1.nonlocal_block.bn."),
            (r"^(layer\d\.\d+\.(?:conv\d|downsample))\.conv\.", r"\1.0."),
            (r"^(layer\d\.\d+\.(?:conv\d|downsample))\.bn\.", r"\1.1."),
            (r"^(fc[67])\.", r"classifier.\1."),
            (r"^cls_head\.fc_cls\.", "classifier."),
        ],
    )


def _tsm(tensors: Tensors) -> Tensors:
    """What sees shifted channels is wrapped."""
    return _residual({name.replace(".conv1.conv.net.", ".conv1.conv."): tensor for name, tensor in tensors.items()})


def _c3d(tensors: Tensors) -> Tensors:
    return renamed(_residual(tensors), [(r"^classifier\.(weight|bias)$", r"classifier.fc8.\1")])


def _slowfast(tensors: Tensors) -> Tensors:
    """Its classifier reads the fast channels before the slow ones."""
    found = {}
    for name, tensor in _bare(tensors).items():
        pathway, _, rest = name.partition("_path.")
        if rest.endswith("_lateral.conv.weight"):
            group = rest.removesuffix("_lateral.conv.weight")  # conv1, layer1 ... layer3
            found[f"laterals.{0 if group == 'conv1' else group[-1]}.0.weight"] = tensor
        elif rest:
            (place,) = _residual({rest: tensor})
            found[f"{pathway}.{place}"] = tensor
        else:
            found |= _residual({name: tensor})
    weight, last = found.get("classifier.weight"), found.get("fast.layer4.0.downsample.0.weight")
    if weight is not None and last is not None:
        fast, slow = weight.tensor_split([len(last)], 1)
        found["classifier.weight"] = torch.cat([slow, fast], 1)
    return found


def _r2plus1d(tensors: Tensors) -> Tensors:
    tensors = renamed(
        _bare(tensors),
        [
            (r"^conv1\.conv\.conv_s\.", "stem.0."),
            (r"^conv1\.conv\.bn_s\.", "stem.1."),
            (r"^conv1\.conv\.conv_t\.", "stem.3."),
            (r"^conv1\.bn\.", "stem.4."),
            (r"^(layer.+)\.conv\.conv_s\.", r"\1.0.0."),
            (r"^(layer.+)\.conv\.bn_s\.", r"\1.0.1."),
            (r"^(layer.+)\.conv\.conv_t\.", r"\1.0.3."),
        ],
    )
    return _residual(tensors)


def _x3d(tensors: Tensors) -> Tensors:
    block = r"^layer(\d)\.(\d+)\."

    def place(rest: str, match: re.Match[str]) -> str:
        return f"s{int(match[1]) + 1}.pathway0_res{match[2]}.{rest}"

    def renames(part: str, ours: str) -> list[Rename]:
        return [
            (block + part + r"\.conv\.", partial(place, ours + ".")),
            (block + part + r"\.bn\.", partial(place, ours + "_bn.")),
        ]

    return renamed(
        _bare(tensors),
        [
            (r"^conv1_s\.conv\.", "s1.pathway0_stem.conv_xy."),
            (r"^conv1_t\.", "s1.pathway0_stem."),
            *renames("downsample", "branch1"),
            *renames("conv1", "branch2.a"),
            *renames("conv2", "branch2.b"),
            *renames("conv3", "branch2.c"),
            (block + r"se_module\.", partial(place, "branch2.se.")),
            (r"^conv5\.conv\.", "head.conv_5."),
            (r"^conv5\.bn\.", "head.conv_5_bn."),
            (r"^cls_head\.fc1\.", "classifier.lin_5."),
            (r"^cls_head\.fc2\.", "classifier.projection."),
        ],
    )


def _timesformer(tensors: Tensors) -> Tensors:
    """Of its three attentions; only the divided one has norms of its own for time, space and perceptron."""
    tensors = renamed(_bare(tensors), [(r"^transformer_layers\.layers\.", "blocks.")])
    divided = any(".attentions.1." in name for name in tensors)
    attention, norm = ("temporal_attn", "temporal_norm1") if divided else ("attn", "norm1")
    tensors = renamed(
        tensors,
        [
            (r"\.attentions\.0\.norm\.", f".{norm}."),
            (r"\.attentions\.0\.temporal_fc\.", ".temporal_fc."),
            (r"\.attentions\.0\.attn\.", f".{attention}."),
            (r"\.attentions\.1\.norm\.", ".norm1."),
            (r"\.attentions\.1\.attn\.", ".attn."),
            (r"\.norms\.0\.", ".norm1."),
            (r"\.(ffns\.0\.norm|norms\.1)\.", ".norm2."),
            (r"\.ffns\.0\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffns\.0\.layers\.1\.", ".mlp.fc2."),
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^cls_head\.fc_cls\.", "classifier."),
        ],
    )
    return renamed(tensors, [(r"\.in_proj_", ".qkv."), (r"\.out_proj\.", ".proj.")])


def _mvit(tensors: Tensors) -> Tensors:
    """PySlowFast's names, but for the first and the last."""
    return mvit(
        renamed(
            _bare(tensors),
            [
                (r"^patch_embed\.projection\.", "patch_embed.proj."),
                (r"^norm3\.", "norm."),
                (r"^cls_head\.fc_cls\.", "classifier."),
            ],
        )
    )


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CSN = (0.43216, 0.39467, 0.37645), (0.22803, 0.22145, 0.21699)  # as its authors'; the base file of 1.x overrides it
_C3D = tuple(channel / 255 for channel in (104, 117, 128)), (1 / 255,) * 3

_X3D = (114.75 / 255,) * 3, (57.38 / 255,) * 3
_MVIT = (114.75 / 255,) * 3, (57.375 / 255,) * 3
_HALF = (0.5,) * 3, (0.5,) * 3
# The pool of the stem sees one frame, and in C2D only places within the frame.
_POOL = {"stem_pool": 1, "stem_padding": 0}

LAYOUTS = (
    WeightLayout("mmaction2 c3d", r"^backbone\.conv1a\.", _c3d, {}, *_C3D),
    WeightLayout("mmaction2 csn", r"^backbone\.layer1\.0\.conv2\.0\.", _residual, {"eps": 1e-3}, *_CSN),
    WeightLayout(
        "mmaction2 slowfast",
        r"^backbone\.slow_path\.",
        _slowfast,
        {"lateral_norm": False, "frame_picking": "every"},
        *_IMAGENET,
    ),
    WeightLayout(
        "mmaction2 r2plus1d",
        r"^backbone\.conv1\.conv\.conv_s\.",
        _r2plus1d,
        {"variant": "mmaction2", "mid_width": "per-conv", "eps": 1e-3},
        *_IMAGENET,
    ),
    WeightLayout("mmaction2 x3d", r"^backbone\.conv1_s\.", _x3d, {}, *_X3D),
    WeightLayout("mmaction2 mvit", r"^backbone\.blocks\.\d+\.attn\.pool_[qkv]\.weight$", _mvit, {}, *_MVIT),
    WeightLayout(
        "mmaction2 timesformer", r"^backbone\.transformer_layers\.layers\.0\.attentions\.", _timesformer, {}, *_HALF
    ),
    WeightLayout("mmaction2 tsm", r"\.conv1\.conv\.net\.", _tsm, {}, *_IMAGENET, encoders="tsm*"),
    WeightLayout("mmaction2", r"^backbone\.conv1\.", _residual, {**_POOL, "nonlocal_style": "mmaction2"}, *_IMAGENET),
)
