"""Parts of video transformers: attention, blocks, tubelets, positions (ViT: Dosovitskiy et al., ICLR 2021).

Parameters are named as in timm's ``VisionTransformer`` (``blocks.0.attn.qkv``, ``blocks.0.mlp.fc1``, ...), which the
official checkpoints of TimeSformer, VideoMAE and Motionformer share; what a family adds has the name that it has there.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.video.convolution import Conv3d

Grid = tuple[int, int, int]
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Heads of ``[..., N, D]`` attend to ``[..., M, D]``; ``mask`` (true: seen) broadcasts to ``[..., N, M]``."""
    lead = query.shape[:-2]
    if mask is not None:
        mask = mask.expand(*lead, query.shape[-2], key.shape[-2]).flatten(0, -3).unsqueeze(1)
    # Only with four dimensions are the fused kernels taken.
    query, key, value = (x.flatten(0, -3).unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    found = F.scaled_dot_product_attention(query, key, value, mask, dropout)
    return found.transpose(1, 2).flatten(2).unflatten(0, lead)


class Projections(nn.Module):
    """The projections of attention: tokens ``[..., N, D]`` to queries, keys and values, and what it found back.

    Args:
        key_bias: without it, only queries and values have a bias (parameters ``q_bias`` and ``v_bias``, as in BEiT).
    """

    def __init__(self, dim: int, heads: int, key_bias: bool = True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=key_bias)
        self.q_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.v_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each ``[..., N, D]``."""
        bias: Tensor = self.qkv.bias
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        query, key, value = F.linear(x, self.qkv.weight, bias).chunk(3, -1)
        return query, key, value


class Attention(Projections):
    """Self-attention among the N tokens of ``[..., N, D]``; whatever is before them is a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attend(*self.project(x), self.heads))


class Mlp(nn.Module):
    """Two linear maps with GELU between them (``gelu``: its approximation), four times as wide inside."""

    def __init__(self, dim: int, gelu: str = "none"):
        super().__init__()
        self.gelu = gelu
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.gelu))


class BlockLayers(nn.Module):
    """The layers of a pre-norm transformer block over ``[..., N, D]``."""

    def __init__(self, dim: int, attention: nn.Module, drop_path: float = 0.0, gelu: str = "none"):
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = attention
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, gelu)
        self.drop_path = StochasticDepth(drop_path, "row")

    def through_mlp(self, x: Tensor) -> Tensor:
        """The second half of the block."""
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Block(BlockLayers):
    """A pre-norm transformer block, ``[..., N, D]`` to the same."""

    def forward(self, x: Tensor) -> Tensor:
        return self.through_mlp(x + self.drop_path(self.attn(self.norm1(x))))


def drop_rates(last: float, depth: int) -> list[float]:
    """Rates of stochastic depth, growing from 0 to ``last`` over the blocks."""
    return [last * i / max(depth - 1, 1) for i in range(depth)]


