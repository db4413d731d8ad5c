"""Names of Caffe2's blobs: PySlowFast's and video-nonlocal-net's residual networks, and VMZ's.

What a training kept besides weights (``..._momentum``, ``lr``, ``model_iter``) keeps its names, and has no place.
"""

import re
from itertools import groupby

import torch

from avlearn.models.weights.importers.layout import Tensors, WeightLayout, letter, renamed

_PARTS = {"w": "weight", "b": "bias", "s": "weight", "rm": "running_mean", "riv": "running_var"}
_PART = r"_(?P<part>w|b|s|rm|riv)$"
_NORM = r"(?P<norm>_bn)?" + _PART
_EPS = 1e-5  # of batch norm, in the networks that have no option for it


def _residual(tensors: Tensors) -> Tensors:
    """Residual networks with one or two pathways: ``t_`` is before all that is of the fast one."""
    two = any(name.startswith("t_") for name in tensors)

    def place(match: re.Match[str], rest: str) -> str:
        pathway = ("fast." if match["t"] else "slow.") if two else ""
        return f"{pathway}{rest}.{_PARTS[match['part']]}"

    def block(match: re.Match[str], rest: str) -> str:
        return place(match, f"layer{int(match['s']) - 1}.{match['j']}.{rest}")

    def lateral(match: re.Match[str], number: int) -> str:
        return f"laterals.{number}.{int(bool(match['norm']))}.{_PARTS[match['part']]}"

    at = r"^(?P<t>t_)?res(?P<s>\d)_(?P<j>\d+)_branch"
    return renamed(
        _with_statistics(tensors),
        [
            (rf"^t_pool1_subsample{_NORM}", lambda m: lateral(m, 0)),
            (rf"^t_res(?P<s>\d)_\d+_branch2c_bn_subsample{_NORM}", lambda m: lateral(m, int(m["s"]) - 1)),
            (rf"^(?P<t>t_)?conv1{_PART}", lambda m: place(m, "stem.0")),
            (rf"^(?P<t>t_)?res_conv1_bn{_PART}", lambda m: place(m, "stem.1")),
            (rf"{at}1{_NORM}", lambda m: block(m, f"downsample.{int(bool(m['norm']))}")),
            (rf"{at}2(?P<x>[abc]){_NORM}", lambda m: block(m, f"conv{letter(m['x'])}.{int(bool(m['norm']))}")),
            (
                rf"^(?P<t>t_)?nonlocal_conv(?P<s>\d)_(?P<j>\d+)_(?P<x>theta|phi|g|out){_PART}",
                lambda m: block(m, f"nonlocal_block.conv_{m['x']}"),
            ),
            (
                rf"^(?P<t>t_)?nonlocal_conv(?P<s>\d)_(?P<j>\d+)_bn{_PART}",
                lambda m: block(m, "nonlocal_block.bn"),
            ),
            (rf"^pred{_PART}", lambda m: f"classifier.{_PARTS[m['part']]}"),
        ],
    )


def _with_statistics(tensors: Tensors) -> Tensors:
    """Networks that were trained on with batch norm frozen keep its scale and shift alone: mean 0, std 1."""
    if any(name.endswith("_rm") for name in tensors):
        return tensors
    found = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith("_bn_s"):
            found[f"{name[:-1]}rm"] = torch.zeros_like(tensor)
            found[f"{name[:-1]}riv"] = torch.full_like(tensor, 1 - _EPS)
    return found


