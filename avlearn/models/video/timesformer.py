"""TimeSformer (Bertasius, Wang and Torresani, ICML 2021): ViT with attention divided between time and space.

Parameters have the names of the official checkpoints (without their prefix ``model.``); ``head`` is ``classifier``.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from avlearn.models.registry import Spec, register
from avlearn.models.video.vit import (
    Attention,
    Block,
    BlockLayers,
    Grid,
    LayerNorm,
    Patches,
    VideoTransformer,
    drop_rates,
    init_linear,
    positions_with_class,
    resize_positions,
    with_class,
)


class DividedBlock(BlockLayers):
    """Attention over the frames of a place, then over the places of a frame, then the MLP.

    The class token takes part in space alone: once in each frame, of which the mean is kept.
    """

    def __init__(self, dim: int, heads: int, drop_path: float):
        super().__init__(dim, Attention(dim, heads), drop_path)
        self.temporal_norm1 = LayerNorm(dim)
        self.temporal_attn = Attention(dim, heads)
        self.temporal_fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """``[B, 1 + T N, D]`` to the same."""
        first, patches = x[:, :1], x[:, 1:].unflatten(1, (frames, -1))
        moved = self.temporal_attn(self.temporal_norm1(patches.transpose(1, 2))).transpose(1, 2)
        patches = patches + self.temporal_fc(self.drop_path(moved))
        change = self.drop_path(self.attn(self.norm1(with_class(first.unsqueeze(1), patches))))
        first = first + change[:, :, 0].mean(1, keepdim=True)
        patches = patches + change[:, :, 1:]
        return self.through_mlp(torch.cat([first, patches.flatten(1, 2)], 1))


class TimeSformer(VideoTransformer):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, dim, T, H / 16, W / 16]``; other sizes take the nearest positions.

    Args:
        attention: ``divided`` between time and space, ``joint`` over all tokens, or ``space``: frames apart, their
            class tokens averaged.
        frames, size: of the clips that positions are learned for.
        drop_path: stochastic depth of the last block.
    """

    cls_token: nn.Parameter

    def __init__(
        self,
        attention: str = "divided",
        frames: int = 8,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        in_chans: int = 3,
        drop_path: float = 0.1,
    ):
        if attention not in ("divided", "joint", "space"):
            raise ValueError(f"attention is 'divided', 'joint' or 'space', not '{attention}'")
        super().__init__(dim, depth, (1, 16, 16), (0.45,) * in_chans, (0.225,) * in_chans)
        self.attention = attention
        self.frames, self.side = frames, size // 16
        self.patch_embed = Patches(in_chans, dim, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, dim))
        self.time_embed = None if attention == "space" else nn.Parameter(torch.zeros(1, frames, dim))
        rates = drop_rates(drop_path, depth)
        if attention == "divided":
            self.blocks = nn.ModuleList(DividedBlock(dim, heads, rate) for rate in rates)
        else:
            self.blocks = nn.ModuleList(Block(dim, Attention(dim, heads), rate) for rate in rates)
        self.norm = LayerNorm(dim)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if attention == "divided":
            # All blocks but the first begin without time, as an image network.
            for block in self.blocks[1:]:
                nn.init.zeros_(block.get_parameter("temporal_fc.weight"))

    def embed(self, x: Tensor) -> tuple[Tensor, Grid]:
        patches = self.patch_embed(x)
        grid = tuple(patches.shape[1:4])
        here, learned = (1, *grid[1:]), (1, self.side, self.side)
        places = positions_with_class(self.pos_embed, learned, here, "nearest")
        patches = patches.flatten(2, 3)
        if self.time_embed is None:
            return with_class(self.cls_token, patches) + places, grid
        times = resize_positions(self.time_embed, (self.frames, 1, 1), (grid[0], 1, 1), "nearest")
        patches = patches + places[:, None, 1:] + times.unsqueeze(2)
        return with_class(self.cls_token + places[:, :1], patches.flatten(1, 2)), grid

    def on_grid(self, block: nn.Module, grid: Grid) -> Callable[[Tensor], Tensor]:
        return partial(block, frames=grid[0]) if self.attention == "divided" else block

    def class_state(self, tokens: Tensor) -> Tensor:
        return tokens[:, :, 0].mean(1) if self.attention == "space" else tokens[:, 0]


_PAPER = "Bertasius, Wang and Torresani, ICML 2021"


@register(
    Spec(
        "video",
        _PAPER,
        121_566_352,
        400,
        (8, 224, 224),
        gmacs=195.830,
        published_gmacs=196.7,
        top1=77.9,
        note="0.59 T are printed for three views; 8 frames of every 32",
        stride=32,
        resize=224,
    )
)
def timesformer_b(in_chans: int = 3, drop_path: float = 0.1) -> TimeSformer:
    """Divided attention, 8 frames."""
    return TimeSformer(in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        _PAPER,
        122_024_080,
        400,
        (16, 448, 448),
        gmacs=1702.7,
        published_gmacs=1703,
        top1=79.6,
        stride=16,
        resize=448,
    )
)
def timesformer_hr(in_chans: int = 3, drop_path: float = 0.1) -> TimeSformer:
    """Divided attention, 16 large frames."""
    return TimeSformer(frames=16, size=448, in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        _PAPER,
        121_633_936,
        400,
        (96, 224, 224),
        gmacs=2379.9,
        published_gmacs=2380,
        top1=80.6,
        stride=4,
        resize=224,
    )
)
def timesformer_l(in_chans: int = 3, drop_path: float = 0.1) -> TimeSformer:
    """Divided attention, 96 frames."""
    return TimeSformer(frames=96, in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        _PAPER,
        86_106_256,
        400,
        (8, 224, 224),
        gmacs=140.505,
        top1=76.9,
        note="top-1 of mmaction2",
        stride=32,
        resize=224,
    )
)
def timesformer_space_b(in_chans: int = 3, drop_path: float = 0.1) -> TimeSformer:
    """Attention in space alone: an image network whose class tokens are averaged over 8 frames."""
    return TimeSformer("space", in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        _PAPER,
        86_112_400,
        400,
        (8, 224, 224),
        gmacs=179.563,
        top1=77.0,
        note="top-1 of mmaction2",
        stride=32,
        resize=224,
    )
)
def timesformer_joint_b(in_chans: int = 3, drop_path: float = 0.1) -> TimeSformer:
    """Attention over all patches of 8 frames at once."""
    return TimeSformer("joint", in_chans=in_chans, drop_path=drop_path)
