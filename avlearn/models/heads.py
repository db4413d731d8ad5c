"""Readouts of an encoder's features beside its own: over larger frames, over time, and of boxes."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from avlearn.models.encoder import Encoder


def fully_convolutional(model: Encoder, features: Tensor, window: Sequence[int]) -> Tensor:
    """Class probabilities of a frame larger than those of the training, as the zoos of PySlowFast test it.

    Args:
        model: an encoder whose classifier is linear, in evaluation mode.
        features: ``[B, D, T, Y, X]``.
        window: steps, rows and columns of the features of a training clip.

    Returns:
        ``[B, classes]``: the mean over all places of the window of the probabilities there.
    """
    cells = F.avg_pool3d(features, tuple(window), 1)
    return model.classifier(cells.movedim(1, -1)).softmax(-1).mean((1, 2, 3))


def per_frame(model: Encoder, features: Tensor) -> Tensor:
    """Class scores over time: features ``[B, D, T, Y, X]`` to ``[B, T, classes]``; the classifier is linear."""
    return model.classifier(features.mean((3, 4)).movedim(1, 2))


class RoIHead(nn.Module):
    """Class scores of boxes, as for AVA (Gu et al., CVPR 2018; Feichtenhofer et al., ICCV 2019).

    Args:
        channels: of the features.
        num_classes: several may hold of one box: scores are for a sigmoid.
        stride: pixels of a step of the features.
        dropout: before the classifier.
        aligned: half-pixel alignment; weights that come from Caffe2 were trained without.
    """

    def __init__(self, channels: int, num_classes: int, stride: int, dropout: float = 0.5, aligned: bool = True):
        super().__init__()
        self.stride, self.aligned = stride, aligned
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Features ``[B, D, T, Y, X]`` and boxes ``[N, 5]`` (clip, left, top, right, bottom in pixels) to
        ``[N, classes]``."""
        pooled = roi_align(features.mean(2), boxes, 7, 1 / self.stride, aligned=self.aligned)
        return self.classifier(self.dropout(pooled.amax((2, 3))))