def _vmz(tensors: Tensors) -> Tensors:
    """VMZ's residual networks: blocks are counted from the first to the last, convolutions within a block."""
    separated = "conv1_middle_w" in tensors
    blocks = _blocks(tensors)

    def stem(match: re.Match[str], kind: int) -> str:
        last = 3 if separated and not match["middle"] else 0
        return f"stem.{last + kind}.{_PARTS[match['part']]}"

    def inner(match: re.Match[str], kind: int) -> str:
        layer, j, convs = blocks[int(match["i"])]
        number = convs.index(int(match["n"])) + 1
        middle = tensors.get(f"comp_{match['i']}_conv_{match['n']}_middle_w")
        if kind == 1 and not match["middle"]:
            rest = "1"
        elif middle is None:
            rest = "0"
        elif match["middle"]:
            rest = f"0.{kind}"
        else:  # a rectifier lies between space and time, none between channels and what is channelwise
            rest = "0.2" if middle.shape[-1] == 1 else "0.3"
        return f"layer{layer}.{j}.conv{number}.{rest}.{_PARTS[match['part']]}"

    def shortcut(match: re.Match[str], kind: int) -> str:
        layer, j, _ = blocks[int(match["i"])]
        return f"layer{layer}.{j}.downsample.{kind}.{_PARTS[match['part']]}"

    return renamed(
        tensors,
        [
            (rf"^conv1(?P<middle>_middle)?{_PART}", lambda m: stem(m, 0)),
            (rf"^conv1(?P<middle>_middle)?_spatbn_relu{_PART}", lambda m: stem(m, 1)),
            (rf"^comp_(?P<i>\d+)_conv_(?P<n>\d)(?P<middle>_middle)?{_PART}", lambda m: inner(m, 0)),
            (rf"^comp_(?P<i>\d+)_spatbn_(?P<n>\d)(?P<middle>_middle)?{_PART}", lambda m: inner(m, 1)),
            (rf"^shortcut_projection_(?P<i>\d+){_PART}", lambda m: shortcut(m, 0)),
            (rf"^shortcut_projection_(?P<i>\d+)_spatbn{_PART}", lambda m: shortcut(m, 1)),
            (rf"^last_out_L\d+{_PART}", lambda m: f"classifier.{_PARTS[m['part']]}"),
        ],
    )


def _blocks(tensors: Tensors) -> dict[int, tuple[int, int, list[int]]]:
    """Of each of VMZ's blocks: its group, its number there, and the numbers of its convolutions, not always 1, 2, 3."""
    names = [re.match(r"comp_(\d+)_(?:conv|spatbn)_(\d)", name) for name in tensors]
    convs = sorted({(int(match[1]), int(match[2])) for match in names if match})
    shortcuts = {int(match[1]) for name in tensors if (match := re.match(r"shortcut_projection_(\d+)_", name))}
    blocks, layer, first = {}, 1, 0
    for i, numbers in groupby(convs, lambda conv: conv[0]):
        if i and i in shortcuts:  # each group but the first begins with one
            layer, first = layer + 1, i
        blocks[i] = layer, i - first, [number for _, number in numbers]
    return blocks


def _vmz_dense(tensors: Tensors) -> Tensors:
    """The networks for them have the common epsilon: what theirs is larger by goes to the variances."""
    more = 1e-3 - _EPS
    return {name: t + more if name.endswith(".running_var") else t for name, t in _vmz(tensors).items()}


def _vmz_c3d(tensors: Tensors) -> Tensors:
    return renamed(
        tensors,
        [
            (rf"^(conv\d[ab])_bn{_PART}", lambda m: f"{m[1]}.bn.{_PARTS[m['part']]}"),
            (rf"^(conv\d[ab]){_PART}", lambda m: f"{m[1]}.conv.{_PARTS[m['part']]}"),
            (rf"^(fc[67]){_PART}", lambda m: f"classifier.{m[1]}.{_PARTS[m['part']]}"),
            (rf"^last_out_L\d+{_PART}", lambda m: f"classifier.fc8.{_PARTS[m['part']]}"),
        ],
    )


LAYOUTS = (
    WeightLayout("caffe2 pyslowfast", r"^res_conv1_bn_s$", _residual),
    WeightLayout("caffe2 vmz c3d", r"^conv1a_bn_s$", _vmz_c3d),
    # R(2+1)D and channel-separated networks.
    WeightLayout("caffe2 vmz", r"^comp_0_conv_(\d_middle|4)_w$", _vmz, {"eps": 1e-3, "mid_width": "per-conv"}),
    # R3D, MC, rMC and R2D.
    WeightLayout("caffe2 vmz dense", r"^comp_0_conv_1_w$", _vmz_dense, {"eps": _EPS}),
)
