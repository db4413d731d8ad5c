"""FlowNetS and FlowNetC (Dosovitskiy et al., ICCV 2015): optical flow by convolutions alone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_REACH, _STRIDE = 20, 2  # of the correlation: places of the third layer's output, every second of them
_SCALE = 20.0  # pixels: what an output of 1 means
_MULTIPLE = 64  # of both sides of what the network sees: it halves six times
# Means of the colours of Flying Chairs, as FlowNetPytorch takes them away.
_CHAIRS = (0.411, 0.432, 0.45)


@dataclass(frozen=True)
class FlowNetSpec:
    """What sets released variants apart; by default as in Caffe and in NVIDIA's flownet2-pytorch.

    Attributes:
        correlation: FlowNetC: the frames go through the first layers apart, and are then compared; else FlowNetS.
        batch_norm: after each convolution of the contracting part, which then has no biases.
        head_bias: whether predictions and upconvolutions have biases.
        upsample_bias: whether the upsampling of flows has.
        own_mean: the mean of the two frames is taken away from them; else that of Flying Chairs.
    """

    correlation: bool
    batch_norm: bool = False
    head_bias: bool = True
    upsample_bias: bool = False
    own_mean: bool = True


class FlowNet(nn.Module):
    """The network, its modules named as in both PyTorch releases, which have the same names."""

    def __init__(self, spec: FlowNetSpec) -> None:
        super().__init__()
        self.spec = spec
        norm, bias = spec.batch_norm, spec.head_bias
        self.conv1 = _conv(3 if spec.correlation else 6, 64, 7, 2, norm)
        self.conv2 = _conv(64, 128, 5, 2, norm)
        self.conv3 = _conv(128, 256, 5, 2, norm)
        if spec.correlation:
            self.conv_redir = _conv(256, 32, 1, 1, norm)
        compared = 32 + (2 * _REACH // _STRIDE + 1) ** 2
        self.conv3_1 = _conv(compared if spec.correlation else 256, 256, 3, 1, norm)
        for level, (before, after) in enumerate([(256, 512), (512, 512), (512, 1024)], 4):
            self.add_module(f"conv{level}", _conv(before, after, 3, 2, norm))
            self.add_module(f"conv{level}_1", _conv(after, after, 3, 1, norm))
        # Of the expanding part: channels of the encoder's features, of those from below, and of the flow from below.
        channels = {6: 1024, 5: 512 + 512 + 2, 4: 512 + 256 + 2, 3: 256 + 128 + 2, 2: 128 + 64 + 2}
        for level, width in channels.items():
            self.add_module(f"predict_flow{level}", nn.Conv2d(width, 2, 3, padding=1, bias=bias))
        for level, width in {5: 512, 4: 256, 3: 128, 2: 64}.items():
            self.add_module(f"deconv{level}", _deconv(channels[level + 1], width, bias))
            upsample = nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=spec.upsample_bias)
            self.add_module(f"upsampled_flow{level + 1}_to_{level}", upsample)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, 0.1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_levels(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """Flows of every level, for training, from a quarter of the size to a 64th, in units of 20 pixels.

        Args:
            first, second: float ``[B, 3, H, W]``, as the network takes them; both sides multiples of 64.
        """
        features = self._encode(first, second)
        flow = self._part("predict_flow", 6)(features[6])
        flows, below = [flow], features[6]
        for level in (5, 4, 3, 2):
            raised = getattr(self, f"upsampled_flow{level + 1}_to_{level}")(flow)
            below = torch.cat([features[level], self._part("deconv", level)(below), raised], 1)
            flow = self._part("predict_flow", level)(below)
            flows.insert(0, flow)
        return flows

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow ``[B, 2, H, W]``, pixels along x and y, of frames ``[B, 3, H, W]``, RGB, 0 to 255, of any size."""
        height, width = first.shape[2:]
        frames = torch.stack([first, second]).float() / 255
        mean = frames.mean((0, 3, 4)) if self.spec.own_mean else frames.new_tensor(_CHAIRS).expand(len(first), 3)
        beyond = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        one, other = (F.pad(each, beyond, mode="replicate") for each in frames - mean[:, :, None, None])
        flow = self.forward_levels(one, other)[0] * _SCALE
        whole = F.interpolate(flow, scale_factor=4, mode="bilinear", align_corners=False)
        return whole[..., :height, :width]

    def _encode(self, first: Tensor, second: Tensor) -> dict[int, Tensor]:
        """Features by the number of halvings, from 2 to 6."""
        if self.spec.correlation:
            apart = self.conv2(self.conv1(torch.cat([first, second])))
            deeper = self.conv3(apart)
            fine, one, other = apart[: len(first)], deeper[: len(first)], deeper[len(first) :]
            compared = F.leaky_relu(correlation(one, other), 0.1)
            features = self.conv3_1(torch.cat([self.conv_redir(one), compared], 1))
        else:
            fine = self.conv2(self.conv1(torch.cat([first, second], 1)))
            features = self.conv3_1(self.conv3(fine))
        found = {2: fine, 3: features}
        for level in (4, 5, 6):
            features = getattr(self, f"conv{level}_1")(self._part("conv", level)(features))
            found[level] = features
        return found

    def _part(self, name: str, level: int) -> nn.Module:
        part: nn.Module = getattr(self, f"{name}{level}")
        return part


def correlation(one: Tensor, other: Tensor, reach: int = _REACH, stride: int = _STRIDE) -> Tensor:
    """Mean over channels of the products of each place with those around it in the other: ``[B, D * D, H, W]``.

    Args:
        one, other: ``[B, C, H, W]``; beyond its edges, ``other`` is 0.
        reach: places to each side, from -reach to reach every ``stride``: D of them, the rows outside.
    """
    height, width = one.shape[2:]
    around = F.pad(other, (reach,) * 4)
    steps = range(0, 2 * reach + 1, stride)
    products = [
        (one * around[:, :, down : down + height, across : across + width]).mean(1)
        for down in steps
        for across in steps
    ]
    return torch.stack(products, 1)


def _conv(before: int, after: int, kernel: int, stride: int, norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=not norm)
    return nn.Sequential(conv, *([nn.BatchNorm2d(after)] if norm else []), nn.LeakyReLU(0.1))


def _deconv(before: int, after: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(before, after, 4, 2, 1, bias=bias), nn.LeakyReLU(0.1))
