"""Names of torchvision's weights, and of VMZ's in PyTorch."""

from avlearn.models.weights.importers.layout import Tensors, WeightLayout, renamed


def _classifier_named(tensors: Tensors) -> Tensors:
    return renamed(tensors, [(r"^(fc|head\.1|head|classifier\.1)\.", "classifier.")])


LAYOUTS = (
    # MViT calls its classifier head.1, Swin head, S3D classifier.1 (a 1 x 1 x 1 convolution), the others fc.
    WeightLayout("torchvision", r"^(fc|head\.1|head|classifier\.1)\.", _classifier_named),
)
