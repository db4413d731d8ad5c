"""VTN (Neimark et al., ICCV workshops 2021): ViT for every frame, then Longformer's sliding windows over the frames.

Parameters of the frames' network have timm's names (the released checkpoint's, without its prefix ``backbone.``), those
of the temporal one nearly Longformer's (Beltagy et al., 2020): its ``query``, ``key_global`` and so on.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.registry import Spec, register
from avlearn.models.video.vit import (
    FactorisedTransformer,
    Mlp,
    Patches,
    TemporalTransformer,
    attend,
    init_linear,
    with_class,
)


class WindowAttention(nn.Module):
    """Frames attend to their neighbours and to the class token; that one, with projections of its own, to everything.

    Args:
        window: neighbours on both sides together.
    """

    def __init__(self, dim: int, heads: int, window: int, dropout: float):
        super().__init__()
        self.heads, self.reach, self.dropout = heads, window // 2, dropout
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.query_global, self.key_global, self.value_global = (nn.Linear(dim, dim) for _ in range(3))
        self.dense = nn.Linear(dim, dim)

    def _windows(self, x: Tensor) -> Tensor:
        """``[B, 1 + T, D]`` to what each frame sees: ``[B, T, 1 + window + 1, D]``, the class token first."""
        first, frames = x[:, :1], F.pad(x[:, 1:], (0, 0, self.reach, self.reach))
        return with_class(first.unsqueeze(1), frames.unfold(1, 2 * self.reach + 1, 1).transpose(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1 + T, D]`` to the same."""
        dropout = self.dropout if self.training else 0.0
        queries = self.query_global(x[:, :1])
        first = attend(queries, self.key_global(x), self.value_global(x), self.heads, dropout=dropout)
        there = F.pad(x.new_ones(x.shape[1] - 1, dtype=torch.bool), (self.reach, self.reach))
        there = F.pad(there.unfold(0, 2 * self.reach + 1, 1), (1, 0), value=True)
        windows = self._windows(self.key(x)), self._windows(self.value(x))
        frames = attend(self.query(x[:, 1:]).unsqueeze(2), *windows, self.heads, there.unsqueeze(1), dropout)
        return self.dense(torch.cat([first, frames.squeeze(2)], 1))


class WindowBlock(nn.Module):
    """Window attention and an MLP, each normalized after it is added: ``[B, 1 + T, D]`` to the same."""

    def __init__(self, dim: int, heads: int, window: int, dropout: float):
        super().__init__()
        self.attn = WindowAttention(dim, heads, window, dropout)
        self.norm1 = nn.LayerNorm(dim, 1e-12)
        self.mlp = Mlp(dim)
        self.norm2 = nn.LayerNorm(dim, 1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attn(x)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Longformer(TemporalTransformer):
    """The temporal encoder.

    Args:
        frame_stride: by how much positions grow from frame to frame.
        positions: of them, the last is that of padding in the released network (not needed here), the one before it
            that of the class token; beyond the others, frames begin again.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        window: int,
        frame_stride: int,
        positions: int = 288,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.frame_stride = frame_stride
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position_embeddings = nn.Embedding(positions, dim)
        self.token_type_embeddings = nn.Embedding(2, dim)
        self.embedding_norm = nn.LayerNorm(dim, 1e-12)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(WindowBlock(dim, heads, window, dropout) for _ in range(depth))
        self.norm = nn.Identity()
        nn.init.normal_(self.cls_token)
        nn.init.normal_(self.position_embeddings.weight, std=0.02)
        nn.init.normal_(self.token_type_embeddings.weight, std=0.02)

    def embed(self, states: Tensor) -> Tensor:
        """``[B, T, D]`` to ``[B, 1 + T, D]``."""
        places, kinds = self.position_embeddings.weight, self.token_type_embeddings.weight
        time = torch.arange(states.shape[1], device=states.device) * self.frame_stride
        first = self.cls_token + places[-2] + kinds[1]
        states = states + places[time % (len(places) - 2)] + kinds[0]
        return self.dropout(self.embedding_norm(with_class(first, states)))


class VTN(FactorisedTransformer):
    """``[B, C, T, H, W]`` in [0, 1], any T, to ``[B, dim, T, 1, 1]``.

    Args:
        window: neighbours, on both sides together, that a frame sees in the temporal encoder.
        frame_stride: frames of the video from one frame of the clip to the next, for their positions.
        size: of the frames that positions are learned for.
        drop_path: stochastic depth of the last block of the frames' network.
    """

    head_parts = ("mlp_head",)

    def __init__(
        self,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        temporal_depth: int = 3,
        heads: int = 12,
        window: int = 18,
        frame_stride: int = 1,
        in_chans: int = 3,
        drop_path: float = 0.0,
    ):
        mean, std = (0.45,) * in_chans, (0.225,) * in_chans
        temporal = Longformer(dim, temporal_depth, heads, window, frame_stride)
        patch_embed = Patches(in_chans, dim, 16)
        super().__init__(dim, depth, heads, patch_embed, temporal, 1, size, mean, std, drop_path, dropout=0.5)
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.apply(init_linear)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.mlp_head(features.flatten(2).mean(-1))))


@register(
    Spec(
        "video",
        "Neimark et al., ICCV workshops 2021",
        113_502_352,
        400,
        (250, 224, 224),
        gmacs=4397.008,
        published_gmacs=4218,
        top1=78.6,
        note="4218 leaves out the multiply-adds of attention itself; 250 frames are a whole video",
        stride=1,
        resize=256,
    )
)
def vtn_b(in_chans: int = 3, frame_stride: int = 1, drop_path: float = 0.0) -> VTN:
    """ViT-B and three layers over time, in which a frame sees nine to each side."""
    return VTN(in_chans=in_chans, frame_stride=frame_stride, drop_path=drop_path)
