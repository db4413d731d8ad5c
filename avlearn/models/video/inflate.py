"""Networks for images turned into networks for video: inflation (Carreira and Zisserman, CVPR 2017) of timm's CNNs.

Not registered: there are hundreds of them. `inflate` makes one by timm's name.
"""

import timm
import torch
from timm.layers import Conv2dSame, pad_same
from timm.models import create_feature_extractor
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder, FeatureInfo


class InflatedConv(nn.Conv3d):
    """A convolution over images and ``time`` frames, made of one over images: ``[B T, C, H, W]`` to the same.

    Every frame has the weights of the image, divided by their number, and the first and last frames are repeated
    beyond the ends, so that a video without motion gives what the image gives.
    """

    def __init__(self, flat: nn.Conv2d, time: int) -> None:
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            (time, *flat.kernel_size),
            (1, *flat.stride),
            (0, *flat.padding),
            (1, *flat.dilation),
            flat.groups,
            flat.bias is not None,
        )
        self.same = isinstance(flat, Conv2dSame)
        with torch.no_grad():
            self.weight.copy_(flat.weight.unsqueeze(2).expand_as(self.weight) / time)
            if flat.bias is not None:
                self.bias.copy_(flat.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        if self.same:
            x = pad_same(x, self.kernel_size[1:], self.stride[1:], self.dilation[1:])
        x = x.unflatten(0, (-1, frames)).transpose(1, 2)  # [B, C, T, H, W]
        reach = self.kernel_size[0] // 2
        x = F.pad(x, (0, 0, 0, 0, reach, reach), "replicate")
        return super().forward(x).transpose(1, 2).flatten(0, 1)


class Inflated(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, D, T, H / 32, W / 32]``, for most networks.

    Layers that have no kernel over space see single frames, so that batch norm counts all frames of a batch, while
    what averages over an image (squeeze and excitation) averages over each frame.
    """

    def __init__(self, name: str, time: int, in_chans: int, pretrained: bool) -> None:
        if time < 1 or time % 2 == 0:
            raise ModelError(f"time is an odd number of frames, not {time}")
        flat = timm.create_model(name, pretrained=pretrained, in_chans=in_chans, num_classes=0)
        if not hasattr(flat, "feature_info"):
            raise ModelError(f"timm does not say where the stages of '{name}' are")
        mean, std = flat.pretrained_cfg["mean"], flat.pretrained_cfg["std"]
        if len(mean) != in_chans:
            mean, std = (sum(mean) / len(mean),) * in_chans, (sum(std) / len(std),) * in_chans
        super().__init__(tuple(mean), tuple(std))
        self.stage_info = tuple(
            FeatureInfo(stage["num_chs"], (1, stage["reduction"], stage["reduction"]), stage["module"])
            for stage in flat.feature_info
        )
        self.feature_info = FeatureInfo(self.stage_info[-1].channels, self.stage_info[-1].stride)
        self.net = _inflated(create_feature_extractor(flat, [info.name for info in self.stage_info]), time)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        frames = x.shape[2]
        stages = self.run(self.net, self.normalized(x).transpose(1, 2).flatten(0, 1), frames)
        return {name: stage.unflatten(0, (-1, frames)).transpose(1, 2) for name, stage in stages.items()}

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_stages(x)[self.stage_info[-1].name]


def _inflated(net: nn.Module, time: int) -> torch.fx.GraphModule:
    """Convolutions with a kernel over space get one over time, and the number of frames as an argument."""
    convs = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    kernels = {name: module for name, module in convs.items() if module.kernel_size != (1, 1)}
    for name, module in kernels.items():
        if type(module) not in (nn.Conv2d, Conv2dSame) or isinstance(module.padding, str):
            raise ModelError(f"cannot inflate {type(module).__name__} ({name})")
        net.set_submodule(name, InflatedConv(module, time))
    # Its two graphs, for training and after it, differ in functional dropout alone, which no rate is given for.
    graph = net.eval_graph
    image = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(image):
        frames = graph.placeholder("frames")
    for node in graph.nodes:
        if node.op == "call_module" and node.target in kernels:
            node.args = (*node.args, frames)
    return torch.fx.GraphModule(net, graph)


def inflate(name: str, time: int = 3, in_chans: int = 3, pretrained: bool = False) -> Inflated:
    """A network for video from one for images.

    Args:
        name: timm's, of a convolutional network.
        time: frames that each convolution with a kernel over space sees; odd.
        in_chans: channels of the input.
        pretrained: with timm's weights.

    Raises:
        ModelError: the network has layers that cannot be inflated.
    """
    return Inflated(name, time, in_chans, pretrained)
