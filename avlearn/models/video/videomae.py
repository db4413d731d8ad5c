"""VideoMAE (Tong et al., NeurIPS 2022): ViT over tubelets without a class token.

Parameters have the names of the official fine-tuned checkpoints; ``head`` is ``classifier``.
"""

import torch
from torch import Tensor, nn

from avlearn.models.registry import Spec, register
from avlearn.models.video.vit import (
    Attention,
    Block,
    Grid,
    LayerNorm,
    Tubelets,
    VideoTransformer,
    drop_rates,
    init_linear,
    resize_positions,
)

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def sinusoids(count: int, dim: int) -> Tensor:
    """Fixed position embeddings ``[1, count, dim]``: sines and cosines in turn, of growing wavelengths."""
    # Double precision: a position in the thousands times a frequency near one loses digits otherwise.
    frequency = 10000 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).unsqueeze(0).float()


class VideoMAE(VideoTransformer):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, dim, T / 2, H / 16, W / 16]``; positions are interpolated for other sizes.

    Args:
        frames, size: of the clips that the network was trained on.
        pooled_norm: the mean of the features is normalized, before the classifier, as in the fine-tuned network; else
            every feature is, as in the pre-trained one.
        drop_path: stochastic depth of the last block.
    """

    positions: Tensor
    head_parts = ("fc_norm",)

    def __init__(
        self,
        frames: int = 16,
        size: int = 224,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        pooled_norm: bool = True,
        in_chans: int = 3,
        drop_path: float = 0.1,
    ):
        mean, std = (_MEAN, _STD) if in_chans == 3 else ((0.45,) * in_chans, (0.225,) * in_chans)
        super().__init__(dim, depth, (2, 16, 16), mean, std)
        self.learned = (frames // 2, size // 16, size // 16)
        self.patch_embed = Tubelets(in_chans, dim, 2, 16)
        self.register_buffer("positions", sinusoids(frames // 2 * (size // 16) ** 2, dim), persistent=False)
        self.blocks = nn.ModuleList(
            Block(dim, Attention(dim, heads, key_bias=False), rate) for rate in drop_rates(drop_path, depth)
        )
        self.norm = nn.Identity() if pooled_norm else LayerNorm(dim)
        self.fc_norm = LayerNorm(dim) if pooled_norm else nn.Identity()
        self.apply(init_linear)

    def embed(self, x: Tensor) -> tuple[Tensor, Grid]:
        tokens = self.patch_embed(x)
        grid = tuple(tokens.shape[1:4])
        return tokens.flatten(1, 3) + resize_positions(self.positions, self.learned, grid), grid

    def forward_head(self, features: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.fc_norm(features.flatten(2).mean(-1))))


@register(
    Spec(
        "video",
        "Tong et al., NeurIPS 2022",
        86_534_800,
        400,
        (16, 224, 224),
        gmacs=180.345,
        note="fine-tuned classifier",
        stride=4,
        resize=224,
    )
)
def videomae_b(in_chans: int = 3, pooled_norm: bool = True, drop_path: float = 0.1) -> VideoMAE:
    """ViT-B over 16 frames; ``pooled_norm=False`` is the network of the weights that were not fine-tuned."""
    return VideoMAE(pooled_norm=pooled_norm, in_chans=in_chans, drop_path=drop_path)