class Patches(nn.Module):
    """Square patches of single frames: ``[B, C, T, H, W]`` to ``[B, T, H / patch, W / patch, D]``."""

    def __init__(self, in_chans: int, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.proj(x.transpose(1, 2).flatten(0, 1))
        return patches.unflatten(0, (x.shape[0], -1)).movedim(2, -1)


class Tubelets(nn.Module):
    """Patches of several frames: ``[B, C, T, H, W]`` to ``[B, T / frames, H / patch, W / patch, D]``."""

    def __init__(self, in_chans: int, dim: int, frames: int, patch: int):
        super().__init__()
        self.proj = Conv3d(in_chans, dim, (frames, patch, patch), (frames, patch, patch))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).movedim(1, -1)

    def load_image_filters(self, weight: Tensor, start: str) -> None:
        """Begin from an image network's patch embedding, ``[D, C, patch, patch]``.

        Args:
            start: ``central``: the central frame alone is looked at; ``inflate``: the mean of all frames is.
        """
        if start not in ("central", "inflate"):
            raise ValueError(f"a tubelet embedding starts from 'central' or 'inflate', not '{start}'")
        frames = self.proj.kernel_size[0]
        with torch.no_grad():
            if start == "inflate":
                self.proj.weight.copy_(weight.unsqueeze(2).expand_as(self.proj.weight) / frames)
            else:
                self.proj.weight.zero_()
                self.proj.weight[:, :, frames // 2].copy_(weight)


def resize_positions(positions: Tensor, old: Grid, new: Grid, mode: str = "trilinear") -> Tensor:
    """Position embeddings ``[1, T Y X, D]`` of one grid, for another."""
    if old == new:
        return positions
    grid = positions.transpose(1, 2).unflatten(2, old)
    return F.interpolate(grid, new, mode=mode).flatten(2).transpose(1, 2)


def positions_with_class(positions: Tensor, old: Grid, new: Grid, mode: str = "trilinear") -> Tensor:
    """As `resize_positions`, where the first of ``[1, 1 + T Y X, D]`` is that of the class token."""
    if old == new:
        return positions
    return torch.cat([positions[:, :1], resize_positions(positions[:, 1:], old, new, mode)], 1)


def with_class(cls_token: Tensor, tokens: Tensor) -> Tensor:
    """``[..., N, D]`` to ``[..., 1 + N, D]``: the class token ``[1, 1, D]`` before the others."""
    return torch.cat([cls_token.expand(*tokens.shape[:-2], 1, -1), tokens], -2)


def init_linear(module: nn.Module) -> None:
    """ViT's initialisation, for ``nn.Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class VideoTransformer(Encoder):
    """Tokens through blocks. Subclasses give `embed` and set ``blocks``, ``norm`` and (or None) ``cls_token``.

    Tokens are ``[B, 1 + T Y X, D]``, or ``[B, T, 1 + Y X, D]`` where frames are apart; the 1 is the class token, if
    there is one. Frames come before rows, rows before columns. `forward_features` gives the grid of the others;
    `forward` classifies the class token where there is one, and the mean of the grid where there is none.

    Args:
        stride: frames, rows and columns of a token.
        depth: number of blocks; each is a stage, ``blocks.0`` and so on.
    """

    blocks: nn.ModuleList
    norm: nn.Module
    cls_token: nn.Parameter | None

    def __init__(
        self, dim: int, depth: int, stride: Grid, mean: tuple[float, ...], std: tuple[float, ...], dropout: float = 0.0
    ):
        super().__init__(mean, std, dropout)
        self.register_parameter("cls_token", None)
        self.feature_info = FeatureInfo(dim, stride)
        self.least_frames, self.least_side = stride[:2]
        self.frame_multiple = stride[0]
        self.stage_info = tuple(FeatureInfo(dim, stride, f"blocks.{i}") for i in range(depth))

    def reset_classifier(self, num_classes: int | None) -> None:
        super().reset_classifier(num_classes)
        init_linear(self.classifier)

    def check(self, x: Tensor) -> None:
        """As of every encoder; sides are those of whole patches, of which a rest would not be seen."""
        super().check(x)
        side = self.least_side  # of a patch
        if x.shape[3] % side or x.shape[4] % side:
            raise ModelError(
                f"{type(self).__name__} takes frames whose sides are multiples of {side} pixels, not "
                f"{list(x.shape[3:])}"
            )

    def embed(self, x: Tensor) -> tuple[Tensor, Grid]:
        """A normalized clip to tokens with their positions, and the grid's frames, rows and columns."""
        raise NotImplementedError

    def on_grid(self, block: nn.Module, grid: Grid) -> Callable[[Tensor], Tensor]:
        """A block as a function of tokens alone."""
        return block

    def steps(self, x: Tensor) -> Iterator[tuple[Tensor, Grid]]:
        """Tokens and their grid after each block."""
        tokens, grid = self.embed(self.prepared(x))
        for block in self.blocks:
            tokens = self.run(self.on_grid(block, grid), tokens)
            yield tokens, grid

    def last_step(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Tokens and their grid after the last block."""
        for step in self.steps(x):
            last = step
        return last

    def final_norm(self, tokens: Tensor) -> Tensor:
        """The normalization after the last block."""
        return self.norm(tokens)

    def class_state(self, tokens: Tensor) -> Tensor:
        """Class token ``[B, D]`` among the tokens of the last block."""
        return tokens[:, 0]

    @staticmethod
    def as_grid(tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens to ``[B, D, T, Y, X]``, without the class token."""
        frames, rows, columns = grid
        count = rows * columns * (frames if tokens.ndim == 3 else 1)
        return tokens[..., -count:, :].flatten(1, -2).transpose(1, 2).unflatten(2, grid)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        return {info.name: self.as_grid(*step) for info, step in zip(self.stage_info, self.steps(x), strict=True)}

    def forward_features(self, x: Tensor) -> Tensor:
        tokens, grid = self.last_step(x)
        return self.as_grid(self.final_norm(tokens), grid)

    def forward(self, x: Tensor) -> Tensor:
        if self.cls_token is None:
            return super().forward(x)
        tokens, _ = self.last_step(x)
        return self.forward_head(self.final_norm(self.class_state(tokens)).unsqueeze(-1))


class TemporalTransformer(nn.Module):
    """A transformer over one token for each step of time."""

    blocks: nn.ModuleList
    norm: nn.Module

    def embed(self, states: Tensor) -> Tensor:
        """``[B, T, D]`` to the tokens that the blocks take."""
        raise NotImplementedError


class FactorisedTransformer(VideoTransformer):
    """Frames apart through ViT, then their class tokens through a temporal encoder.

    Features are its states, one for each step of time: ``[B, D, T, 1, 1]``; the rows and columns of their stride are
    those of the whole frame. Stages ``blocks.i`` are grids of patches, ``temporal.i`` states as the features are.

    Args:
        patch_embed: a clip to ``[B, T, H / 16, W / 16, D]``, by `Patches` or `Tubelets`.
        temporal: from class tokens ``[B, T, D]`` (its ``embed``) through ``blocks`` of ``[B, 1 + T, D]`` to ``norm``.
        step: frames to one of T.
        size: rows and columns that positions are learned for.
        gelu: see `Mlp`.
    """

    cls_token: nn.Parameter

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        patch_embed: nn.Module,
        temporal: TemporalTransformer,
        step: int,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        drop_path: float,
        gelu: str = "none",
        dropout: float = 0.0,
    ):
        super().__init__(dim, depth, (step, 16, 16), mean, std, dropout)
        self.side = size // 16
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, dim))
        self.blocks = nn.ModuleList(
            Block(dim, Attention(dim, heads), rate, gelu) for rate in drop_rates(drop_path, depth)
        )
        self.norm = LayerNorm(dim)
        self.temporal = temporal
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        whole = (step, size, size)
        self.feature_info = FeatureInfo(dim, whole)
        self.stage_info += tuple(FeatureInfo(dim, whole, f"temporal.{i}") for i in range(len(temporal.blocks)))

    def embed(self, x: Tensor) -> tuple[Tensor, Grid]:
        patches = self.patch_embed(x)
        grid = tuple(patches.shape[1:4])
        positions = positions_with_class(self.pos_embed, (1, self.side, self.side), (1, *grid[1:]))
        return with_class(self.cls_token, patches.flatten(2, 3)) + positions, grid

    def steps(self, x: Tensor) -> Iterator[tuple[Tensor, Grid]]:
        for tokens, grid in super().steps(x):
            yield tokens, grid
        states = self.temporal.embed(self.norm(tokens[:, :, 0]))
        for block in self.temporal.blocks:
            states = self.run(block, states)
            yield states, (grid[0], 1, 1)

    def final_norm(self, tokens: Tensor) -> Tensor:
        return self.temporal.norm(tokens)
