"""Non-local blocks (Wang et al., CVPR 2018): every place of a clip looks at every other.

Parameter names are PySlowFast's; ``conv_concat``, which it has not, holds the vector of the concatenation.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.resnet import init_weights

NonLocalKind = Literal["gaussian", "embedded", "dot", "concat"]
NonLocalStyle = Literal["pyslowfast", "mmaction2"]
E = TypeVar("E", bound=Encoder)


class NonLocal(nn.Module):
    """``[B, C, T, Y, X]`` to the same: added to the input is what each place gathers from all, by a measure of kinship.

    Args:
        channels: C; inside, half as many are compared.
        kind: the measure. ``gaussian``: softmax of the product of two places; ``embedded``: that of their projections,
            scaled by the root of their channels; ``dot``: their product over the number of places; ``concat``: a linear
            map of both together, rectified, over the number of places.
        pool: places that are looked at are first max-pooled by so much (t, y, x).
        style: ``mmaction2``, for its weights: projections are pooled, not what is projected, and those of ``embedded``
            are not scaled; the last convolution has no bias.
    """

    def __init__(
        self,
        channels: int,
        kind: NonLocalKind = "embedded",
        pool: tuple[int, int, int] = (1, 2, 2),
        style: NonLocalStyle = "pyslowfast",
    ) -> None:
        super().__init__()
        if kind not in ("gaussian", "embedded", "dot", "concat"):
            raise ValueError(f"a non-local block is gaussian, embedded, dot or concat, not {kind}")
        if style not in ("pyslowfast", "mmaction2"):
            raise ValueError(f"the style of a non-local block is pyslowfast or mmaction2, not {style}")
        self.kind, self.pools_projections = kind, style == "mmaction2"
        self.scale = 1.0 if kind == "gaussian" or style == "mmaction2" else None  # None: the root of the channels
        inner = channels // 2
        if kind != "gaussian":
            self.conv_theta, self.conv_phi = Conv3d(channels, inner, 1), Conv3d(channels, inner, 1)
        self.conv_g = Conv3d(channels, inner, 1)
        self.conv_out = Conv3d(inner, channels, 1, bias=style == "pyslowfast")
        if kind == "concat":
            self.conv_concat = nn.Conv1d(2 * inner, 1, 1, bias=False)
        self.bn = nn.BatchNorm3d(channels)
        init_weights(self)
        nn.init.zeros_(self.bn.weight)  # it begins as the identity
        self.pool = nn.MaxPool3d(pool) if max(pool) > 1 else nn.Identity()

    def _gather(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        """Queries ``[B, P, D]``, keys ``[B, Q, D]`` and values ``[B, Q, C / 2]`` to ``[B, P, C / 2]``."""
        if self.kind in ("gaussian", "embedded"):
            # One head; values of another width than keys are welcome.
            return F.scaled_dot_product_attention(theta[:, None], phi[:, None], g[:, None], scale=self.scale)[:, 0]
        if self.kind == "dot":
            return theta @ phi.transpose(1, 2) @ g / phi.shape[1]
        # A linear map of two places together is the sum of one map of each: nothing is concatenated.
        of_theta, of_phi = self.conv_concat.weight[0, :, 0].chunk(2)
        pairs = F.relu((theta @ of_theta)[:, :, None] + (phi @ of_phi)[:, None])  # [B, P, Q]
        return pairs @ g / phi.shape[1]

    def _seen(self, projection: nn.Module, x: Tensor) -> Tensor:
        return self.pool(projection(x)) if self.pools_projections else projection(self.pool(x))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "gaussian":
            theta, phi = x, self.pool(x)
        else:
            theta, phi = self.conv_theta(x), self._seen(self.conv_phi, x)
        places = [part.flatten(2).transpose(1, 2) for part in (theta, phi, self._seen(self.conv_g, x))]
        gathered = self._gather(*places).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.bn(self.conv_out(gathered))


def add_nonlocal(
    network: E,
    after: Sequence[Sequence[int]],
    kind: NonLocalKind = "embedded",
    pool: Sequence[int] = (1, 2, 2),
    style: NonLocalStyle = "pyslowfast",
) -> E:
    """Put non-local blocks into a residual network of any kind (of `VideoResNet` or `P3D`); gives it back.

    Args:
        network: changed in place; the new blocks begin as identities.
        after: in each of its four groups, the blocks after which a non-local one stands, from 0.
        kind, pool, style: see `NonLocal`.
    """
    for info, blocks in zip(network.stage_info[1:], after, strict=True):
        for number in blocks:
            block = getattr(network, info.name)[number]
            block.nonlocal_block = NonLocal(info.channels, kind, (pool[0], pool[1], pool[2]), style)
            # Of smaller clips nothing would be left to pool.
            frames, side = ((p - 1) * stride + 1 for p, stride in zip(pool[:2], info.stride[:2], strict=True))
            network.least_frames = max(network.least_frames, frames)
            network.least_side = max(network.least_side, side)
    return network
