"""Convolutions that recur over time (Ballas et al., ICLR 2016): a cell at every place of a map, and networks of them.

The weights of a cell are convolutions: of the layer below (``input``), and of its own last state (``state``).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.resnet import init_weights, statistics

Cell = Literal["rnn", "gru", "lstm"]
_GATES = {"rnn": 1, "gru": 3, "lstm": 4}


class ConvRecurrence(nn.Module):
    """``[B, C, T, Y, X]`` to the states ``[B, D, T, Y / stride, X / stride]``, each of its frame and all before it.

    Of ``rnn``, the state is tanh(W x + U h). Gates of ``gru`` are update, reset and candidate, as in the paper: the
    reset state is convolved, and the update is the candidate's share. Those of ``lstm`` are in, forget, cell and out.

    Args:
        cell: its kind.
        kernel: rows and columns of both convolutions; odd.
        stride: of the input's.
        norm: what the input's convolution gives is normalized over the batch, what the state's gives is not (Laurent
            et al., ICASSP 2016).
    """

    def __init__(
        self, cell: Cell, inputs: int, hidden: int, kernel: int = 3, stride: int = 1, norm: bool = False
    ) -> None:
        super().__init__()
        self.cell, self.hidden, gates = cell, hidden, _GATES[cell]
        padding = kernel // 2
        self.input = Conv3d(inputs, gates * hidden, (1, kernel, kernel), (1, stride, stride), (0, padding, padding))
        self.norm = nn.BatchNorm3d(gates * hidden) if norm else nn.Identity()
        self.state = nn.Conv2d(hidden, gates * hidden, kernel, padding=padding, bias=False)
        for gate in self.state.weight.chunk(gates):
            nn.init.orthogonal_(gate)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One frame.

        Args:
            x: the convolved input ``[B, gates D, Y, X]``.
            state: ``[B, D, Y, X]``; of ``lstm``, beside it, what the cell holds.
        """
        h = state[0]
        if self.cell == "rnn":
            return (torch.tanh(x + self.state(h)),)
        if self.cell == "gru":
            gates, candidate = self.state.weight.tensor_split([2 * self.hidden])
            padding = self.state.padding
            update, reset = (x[:, : -self.hidden] + F.conv2d(h, gates, padding=padding)).sigmoid().chunk(2, 1)
            new = torch.tanh(x[:, -self.hidden :] + F.conv2d(reset * h, candidate, padding=padding))
            return (h + update * (new - h),)
        into, forget, new, out = (x + self.state(h)).chunk(4, 1)
        held = forget.sigmoid() * state[1] + into.sigmoid() * torch.tanh(new)
        return out.sigmoid() * torch.tanh(held), held

    def forward(self, x: Tensor) -> Tensor:
        frames = self.norm(self.input(x)).unbind(2)
        nothing = frames[0].new_zeros(len(x), self.hidden, *frames[0].shape[2:])
        state: tuple[Tensor, ...] = (nothing, nothing) if self.cell == "lstm" else (nothing,)
        states = []
        for frame in frames:
            state = self.step(frame, state)
            states.append(state[0])
        return torch.stack(states, 2)


class RecurrentCNN(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, D, T, H / 16, W / 16]``, of four layers. The last step is classified.

    Args:
        cell: of every layer.
        widths: channels of the layers, each of which halves rows and columns.
    """

    def __init__(self, cell: Cell = "gru", widths: Sequence[int] = (16, 32, 64, 128), in_chans: int = 3) -> None:
        super().__init__((0.45,) * in_chans, (0.225,) * in_chans)
        inputs = (in_chans, *widths)
        self.layers = nn.ModuleList(
            ConvRecurrence(cell, i, o, stride=2, norm=True) for i, o in zip(inputs, widths, strict=False)
        )
        self.stage_info = tuple(
            FeatureInfo(width, (1, 2**i, 2**i), f"layers.{i - 1}") for i, width in enumerate(widths, 1)
        )
        self.feature_info = FeatureInfo(widths[-1], self.stage_info[-1].stride)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        return [(info.name, layer) for info, layer in zip(self.stage_info, self.layers, strict=True)]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(self.dropout(features[:, :, -1].mean((2, 3))))


class MapRecurrences(nn.Module):
    """Recurrences, one over each of a network's maps: all of GRU-RCN that learns where maps are given or frozen.

    Their states, averaged to one grid, lie side by side.

    Args:
        channels, hidden: of the maps, and of the states over each.
        kernels: of each recurrence.
    """

    def __init__(self, cell: Cell, channels: Sequence[int], hidden: Sequence[int], kernels: Sequence[int]) -> None:
        super().__init__()
        self.recurrences = nn.ModuleList(
            ConvRecurrence(cell, *sizes) for sizes in zip(channels, hidden, kernels, strict=True)
        )

    def forward(self, maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Maps ``[B, C, T, Y, X]`` to ``[B, sum of hidden, T, *grid]``."""
        states = [recurrence(found) for recurrence, found in zip(self.recurrences, maps, strict=True)]
        return torch.cat([F.adaptive_avg_pool3d(state, (None, *grid)) for state in states], 1)


