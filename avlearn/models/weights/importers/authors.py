"""Names of weights that a paper's authors released with code of their own."""

import re

from avlearn.models.weights.importers.layout import Tensors, WeightLayout, renamed


def _timesformer(tensors: Tensors) -> Tensors:
    return renamed(tensors, [(r"^head\.", "classifier.")])


# Where Inception-V1's convolutions and mixed blocks lie in ours.
_INCEPTION = {"1a": 0, "2b": 2, "2c": 3, "3b": 5, "3c": 6, "4b": 8, "4c": 9, "4d": 10, "4e": 11, "4f": 12}
_INCEPTION |= {"5b": 14, "5c": 15}


def _place(match: re.Match[str]) -> str:
    return f"features.{_INCEPTION[match[1]]}." if match[1] in _INCEPTION else match[0]


def _i3d(tensors: Tensors) -> Tensors:
    tensors = renamed(
        tensors,
        [
            (r"^Conv3d_(\d[a-c])_\dx\d\.", _place),
            (r"^Mixed_(\d[b-f])\.", _place),
            (r"^logits\.conv3d\.", "classifier."),
        ],
    )
    tensors = renamed(
        tensors,
        [
            (r"\.b0\.", ".branch0."),
            (r"\.b([12])a\.", r".branch\1.0."),
            (r"\.b([12])b\.", r".branch\1.1."),
            (r"\.b3b\.", ".branch3.1."),
        ],
    )
    return renamed(tensors, [(r"\.conv3d\.", ".0."), (r"\.bn\.", ".1.")])


def _s3d_g(tensors: Tensors) -> Tensors:
    """The tower for text is left out."""
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("text_module.")}
    first = tensors.get("conv1.conv1.weight")
    if first is not None and first.shape[2:] == (2, 4, 4):
        # Written for TPUs: the pixels of each cell of 2 x 2 x 2 are channels, before the colours.
        cells = first.unflatten(1, (2, 2, 2, -1))  # [D, t, y, x, C, T, Y, X]
        tensors["conv1.conv1.weight"] = cells.permute(0, 4, 5, 1, 6, 2, 7, 3).reshape(len(first), -1, 4, 8, 8)
    tensors = renamed(
        tensors,
        [
            (r"^conv1\.", "features.0."),
            (r"^conv_(2[bc])\.", _place),
            (r"^gating\.", "features.3.2."),
            (r"^mixed_(\d[b-f])\.", _place),
            (r"^fc\.", "classifier."),
        ],
    )
    tensors = renamed(
        tensors,
        [
            (r"\.conv_b0\.", ".branch0."),
            (r"\.conv_b([12])_a\.", r".branch\1.0."),
            (r"\.conv_b([12])_b\.", r".branch\1.1."),
            (r"\.conv_b3_b\.", ".branch3.1."),
            (r"\.gating_b0\.", ".branch0.3."),
            (r"\.gating_b([123])\.", r".branch\1.2."),
        ],
    )
    separable = r"^(features\.3|features\.\d+\.branch[12]\.1)\.(conv|bn)([12])\."
    return renamed(
        tensors,
        [
            (separable, lambda m: f"{m[1]}.{int(m[3]) - 1}.{int(m[2] == 'bn')}."),
            (r"\.conv1\.", ".0."),
            (r"\.bn1\.", ".1."),
        ],
    )


def _p3d(tensors: Tensors) -> Tensors:
    return renamed(tensors, [(r"^fc\.", "classifier.")])


# The layers of C3D where they are numbered.
_C3D = {"features.0": "conv1", "features.3": "conv2", "features.6": "conv3a", "features.8": "conv3b"}
_C3D |= {"features.11": "conv4a", "features.13": "conv4b", "features.16": "conv5a", "features.18": "conv5b"}
_C3D |= {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}


def _c3d(tensors: Tensors) -> Tensors:
    """C3D from Caffe: it sees blue first."""
    tensors = renamed(tensors, [(r"^((?:features|classifier)\.\d+)(?=\.)", lambda m: _C3D.get(m[1], m[1]))])
    tensors = renamed(
        tensors,
        [
            (r"^conv([12])\.", r"conv\1a.conv."),
            (r"^(conv[345][ab])\.", r"\1.conv."),
            (r"^(fc[678])\.", r"classifier.\1."),
        ],
    )
    return {name: tensor.flip(1) if name == "conv1a.conv.weight" else tensor for name, tensor in tensors.items()}


_C3D_MEAN = tuple(channel / 255 for channel in (102, 98, 90)), (1 / 255,) * 3


def _tsn(tensors: Tensors) -> Tensors:
    """TSN of the authors of TSM, on torchvision's ResNet."""
    return renamed(
        {name.removeprefix("base_model."): tensor for name, tensor in tensors.items()},
        [
            (r"^conv1\.", "stem.0."),
            (r"^bn1\.", "stem.1."),
            (r"^(layer\d\.\d+)\.conv(\d)\.", r"\1.conv\2.0."),
            (r"^(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.1."),
            (r"^new_fc\.", "classifier."),
        ],
    )


def _tsm(tensors: Tensors) -> Tensors:
    """What sees shifted channels is wrapped."""
    return _tsn({name.replace(".conv1.net.", ".conv1."): tensor for name, tensor in tensors.items()})


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

LAYOUTS = (
    WeightLayout("timesformer", r"^blocks\.0\.temporal_attn\.", _timesformer),
    WeightLayout("pytorch-i3d", r"^Conv3d_1a_7x7\.conv3d\.", _i3d),
    WeightLayout("howto100m s3d-g", r"^conv_2c\.conv2\.", _s3d_g, {"space_to_depth": True}),
    WeightLayout("p3d", r"^conv1_custom\.", _p3d),
    WeightLayout("c3d", r"^(conv5b|features\.18)\.bias$", _c3d, {}, *_C3D_MEAN),
    WeightLayout("temporal-shift-module", r"\.conv1\.net\.", _tsm, {}, *_IMAGENET, encoders="tsm*"),
    WeightLayout("temporal-shift-module tsn", r"^base_model\.layer1\.", _tsn, {}, *_IMAGENET),
)
