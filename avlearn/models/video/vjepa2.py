"""V-JEPA 2.1 (Meta FAIR, 2026; after Assran et al., 2025): ViT over tubelets, its positions turned into the attention.

Parameters have the names of the released checkpoints, but for ``norms_block.3``, which is ``norm``. The
embedding of single images and the norms of blocks that other networks learned from are left out.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from avlearn.models.registry import Spec, register
from avlearn.models.video.vit import (
    BlockLayers,
    Grid,
    LayerNorm,
    Projections,
    Tubelets,
    VideoTransformer,
    attend,
    drop_rates,
    init_linear,
)

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LEARNED = 16  # rows and columns that places of any grid are scaled to: 256 pixels
_BASE = 10000.0


def rotations(grid: Grid, width: int) -> Tensor:
    """Angles of rotary positions (Su et al., 2021) on three axes: ``[T Y X, 3, width / 2]``.

    Frames are counted as they come; rows and columns go from 0 to 15, however many there are.

    Args:
        grid: frames, rows and columns.
        width: channels of an axis.
    """
    frames, rows, columns = grid
    axes = torch.meshgrid(
        torch.arange(frames, dtype=torch.float32), *(_places(side) for side in (rows, columns)), indexing="ij"
    )
    frequency = _BASE ** (-torch.arange(width // 2, dtype=torch.float32) / (width / 2))
    return torch.stack(axes, -1).flatten(0, 2).unsqueeze(-1) * frequency


def _places(side: int) -> Tensor:
    return torch.arange(side, dtype=torch.float32) * (_LEARNED - 1) / max(side - 1, 1)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Pairs of neighbouring channels turned: ``[..., N, D]`` by ``[N, 3, W / 2]``; channels beyond 3 W stay."""
    turned, rest = x[..., : 2 * angles[0].numel()], x[..., 2 * angles[0].numel() :]
    first, second = turned.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.flatten(1).cos(), angles.flatten(1).sin()
    pairs = torch.stack([first * cos - second * sin, second * cos + first * sin], -1)
    return torch.cat([pairs.flatten(-2), rest], -1)


class RotaryAttention(Projections):
    """Self-attention whose queries and keys are turned by where they are: a third of a head's channels an axis."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens ``[B, T Y X, D]``."""
        query, key, value = self.project(x)
        width = query.shape[-1] // self.heads
        angles = rotations(grid, 2 * (width // 6)).to(x.device)
        query, key = (
            rotated(part.unflatten(-1, (self.heads, -1)).transpose(1, 2), angles).transpose(1, 2).flatten(2)
            for part in (query, key)
        )
        return self.proj(attend(query.to(value.dtype), key.to(value.dtype), value, self.heads))


class RotaryBlock(BlockLayers):
    """A pre-norm transformer block that is told its tokens' grid."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return self.through_mlp(x + self.drop_path(self.attn(self.norm1(x), grid)))


class VJEPA2(VideoTransformer):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, dim, T / 2, H / 16, W / 16]``; takes clips of any length and size.

    Args:
        drop_path: stochastic depth of the last block.
    """

    def __init__(self, dim: int = 768, depth: int = 12, heads: int = 12, in_chans: int = 3, drop_path: float = 0.0):
        mean, std = (_MEAN, _STD) if in_chans == 3 else ((0.45,) * in_chans, (0.225,) * in_chans)
        super().__init__(dim, depth, (2, 16, 16), mean, std)
        self.patch_embed = Tubelets(in_chans, dim, 2, 16)
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(
            RotaryBlock(dim, RotaryAttention(dim, heads), rate) for rate in drop_rates(drop_path, depth)
        )
        self.norm = LayerNorm(dim)
        self.apply(init_linear)

    def embed(self, x: Tensor) -> tuple[Tensor, Grid]:
        tokens = self.patch_embed(x)
        grid = tuple(tokens.shape[1:4])
        return tokens.flatten(1, 3) + self.video_mod_embed, grid

    def on_grid(self, block: nn.Module, grid: Grid) -> Callable[[Tensor], Tensor]:
        return partial(block, grid=grid)


@register(
    Spec(
        "video",
        "Meta FAIR, 2026 (V-JEPA 2.1)",
        86_237_184,
        None,
        (16, 384, 384),
        gmacs=788.194,
        note="the student that was distilled from ViT-G, at 384 pixels; of features, without a classifier; trained on "
        "up to 64 frames",
        stride=4,
        resize=438,
    )
)
def vjepa2_1_b(in_chans: int = 3, drop_path: float = 0.0) -> VJEPA2:
    """ViT-B/16 over tubelets of two frames."""
    return VJEPA2(in_chans=in_chans, drop_path=drop_path)
