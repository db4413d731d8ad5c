"""ViViT (Arnab et al., ICCV 2021): tubelets of two frames through one of four transformers.

The official checkpoints are JAX's. Names are those of our other transformers; transformers' port of the joint model
differs by the renaming of ``layernorm_before`` to ``norm1`` and the like, and has query, key and value apart.
"""

import torch
from torch import Tensor, nn

from avlearn.models.registry import Spec, register
from avlearn.models.video.vit import (
    Attention,
    Block,
    FactorisedTransformer,
    Grid,
    LayerNorm,
    TemporalTransformer,
    Tubelets,
    VideoTransformer,
    attend,
    drop_rates,
    init_linear,
    positions_with_class,
    resize_positions,
    with_class,
)

_HALF = 0.5  # mean and std of every channel
_GELU = "tanh"  # JAX means the approximation when it says GELU


class FactorisedBlock(Block):
    """Attention over the places of a frame, then over the frames of a place, then the MLP: ``[B, T, N, D]``."""

    def __init__(self, dim: int, heads: int, drop_path: float):
        super().__init__(dim, Attention(dim, heads), drop_path, _GELU)
        self.temporal_norm1 = LayerNorm(dim)
        self.temporal_attn = Attention(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        moved = self.temporal_attn(self.temporal_norm1(x.transpose(1, 2))).transpose(1, 2)
        return self.through_mlp(x + self.drop_path(moved))


class DotProductAttention(Attention):
    """Of ``[B, T, N, D]``: half of the heads attend within a frame, the others within a place."""

    def forward(self, x: Tensor) -> Tensor:
        halves = [part.chunk(2, -1) for part in self.project(x)]
        query, key, value = (space for space, _ in halves)
        within_frames = attend(query, key, value, self.heads // 2)
        query, key, value = (time.transpose(1, 2) for _, time in halves)
        within_places = attend(query, key, value, self.heads // 2).transpose(1, 2)
        return self.proj(torch.cat([within_frames, within_places], -1))


class _ImageStart(VideoTransformer):
    """What the four models share: tubelets, and the way from an image network's weights."""

    patch_embed: Tubelets
    pos_embed: nn.Parameter
    side: int

    def load_image_weights(self, weights: dict[str, Tensor], tubelet: str = "central") -> None:
        """Begin from a ViT with 16x16 patches, as timm names its weights.

        Positions are repeated for every step of time. What an image network lacks stays as it is.

        Args:
            weights: its state dict; the classifier is ignored.
            tubelet: ``central`` or ``inflate`` (see `Tubelets.load_image_filters`).
        """
        weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
        self.patch_embed.load_image_filters(weights.pop("patch_embed.proj.weight"), tubelet)
        places = weights.pop("pos_embed")
        first, places = places[:, :1], places[:, 1:]
        old = round(places.shape[1] ** 0.5)
        places = resize_positions(places, (1, old, old), (1, self.side, self.side))
        if self.cls_token is None:
            first = first[:, :0]
            del weights["cls_token"]
        times = (self.pos_embed.shape[1] - first.shape[1]) // places.shape[1]
        weights["pos_embed"] = torch.cat([first, places.repeat(1, times, 1)], 1)
        unknown = self.load_state_dict(weights, strict=False).unexpected_keys
        if unknown:
            raise ValueError(f"these weights are not those of a plain ViT: {', '.join(unknown)}")


class ViViT(_ImageStart):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, dim, T / 2, H / 16, W / 16]``; positions are interpolated for other sizes.

    Args:
        attention: ``joint`` over all tokens, with a class token (model 1); or without one, ``self``: over space and
            over time in turn in every block (model 3), or ``dot``: in different heads (model 4).
        frames, size: of the clips that positions are learned for.
        drop_path: stochastic depth of the last block.
    """

    def __init__(
        self,
        attention: str = "joint",
        frames: int = 32,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        in_chans: int = 3,
        drop_path: float = 0.0,
    ):
        if attention not in ("joint", "self", "dot"):
            raise ValueError(f"attention is 'joint', 'self' or 'dot', not '{attention}'")
        super().__init__(dim, depth, (2, 16, 16), (_HALF,) * in_chans, (_HALF,) * in_chans)
        self.times, self.side = frames // 2, size // 16
        self.patch_embed = Tubelets(in_chans, dim, 2, 16)
        count = self.times * self.side**2
        if attention == "joint":
            count += 1
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, count, dim))
        self.blocks = nn.ModuleList()
        for rate in drop_rates(drop_path, depth):
            if attention == "self":
                self.blocks.append(FactorisedBlock(dim, heads, rate))
            else:
                kind = Attention if attention == "joint" else DotProductAttention
                self.blocks.append(Block(dim, kind(dim, heads), rate, _GELU))
        self.norm = LayerNorm(dim)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if attention == "self":
            # Begins without time, as an image network. The paper zeroes all of the temporal attention; of that, only
            # the last bias would ever learn.
            for block in self.blocks:
                nn.init.zeros_(block.get_parameter("temporal_attn.proj.weight"))

    def embed(self, x: Tensor) -> tuple[Tensor, Grid]:
        tokens = self.patch_embed(x)
        grid = tuple(tokens.shape[1:4])
        learned = (self.times, self.side, self.side)
        if self.cls_token is None:
            tokens = tokens.flatten(1, 3) + resize_positions(self.pos_embed, learned, grid)
            return tokens.unflatten(1, (grid[0], -1)), grid
        tokens = with_class(self.cls_token, tokens.flatten(1, 3))
        return tokens + positions_with_class(self.pos_embed, learned, grid), grid


class TemporalEncoder(TemporalTransformer):
    """A transformer over one token for each step of time, and a class token, whose positions are learned."""

    def __init__(self, times: int, dim: int, depth: int, heads: int):
        super().__init__()
        self.times = times
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + times, dim))
        self.blocks = nn.ModuleList(Block(dim, Attention(dim, heads), gelu=_GELU) for _ in range(depth))
        self.norm = LayerNorm(dim)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def embed(self, states: Tensor) -> Tensor:
        """``[B, T, D]`` to ``[B, 1 + T, D]``."""
        positions = positions_with_class(self.pos_embed, (self.times, 1, 1), (states.shape[1], 1, 1))
        return with_class(self.cls_token, states) + positions


class FactorisedViViT(FactorisedTransformer, _ImageStart):
    """Model 2: each pair of frames through ViT, then their class tokens through a temporal encoder.

    ``[B, C, T, H, W]`` in [0, 1] to ``[B, dim, T / 2, 1, 1]``.

    Args:
        temporal_depth: blocks of the temporal encoder.
        others: as in `ViViT`.
    """

    patch_embed: Tubelets

    def __init__(
        self,
        frames: int = 32,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        temporal_depth: int = 4,
        heads: int = 12,
        in_chans: int = 3,
        drop_path: float = 0.0,
    ):
        patch_embed, temporal = Tubelets(in_chans, dim, 2, 16), TemporalEncoder(frames // 2, dim, temporal_depth, heads)
        half = (_HALF,) * in_chans
        super().__init__(dim, depth, heads, patch_embed, temporal, 2, size, half, half, drop_path, _GELU)
        self.apply(init_linear)


_PAPER = "Arnab et al., ICCV 2021"


@register(
    Spec(
        "video",
        _PAPER,
        88_954_000,
        400,
        (32, 224, 224),
        gmacs=451.525,
        published_gmacs=455.2,
        top1=80.0,
        note="model 1",
        stride=2,
        resize=256,
    )
)
def vivit_b(in_chans: int = 3, drop_path: float = 0.0) -> ViViT:
    """Attention over all tubelets at once."""
    return ViViT(in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        _PAPER,
        115_062_928,
        400,
        (32, 224, 224),
        gmacs=283.3,
        published_gmacs=284.4,
        top1=78.8,
        note="model 2",
        stride=2,
        resize=256,
    )
)
def vivit_fe_b(in_chans: int = 3, drop_path: float = 0.0) -> FactorisedViViT:
    """Factorised encoder: 12 blocks in space, then 4 in time."""
    return FactorisedViViT(in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        _PAPER,
        117_319_312,
        400,
        (32, 224, 224),
        gmacs=371.1,
        published_gmacs=372.3,
        top1=77.4,
        note="model 3",
        stride=2,
        resize=256,
    )
)
def vivit_fsa_b(in_chans: int = 3, drop_path: float = 0.0) -> ViViT:
    """Factorised self-attention: over space and over time in turn."""
    return ViViT("self", in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        _PAPER,
        88_952_464,
        400,
        (32, 224, 224),
        gmacs=276.2,
        published_gmacs=277.1,
        top1=76.3,
        note="model 4",
        stride=2,
        resize=256,
    )
)
def vivit_fdp_b(in_chans: int = 3, drop_path: float = 0.0) -> ViViT:
    """Factorised dot product: half of the heads attend in space, half in time."""
    return ViViT("dot", in_chans=in_chans, drop_path=drop_path)
