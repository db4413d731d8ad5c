"""Motionformer (Patrick et al., NeurIPS 2021): ViT over tubelets, with attention along trajectories or divided.

Parameters have the names of the official checkpoints; ``head`` is ``classifier``. Their ``patch_embed``, an embedding
of single frames that the network of two-frame tubelets never uses, is left out.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    resize_positions,
    with_class,
)


class TrajectoryAttention(Projections):
    """Each patch looks for itself in every frame (a trajectory), then attends along what it found.

    Args:
        project_values: what is found is projected to values, as in the paper; the released weights are of a network
            that takes it as it is (theirs are the first half of ``proj_kv``).
    """

    def __init__(self, dim: int, heads: int, project_values: bool):
        super().__init__(dim, heads)
        self.project_values = project_values
        self.proj_q = nn.Linear(dim, dim)
        self.proj_kv = nn.Linear(dim, 2 * dim if project_values else dim)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """``[B, 1 + T N, D]`` to the same."""
        query, key, value = self.project(x)
        first = attend(query[:, :1], key, value, self.heads)
        query = query[:, 1:].unsqueeze(1).expand(-1, frames, -1, -1)
        key, value = (part[:, 1:].unflatten(1, (frames, -1)) for part in (key, value))
        found = attend(query, key, value, self.heads)  # [B, frame looked at, T N, D]
        itself = found.unflatten(2, (frames, -1)).diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2).flatten(1, 2)
        trajectory = found.transpose(1, 2)  # [B, T N, T, D]
        key = value = self.proj_kv(trajectory)
        if self.project_values:
            key, value = key.chunk(2, -1)
        else:
            value = trajectory
        patches = attend(self.proj_q(itself).unsqueeze(2), key, value, self.heads).squeeze(2)
        return self.proj(torch.cat([first, patches], 1))


class TrajectoryBlock(BlockLayers):
    """A block of trajectory attention, ``[B, 1 + T N, D]`` to the same."""

    def forward(self, x: Tensor, frames: int) -> Tensor:
        return self.through_mlp(x + self.drop_path(self.attn(self.norm1(x), frames)))


class DividedAttention(Projections):
    """Patches attend to the class token and to their own frame, or to their own place; the class token to all.

    Args:
        over_time: patches attend to their place in every frame, and not to their frame.
    """

    def __init__(self, dim: int, heads: int, over_time: bool):
        super().__init__(dim, heads)
        self.over_time = over_time

    def _groups(self, tokens: Tensor, frames: int) -> Tensor:
        """Patches ``[B, T N, D]`` to those that see each other, ``[B, T, N, D]`` or ``[B, N, T, D]``."""
        groups = tokens.unflatten(1, (frames, -1))
        return groups.transpose(1, 2) if self.over_time else groups

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """``[B, 1 + T N, D]`` to the same."""
        query, key, value = self.project(x)
        first = attend(query[:, :1], key, value, self.heads)
        query = self._groups(query[:, 1:], frames)
        key, value = (with_class(part[:, None, :1], self._groups(part[:, 1:], frames)) for part in (key, value))
        patches = attend(query, key, value, self.heads)
        patches = patches.transpose(1, 2) if self.over_time else patches
        return self.proj(torch.cat([first, patches.flatten(1, 2)], 1))


class DividedBlock(BlockLayers):
    """Attention over time, then over space, then the MLP: ``[B, 1 + T N, D]`` to the same."""

    def __init__(self, dim: int, heads: int, drop_path: float):
        super().__init__(dim, DividedAttention(dim, heads, over_time=False), drop_path)
        self.norm3 = LayerNorm(dim)
        self.timeattn = DividedAttention(dim, heads, over_time=True)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        x = x + self.timeattn(self.norm3(x), frames)
        return self.through_mlp(x + self.drop_path(self.attn(self.norm1(x), frames)))


class Motionformer(VideoTransformer):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, dim, T / 2, H / 16, W / 16]``; positions are interpolated for other sizes.

    Args:
        frames, size: of the clips that positions are learned for.
        project_values: see `TrajectoryAttention`.
        drop_path: stochastic depth of the last block.
        attention: along a ``trajectory``, or ``divided`` between time and space.
    """

    head_parts = ("pre_logits",)
    cls_token: nn.Parameter

    def __init__(
        self,
        frames: int = 16,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        project_values: bool = True,
        in_chans: int = 3,
        drop_path: float = 0.2,
        attention: str = "trajectory",
    ):
        if attention not in ("trajectory", "divided"):
            raise ValueError(f"attention is 'trajectory' or 'divided', not '{attention}'")
        super().__init__(dim, depth, (2, 16, 16), (0.5,) * in_chans, (0.5,) * in_chans)
        self.times, self.side = frames // 2, size // 16
        self.patch_embed_3d = Tubelets(in_chans, dim, 2, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, dim))
        self.temp_embed = nn.Parameter(torch.zeros(1, self.times, dim))
        self.blocks = nn.ModuleList(
            DividedBlock(dim, heads, rate)
            if attention == "divided"
            else TrajectoryBlock(dim, TrajectoryAttention(dim, heads, project_values), rate)
            for rate in drop_rates(drop_path, depth)
        )
        self.norm = LayerNorm(dim)
        self.pre_logits = nn.Sequential(OrderedDict(fc=nn.Linear(dim, dim), act=nn.Tanh()))
        self.apply(init_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def _places(self, grid: tuple[int, int]) -> Tensor:
        """Positions ``[1, 1 + Y X, D]`` in a frame, as those of Motionformer-HR are made of what is learned at 224."""
        if grid == (self.side, self.side):
            return self.pos_embed
        first, learned = self.pos_embed.split([1, self.side**2], 1)
        learned = learned.transpose(1, 2).unflatten(2, (self.side, self.side))
        return torch.cat([first, F.interpolate(learned, grid, mode="bicubic").flatten(2).transpose(1, 2)], 1)

    def embed(self, x: Tensor) -> tuple[Tensor, Grid]:
        tokens = self.patch_embed_3d(x)
        grid = tuple(tokens.shape[1:4])
        places = self._places(grid[1:])
        times = resize_positions(self.temp_embed, (self.times, 1, 1), (grid[0], 1, 1))
        tokens = tokens.flatten(2, 3) + places[:, None, 1:] + times.unsqueeze(2)
        return with_class(self.cls_token + places[:, :1], tokens.flatten(1, 2)), grid

    def on_grid(self, block: nn.Module, grid: Grid) -> Callable[[Tensor], Tensor]:
        return partial(block, frames=grid[0])

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.pre_logits(features.flatten(2).mean(-1))))


@register(
    Spec(
        "video",
        "Patrick et al., NeurIPS 2021",
        108_554_128,
        400,
        (16, 224, 224),
        gmacs=369.359,
        note="counted on our definition, not compared with the paper's figures; the official code has 0.59 M more "
        "parameters, of a patch embedding that it does not use",
        stride=4,
        resize=224,
    )
)
def motionformer_b(
    in_chans: int = 3, project_values: bool = True, drop_path: float = 0.2, attention: str = "trajectory"
) -> Motionformer:
    """ViT-B over 16 frames; ``project_values=False`` is the network of the released weights.

    ``attention="divided"`` is the authors' baseline, with which Synchformer begins.
    """
    return Motionformer(project_values=project_values, in_chans=in_chans, drop_path=drop_path, attention=attention)
