"""The classifier of the first deep networks: two hidden linear layers over a fixed number of cells, and a last one."""

from collections import OrderedDict

from torch import nn

from avlearn.models.encoder import Encoder


class HiddenLayers(Encoder):
    """An encoder with such a classifier, whose layers are ``fc6``, ``fc7`` and ``fc8``.

    Attributes:
        cells: of the features that ``fc6`` sees.
        hidden: channels of ``fc6`` and ``fc7``.
    """

    cells: int
    hidden: tuple[int, int]

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """A layer as it begins."""
        return nn.Linear(inputs, outputs)

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put a new last layer on the two hidden linear layers, or take all three off (None or 0)."""
        if not num_classes:
            self.classifier = nn.Identity()
            return
        first, second = self.hidden
        if isinstance(self.classifier, nn.Identity):
            layers = OrderedDict(
                fc6=self.linear(self.num_features * self.cells, first),
                relu6=nn.ReLU(inplace=True),
                dropout6=self.dropout,
                fc7=self.linear(first, second),
                relu7=nn.ReLU(inplace=True),
                dropout7=self.dropout,
            )
            self.classifier = nn.Sequential(layers)
        self.classifier.add_module("fc8", self.linear(second, num_classes))
