"""ResNet-18 (He et al., CVPR 2016) over log-mel spectrograms, torchvision's blocks."""

from torch import Tensor, nn
from torchvision.models import resnet18 as torchvision_resnet18

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register


class ResNet(Encoder):
    """``[B, 1, F, N]`` to ``[B, 512, N // 8]``: frequency averaged, time kept at an eighth."""

    def __init__(self) -> None:
        super().__init__()
        net = torchvision_resnet18(weights=None)
        stem = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(stem, net.bn1, net.relu, net.maxpool)
        self.layers = nn.Sequential(net.layer1, net.layer2, net.layer3, net.layer4)
        # Published strides would leave a step of 32 frames; the last two halve frequency only.
        for layer in (net.layer3, net.layer4):
            for module in layer.modules():
                if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                    module.stride = (2, 1)
        self.feature_info = FeatureInfo(512, (8, 0, 0))

    def forward_features(self, x: Tensor) -> Tensor:
        frames = x.shape[-1] // 8 * 8
        return self.layers(self.stem(x[..., :frames])).mean(2)


@register(Spec("audio", "He et al., CVPR 2016; one input channel, time stride 8", 11_170_240))
def resnet18() -> ResNet:
    """18 layers."""
    return ResNet()
