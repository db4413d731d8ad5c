"""CNN-M-2048 (Chatfield et al., BMVC 2014) and VGG-16 (ICLR 2015) of frames, and of stacks of optical flow.

The spatial and temporal networks of Simonyan & Zisserman (NIPS 2014), and of Feichtenhofer et al. (CVPR 2016). Edges
are padded so that a cell of the map is 32 pixels of any frame; CNN-M's linear layers see the 6 x 6 cells of the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.flow_stack import of_flow, stack_conv
from avlearn.models.video.frame_fusion import ResponseNorm
from avlearn.models.video.hidden_layers import HiddenLayers
from avlearn.models.video.resnet import init_weights
from avlearn.signal.flow.two_stream import subtract_mean_flow

_MEAN, _FLOW_MEAN, _STD = (123.68 / 255, 116.779 / 255, 103.939 / 255), 0.5, 1 / 255


@dataclass(frozen=True)
class Plan:
    """Layers of a network.

    Attributes:
        blocks: channels, kernel and stride of each convolution, by resolution; a maximum follows each block.
        norms: how many convolutions, from the first on, are followed by a norm over channels.
        pool: side of what the maximum is taken of.
        cells: rows and columns that the linear layers see.
        hidden: channels between the linear layers.
    """

    blocks: tuple[tuple[tuple[int, int, int], ...], ...]
    norms: int
    pool: int
    cells: int
    hidden: tuple[int, int]

    def narrowed(self, factor: int) -> "Plan":
        """With so many times fewer channels."""
        blocks = tuple(tuple((c // factor, k, s) for c, k, s in block) for block in self.blocks)
        return Plan(blocks, self.norms, self.pool, self.cells, (self.hidden[0] // factor, self.hidden[1] // factor))


CNN_M = Plan((((96, 7, 2),), ((256, 5, 2),), ((512, 3, 1),) * 3), 2, 3, 6, (4096, 2048))
VGG_16 = Plan(
    tuple(((channels, 3, 1),) * count for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))),
    0, 2, 7, (4096, 4096),
)  # fmt: skip


class FrameVGG(HiddenLayers):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, D, T / flows, H / 32, W / 32]``; scores are averaged over time.

    Args:
        plan: the layers.
        flows: frames of flow that the first convolution sees at once, L; 1 of images.
        in_chans: 3 of colours; 2 of flow, from which the mean motion of each frame is subtracted.
        dropout: of the linear layers.
    """

    def __init__(self, plan: Plan, flows: int = 1, in_chans: int = 3, dropout: float = 0.5) -> None:
        colours = in_chans == 3
        super().__init__(_MEAN if colours else (_FLOW_MEAN,) * in_chans, (_STD,) * in_chans, dropout)
        self.plan, self.moves = plan, not colours
        self.hidden, self.cells = plan.hidden, plan.cells**2
        inputs, space, number, info = in_chans, 1, 0, []
        for i, block in enumerate(plan.blocks):
            layers: list[nn.Module] = [self._pool()] if i else []
            space *= 2 if i else 1
            for outputs, kernel, stride in block:
                first = stack_conv(inputs, outputs, kernel, flows if number == 0 else 1, stride, bias=True)
                layers += [first, nn.ReLU(inplace=True)]
                if number < plan.norms:
                    layers.append(ResponseNorm())
                inputs, space, number = outputs, space * stride, number + 1
            self.add_module(f"conv{i + 1}", nn.Sequential(*layers))
            info.append(FeatureInfo(inputs, (flows, space, space), f"conv{i + 1}"))
        self.pool5 = self._pool()
        stride_of_map = (flows, 2 * space, 2 * space)
        self.stage_info = (*info, FeatureInfo(inputs, stride_of_map, "pool5"))
        self.feature_info = FeatureInfo(inputs, stride_of_map)
        self.frame_multiple = flows
        self.least_side = 1 if plan.pool == 3 else 2 * space
        init_weights(self)

    def _pool(self) -> nn.MaxPool3d:
        side = self.plan.pool
        return nn.MaxPool3d((1, side, side), (1, 2, 2), (0, side // 2 if side % 2 else 0, side // 2 if side % 2 else 0))

    def normalized(self, x: Tensor) -> Tensor:
        x = super().normalized(x)
        return subtract_mean_flow(x) if self.moves else x

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(info.name, self.get_submodule(info.name)) for info in self.stage_info]

    def forward_head(self, features: Tensor) -> Tensor:
        if isinstance(self.classifier, nn.Identity):
            return features.mean((2, 3, 4))
        side = self.plan.cells
        cells = F.adaptive_avg_pool2d(features.transpose(1, 2).flatten(0, 1), side).flatten(1)
        return self.classifier(cells).unflatten(0, (len(features), -1)).mean(1)


_TWO_STREAM = "Simonyan & Zisserman, NIPS 2014"
_FUSION = "Feichtenhofer et al., CVPR 2016"
_NOTE = "101 classes of UCF101; scores of all stacks are averaged"


@register(Spec("video", _TWO_STREAM, 90_627_813, 101, (1, 224, 224), 1.899, note=_NOTE, stride=1, resize=256))
def spatial_cnn_m(in_chans: int = 3) -> FrameVGG:
    """The spatial stream: CNN-M-2048 on every frame."""
    return FrameVGG(CNN_M, 1, in_chans, 0.9)


@register(
    Spec("video", _TWO_STREAM, 90_707_781, 101, (10, 224, 224), 2.902, note=_NOTE, stride=1, resize=256, takes="flow")
)
def temporal_cnn_m(flows: int = 10, flow_method: str = "lucas_kanade", in_chans: int = 2) -> FrameVGG:
    """The temporal stream: CNN-M-2048 on the flow of each ten frames, less its mean; with one norm, as published.

    Stacks along trajectories, or of both directions (`avlearn.signal.flow`), it takes with ``in_chans=20, flows=1``.
    """
    plan = Plan(CNN_M.blocks, 1, CNN_M.pool, CNN_M.cells, CNN_M.hidden)
    return of_flow(FrameVGG(plan, flows, in_chans, 0.9), flow_method)


@register(Spec("video", _FUSION, 134_674_341, 101, (1, 224, 224), 15.467, note=_NOTE, stride=1, resize=256))
def spatial_vgg16(in_chans: int = 3) -> FrameVGG:
    """VGG-16 on every frame."""
    return FrameVGG(VGG_16, 1, in_chans, 0.85)


@register(
    Spec("video", _FUSION, 134_684_133, 101, (10, 224, 224), 15.958, note=_NOTE, stride=1, resize=256, takes="flow")
)
def temporal_vgg16(flows: int = 10, flow_method: str = "lucas_kanade", in_chans: int = 2) -> FrameVGG:
    """VGG-16 on the flow of each ten frames, less its mean."""
    return of_flow(FrameVGG(VGG_16, flows, in_chans, 0.9), flow_method)
