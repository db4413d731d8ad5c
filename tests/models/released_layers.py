"""Names and shapes of layers in released files, and what they compute."""

import torch
from torch import Tensor
from torch.nn import functional as F

Shapes = dict[str, tuple[int, ...]]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def norm(name: str, channels: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def biased(name: str, *shape: int, transposed: bool = False) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": (shape[transposed],)}


def resnet(name: str) -> Shapes:
    """A ResNet-18 by the numbers of its layers."""
    shapes = {f"{name}.0.weight": (64, 3, 7, 7)} | norm(f"{name}.1", 64)
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), 4):
        for i in range(2):
            block = f"{name}.{stage}.{i}."
            shapes |= {f"{block}conv1.weight": (width, inputs, 3, 3), f"{block}conv2.weight": (width, width, 3, 3)}
            shapes |= norm(f"{block}bn1", width) | norm(f"{block}bn2", width)
            if inputs != width:
                shapes[f"{block}downsample.0.weight"] = (width, inputs, 1, 1)
                shapes |= norm(f"{block}downsample.1", width)
            inputs = width
    return shapes


class Layers:
    """The layers by their released names."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var, scale, shift = (
            self.tensors[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def conv(self, name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"), **options)

    def resnet(self, name: str, image: Tensor, dilated: bool = False) -> Tensor:
        x = self.conv(f"{name}.0", (image - MEAN) / STD, stride=2, padding=3)
        x = F.max_pool2d(self.norm(f"{name}.1", x).relu(), 3, 2, 1)
        for stage in range(4, 8):
            wide = 2 if dilated and stage == 7 else 1
            for i in range(2):
                block = f"{name}.{stage}.{i}."
                stride = 2 if i == 0 and stage > 4 and wide == 1 else 1
                # The first convolution of a stage that lost its stride keeps its reach.
                reach = 1 if i == 0 else wide
                y = self.conv(f"{block}conv1", x, stride=stride, padding=reach, dilation=reach)
                y = self.conv(f"{block}conv2", self.norm(f"{block}bn1", y).relu(), padding=wide, dilation=wide)
                if f"{block}downsample.0.weight" in self.tensors:
                    x = self.norm(f"{block}downsample.1", self.conv(f"{block}downsample.0", x, stride=stride))
                x = (x + self.norm(f"{block}bn2", y)).relu()
        return x
