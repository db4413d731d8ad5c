"""The attention of MViTv2 for inference: the same results without a matrix of all queries and keys in memory."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.video.mvit import MultiscaleAttention

Grid = tuple[int, int, int]


class FusedAttention(MultiscaleAttention):  # type: ignore[misc]
    """torchvision's pooled attention, relative positions within PyTorch's fused kernel.

    What a query adds for a key's frame, row and column (Li et al., CVPR 2022) is a product, too: of its three scores
    for all frames, rows and columns with three ones at the key's own. So they are further channels of both.
    """

    def forward(self, x: Tensor, thw: Grid) -> tuple[Tensor, Grid]:
        """Tokens ``[B, 1 + T H W, D]`` on a grid to those of the pooled queries, and their grid."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # [B, heads, N, D]
        kept = thw
        if self.pool_k is not None:
            k, kept = self.pool_k(k, thw)
        if self.pool_v is not None:
            v = self.pool_v(v, thw)[0]
        if self.pool_q is not None:
            q, thw = self.pool_q(q, thw)
        left, right = q * self.scaler, k
        if self.rel_pos_t is not None and self.rel_pos_h is not None and self.rel_pos_w is not None:
            tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
            scores, places = self._positions(q[:, :, 1:].unflatten(2, thw), thw, kept, tables)
            # The class token, which is first, has no place.
            left = torch.cat([left, F.pad(scores, (0, 0, 1, 0))], 3)
            right = torch.cat([right, F.pad(places, (0, 0, 1, 0)).expand(*k.shape[:2], -1, -1)], 3)
        wider = F.pad(v, (0, left.shape[3] - v.shape[3]))  # the kernel takes heads of one size
        found = F.scaled_dot_product_attention(left, right, wider, scale=1.0)[..., : self.head_dim]
        if self.residual_pool:
            first = 0 if self.residual_with_cls_embed else 1
            found = torch.cat([found[:, :, :first], found[:, :, first:] + q[:, :, first:]], 2)
        return self.project(found.transpose(1, 2).flatten(2)), thw

    @staticmethod
    def _positions(
        q: Tensor, thw: Grid, kept: Grid, tables: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Scores of queries ``[B, heads, T, H, W, D]`` for places along each axis, and ones at those of the keys."""
        scores, ones = [], []
        grid = torch.cartesian_prod(*(torch.arange(count, device=q.device) for count in kept)).unbind(1)
        for axis, (count, keys, table) in enumerate(zip(thw, kept, tables, strict=True)):
            scores.append(torch.einsum(f"bnthwc,{'thw'[axis]}kc->bnthwk", q, _near(count, keys, table)))
            ones.append(F.one_hot(grid[axis], keys))
        return torch.cat(scores, 5).flatten(2, 4), torch.cat(ones, 1).to(q.dtype)


def _near(queries: int, keys: int, table: Tensor) -> Tensor:
    """Relative positions ``[queries, keys, D]`` along an axis; interpolated where more or fewer were learned."""
    reach = 2 * max(queries, keys) - 1
    if len(table) != reach:
        table = F.interpolate(table.T[None], reach, mode="linear")[0].T
    own = torch.arange(queries, device=table.device) * max(keys / queries, 1.0)
    other = (torch.arange(keys, device=table.device) + 1.0 - keys) * max(queries / keys, 1.0)
    return table[(own[:, None] - other).long()]
