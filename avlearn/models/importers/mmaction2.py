"""Names of mmaction2's weights."""

from avlearn.models.importers.layout import Layout, Rename, Tensors, renamed


def _residual(tensors: Tensors) -> Tensors:
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
    return renamed(
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


def _c3d(tensors: Tensors) -> Tensors:
    return renamed(_residual(tensors), [(r"^classifier\.(weight|bias)$", r"classifier.fc8.\1")])


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CSN = (0.43216, 0.39467, 0.37645), (0.22803, 0.22145, 0.21699)  # as its authors'; the base file of 1.x overrides it
_C3D = tuple(channel / 255 for channel in (104, 117, 128)), (1 / 255,) * 3

LAYOUTS = (
    Layout("mmaction2 c3d", r"^backbone\.conv1a\.", _c3d, {}, *_C3D),
    Layout("mmaction2 csn", r"^backbone\.layer1\.0\.conv2\.0\.", _residual, {"eps": 1e-3}, *_CSN),
    Layout("mmaction2", r"^backbone\.conv1\.", _residual, {}, *_IMAGENET),
)