class GruRCN(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, D, T, H / 32, W / 32]``: VGG-16 on every frame, recurrences over its maps.

    Maps are those after the second to the fifth pool, and the second linear layer. The last step is classified; the
    classifiers of the five in the paper, whose scores are averaged, are one here over all their states.

    Args:
        frozen: the frames' network does not learn.
        hidden: channels of the states over each map.
        width, linear: channels of the frames' network: of its first group, and of its two linear layers.
    """

    def __init__(
        self,
        cell: Cell = "gru",
        frozen: bool = False,
        in_chans: int = 3,
        hidden: Sequence[int] = (64, 128, 256, 256, 512),
        width: int = 64,
        linear: int = 4096,
    ) -> None:
        means = statistics((123.68 / 255, 116.779 / 255, 103.939 / 255), in_chans)
        super().__init__(means, (1 / 255,) * in_chans, dropout=0.7)
        self.frozen, self.least_side = frozen, 32
        channels, info = in_chans, []
        for i, (depth, outputs) in enumerate(zip((2, 2, 3, 3, 3), (1, 2, 4, 8, 8), strict=True), 1):
            self.add_module(f"pool{i}", _group(channels, width * outputs, depth))
            channels = width * outputs
            info.append(FeatureInfo(channels, (1, 2**i, 2**i), f"pool{i}"))
        self.fc7 = FrameLinear(channels, 7, linear, linear)
        self.states = MapRecurrences(
            cell, [stage.channels for stage in info[1:]] + [linear], hidden, kernels=(3, 3, 3, 3, 1)
        )
        self.feature_info = FeatureInfo(sum(hidden), (1, 32, 32))
        whole = FeatureInfo(linear, (1, 224, 224), "fc7")
        self.stage_info = (*info, whole, FeatureInfo(sum(hidden), (1, 32, 32), "states"))
        for module in (*(self.get_submodule(stage.name) for stage in info), self.fc7):
            init_weights(module)
            module.requires_grad_(not frozen)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        x, found = self.prepared(x), {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for info in self.stage_info[:-1]:
                found[info.name] = x = self.run(self.get_submodule(info.name), x)
        maps = list(found.values())[1:]
        found["states"] = self.run(self.states, maps, (maps[-2].shape[3], maps[-2].shape[4]))
        return found

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_stages(x)["states"]

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(self.dropout(features[:, :, -1].mean((2, 3))))


def _group(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """Convolutions of 3 x 3 and a pool."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [Conv3d(outputs if i else inputs, outputs, (1, 3, 3), padding=(0, 1, 1)), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool3d((1, 2, 2)))


class FrameLinear(nn.Sequential):
    """Rectified linear layers over the whole of each frame's map: ``[B, C, T, Y, X]`` to ``[B, D, T, 1, 1]``.

    Args:
        cells: rows and columns that maps are averaged to.
        widths: channels of the layers.
    """

    def __init__(self, inputs: int, cells: int, *widths: int) -> None:
        sizes = zip((inputs * cells**2, *widths), widths, strict=False)
        super().__init__(*(nn.Linear(i, o) for i, o in sizes))
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool3d(x, (None, self.cells, self.cells)).transpose(1, 2).flatten(2)  # [B, T, C cells^2]
        for layer in self:
            x = layer(x).relu()
        return x.transpose(1, 2)[..., None, None]


_PAPER = "Ballas et al., ICLR 2016"


@register(Spec("video", f"after {_PAPER}; our size", 881_280, None, (16, 112, 112), 1.973))
def recurrent_cnn(cell: Cell = "gru", in_chans: int = 3) -> RecurrentCNN:
    """Four layers, each of which recurs over time."""
    return RecurrentCNN(cell, in_chans=in_chans)


@register(
    Spec(
        "video",
        _PAPER,
        153_740_709,
        101,
        (10, 224, 224),
        188.547,
        note="101 classes of UCF-101; the paper prints neither parameters nor multiply-adds; most are VGG-16's",
        stride=1,
        resize=256,
    )
)
def gru_rcn(cell: Cell = "gru", frozen: bool = False, in_chans: int = 3) -> GruRCN:
    """VGG-16 on every frame, and a recurrence over each of five of its maps."""
    return GruRCN(cell, frozen, in_chans)
