"""ResNets (He et al., CVPR 2016) over log spectrograms, of torchvision's blocks.

Parameters of a checkpoint of torchvision lie in ``stem.0`` (``conv1``), ``stem.1`` (``bn1``) and ``layers.{0..3}``
(``layer{1..4}``).
"""

from collections.abc import Sequence

from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.resnet import ResNet as TorchvisionResNet

from avlearn.models.audio.stages import AudioEncoder
from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register


class ResNet(AudioEncoder):
    """``[B, 1, F, N]`` to ``[B, 512, N // temporal_stride]``: frequency averaged.

    Args:
        blocks: of each stage, of two convolutions each.
        temporal_stride: 8, 16 or 32 (as published) frames a step: the last stages halve frequency only.
    """

    def __init__(self, blocks: tuple[int, int, int, int] = (2, 2, 2, 2), temporal_stride: int = 8) -> None:
        super().__init__()
        if temporal_stride not in (8, 16, 32):
            raise ValueError(f"temporal_stride is 8, 16 or 32, not {temporal_stride}")
        net = TorchvisionResNet(BasicBlock, list(blocks))
        stem = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(stem, net.bn1, net.relu, net.maxpool)
        self.layers = nn.Sequential(net.layer1, net.layer2, net.layer3, net.layer4)
        for layer, published in ((net.layer3, 16), (net.layer4, 32)):
            for module in layer.modules():
                if isinstance(module, nn.Conv2d) and module.stride == (2, 2) and published > temporal_stride:
                    module.stride = (2, 1)
        self.feature_info = FeatureInfo(512, (temporal_stride, 0, 0))
        groups = (FeatureInfo(64 << i, (min(4 << i, temporal_stride), 4 << i, 0), f"layers.{i}") for i in range(4))
        self.stage_info = (FeatureInfo(64, (4, 4, 0), "stem"), *groups)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(info.name, self.get_submodule(info.name)) for info in self.stage_info]


_NOTE = "one input channel; time stride 8 where 32 was published; parameters without the classifier"
_GDT = {"n_fft": 1024, "window": 0.02, "mels": 40}
_MELS = {"mels": 80}


@register(
    Spec("audio", "Patrick et al., ICCV 2021 (GDT)", 4_899_520, None, (40, 200), 0.324, note=_NOTE, front_end=_GDT)
)
def resnet9(temporal_stride: int = 8) -> ResNet:
    """9 layers; 40 log-mel bands, window 20 ms, hop 10 ms, 24 kHz.

    The weights of GDT and SeLaVi (Asano et al., NeurIPS 2020) are for ``temporal_stride=32``, of which only whole steps
    are seen: 96 of the 99 frames of their second. GDT's saw log energies of 16-bit samples, less 1.93 and over 17.89;
    SeLaVi's 257 bands at 48 kHz.
    """
    return ResNet((1, 1, 1, 1), temporal_stride)


@register(Spec("audio", "He et al., CVPR 2016", 11_170_240, None, (257, 300), 5.522, note=_NOTE, front_end=_MELS))
def resnet18() -> ResNet:
    """18 layers; for audio in LVS (Chen et al., CVPR 2021): 257 bins, window 32 ms, hop 14.9 ms, 16 kHz."""
    return ResNet((2, 2, 2, 2))


@register(Spec("audio", "He et al., CVPR 2016", 21_278_400, None, (257, 300), 11.136, note=_NOTE, front_end=_MELS))
def resnet34() -> ResNet:
    """34 layers; for audio in VGGSound (Chen et al., ICASSP 2020): 257 bins, window 32 ms, hop 10 ms, 16 kHz."""
    return ResNet((3, 4, 6, 3))
