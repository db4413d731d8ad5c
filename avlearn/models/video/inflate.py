"""Networks for images turned into networks for video: inflation (Carreira and Zisserman, CVPR 2017) of timm's CNNs.

Not registered: there are hundreds of them. `inflate` makes one by timm's name. `load_image_weights` begins an encoder
on the plan of a 2-D ResNet (C2D, I3D, Slow) from one's weights.
"""

from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.layers import Conv2dSame, pad_same
from timm.models import adapt_input_conv, create_feature_extractor
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import Report, load_weights
from avlearn.models.weights.importers.layout import Tensors, WeightLayout, renamed

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class InflatedConv(nn.Conv3d):
    """A convolution over images and ``time`` frames, made of one over images: ``[B T, C, H, W]`` to the same.

    Every frame has the weights of the image, divided by their number, and the first and last frames are repeated
    beyond the ends, so that a video without motion gives what the image gives.
    """

    def __init__(self, flat: nn.Conv2d, time: int) -> None:
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            (time, flat.kernel_size[0], flat.kernel_size[1]),
            (1, flat.stride[0], flat.stride[1]),
            (0, *flat.padding),
            (1, flat.dilation[0], flat.dilation[1]),
            flat.groups,
            flat.bias is not None,
        )
        self.same = isinstance(flat, Conv2dSame)
        with torch.no_grad():
            self.weight.copy_(flat.weight.unsqueeze(2).expand_as(self.weight) / time)
            if flat.bias is not None and self.bias is not None:
                self.bias.copy_(flat.bias)

    def forward(self, x: Tensor, frames: int = 1) -> Tensor:
        if self.same:
            x = pad_same(x, list(self.kernel_size[1:]), list(self.stride[1:]), list(self.dilation[1:]))
        x = x.unflatten(0, (-1, frames)).transpose(1, 2)  # [B, C, T, H, W]
        reach = self.kernel_size[0] // 2
        x = F.pad(x, (0, 0, 0, 0, reach, reach), "replicate")
        return super().forward(x).transpose(1, 2).flatten(0, 1)


class Inflated(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, D, T, H / 32, W / 32]``, for most networks.

    Layers that have no kernel over space see single frames, so that batch norm counts all frames of a batch, while
    what averages over an image (squeeze and excitation) averages over each frame.
    """

    def __init__(
        self, name: str, time: int, in_chans: int, pretrained: bool, weights: str | Path | Tensors | None
    ) -> None:
        if time < 1 or time % 2 == 0:
            raise ModelError(f"time is an odd number of frames, not {time}")
        # Any, for what timm gives its networks is no attribute of every module.
        flat: Any = timm.create_model(name, pretrained=pretrained, in_chans=in_chans, num_classes=0)
        if not hasattr(flat, "feature_info"):
            raise ModelError(f"timm does not say where the stages of '{name}' are")
        if weights is not None:
            first = flat.pretrained_cfg["first_conv"]
            flat_layout = WeightLayout("timm", "", lambda tensors: _of_channels(tensors, f"{first}.weight", in_chans))
            load_weights(flat, _tensors(weights), flat_layout)
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
        stages = self.run(self.net, self.prepared(x).transpose(1, 2).flatten(0, 1), frames)
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
    graph = cast(torch.fx.Graph, net.eval_graph)
    image = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(image):
        frames = graph.placeholder("frames")
    for node in graph.nodes:
        if node.op == "call_module" and node.target in kernels:
            node.args = (*node.args, frames)
    return torch.fx.GraphModule(net, graph)


def inflate(
    name: str,
    time: int = 3,
    in_chans: int = 3,
    pretrained: bool = False,
    weights: str | Path | Tensors | None = None,
) -> Inflated:
    """A network for video from one for images.

    Args:
        name: timm's, of a convolutional network.
        time: frames that each convolution with a kernel over space sees; odd.
        in_chans: channels of the input.
        pretrained: with timm's weights, which it fetches.
        weights: a file of timm's weights for the network, or what is in it (torchvision's, where the names are the
            same: ResNet, DenseNet); its classifier is left out.

    Raises:
        ModelError: the network has layers that cannot be inflated, or parameters that are not in the file.
    """
    return Inflated(name, time, in_chans, pretrained, weights)


def load_image_weights(model: Encoder, weights: str | Path | Tensors) -> Report:
    """Give an encoder the weights of the network for images that it was inflated from, and its mean and std.

    A video without motion then gives what the image gives, but near the first and last frames, beyond which encoders
    see zeros. Non-local blocks, which begin as identities, and a classifier stay as they are.

    Args:
        model: of convolutions over images on the plan of a ResNet: C2D, I3D or Slow.
        weights: a file of torchvision's or timm's ResNet of as many layers, trained on ImageNet; or what is in it.

    Raises:
        ModelError: parameters of the encoder are not in the file; their groups are named.
    """
    wanted = model.state_dict()

    def rename(tensors: Tensors) -> Tensors:
        tensors = renamed(
            tensors,
            [
                (r"^conv1\.", "stem.0."),
                (r"^bn1\.", "stem.1."),
                (r"^(layer\d\.\d+)\.conv(\d)\.", r"\1.conv\2.0."),
                (r"^(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.1."),
            ],
        )
        if "stem.0.weight" in wanted:
            tensors = _of_channels(tensors, "stem.0.weight", wanted["stem.0.weight"].shape[1])
        own = {name: wanted[name] for name in wanted if name.startswith("classifier.") or ".nonlocal_block." in name}
        return {name: _over_time(tensor, wanted.get(name)) for name, tensor in tensors.items()} | own

    return load_weights(model, _tensors(weights), WeightLayout("images", "", rename, {}, *_IMAGENET))


def _tensors(weights: str | Path | Tensors) -> Tensors:
    return weights if isinstance(weights, dict) else read_tensors(weights)


def _of_channels(tensors: Tensors, first: str, in_chans: int) -> Tensors:
    """With the first convolution for so many channels, as timm makes it of one for colours."""
    if first not in tensors:
        return tensors
    return {**tensors, first: adapt_input_conv(in_chans, tensors[first])}


def _over_time(flat: Tensor, wanted: Tensor | None) -> Tensor:
    """``[D, C, Y, X]`` to ``[D, C, T, Y, X]`` of an encoder: all frames alike, with the same sum."""
    if wanted is None or wanted.ndim != 5 or flat.ndim != 4:
        return flat
    time = wanted.shape[2]
    return flat.unsqueeze(2).expand(-1, -1, time, -1, -1) / time
