"""MViT (Fan et al., ICCV 2021) and MViTv2 (Li et al., CVPR 2022), of torchvision's blocks.

Parameters have the names of torchvision's checkpoints, but for the classifier (``head.1`` there).
"""

from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.video.mvit import MSBlockConfig, MultiscaleBlock, PositionalEncoding

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register

_PATCH = (2, 4, 4)

Grid = tuple[int, int, int]


def _settings(
    depths: tuple[int, ...], width: int, heads: int, improved: bool, kernel: tuple[int, int, int] | None
) -> list[MSBlockConfig]:
    starts = list(accumulate(depths))[:-1]
    blocks, stride_kv = [], 8
    for i in range(sum(depths)):
        opens = i in starts
        heads *= 2 if opens else 1
        stride_kv //= 2 if opens else 1
        # The second version doubles its channels in the attention of a stage's first block, the first one in the
        # perceptron of the block before.
        wider = width * (2 if (opens if improved else i + 1 in starts) else 1)
        space = 2 if opens else 1
        blocks.append(
            MSBlockConfig(
                num_heads=heads,
                input_channels=width,
                output_channels=wider,
                kernel_q=_kernel(kernel, space) if opens or improved else [],
                kernel_kv=_kernel(kernel, stride_kv),
                stride_q=[1, space, space] if opens or improved else [],
                stride_kv=[1, stride_kv, stride_kv],
            )
        )
        width = wider
    return blocks


def _kernel(kernel: tuple[int, int, int] | None, stride: int) -> list[int]:
    if kernel is not None:
        return list(kernel)
    return [1, stride + 1, stride + 1] if stride > 1 else [1, 1, 1]


class MViT(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 8 * width, T / 2, H / 32, W / 32]``.

    Tokens are pooled from stage to stage, and keys and values more than queries. Clips of another size than the
    network was made for get interpolated positions.

    Args:
        frames, size: of the clip that positions are learned for; rows and columns alike.
        depths: blocks of each stage.
        width, heads: of the first stage; each stage has twice those of the one before.
        improved: the second version: relative positions in place of absolute ones, pooled queries in every block and
            added to what they attend to, channels doubled by the attention.
        kernel: of the convolutions that pool; None for (1, s + 1, s + 1) at a stride s.
        drop_path: probability that the last block is left out in training (less before, none in the first).
        mean, std: None for 0.45 and 0.225 in all channels.
    """

    def __init__(
        self,
        frames: int,
        size: int,
        depths: tuple[int, ...],
        width: int = 96,
        heads: int = 1,
        improved: bool = False,
        kernel: tuple[int, int, int] | None = (3, 3, 3),
        drop_path: float = 0.2,
        dropout: float = 0.5,
        in_chans: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(mean or (0.45,) * in_chans, std or (0.225,) * in_chans, dropout)
        self.conv_proj = nn.Conv3d(in_chans, width, (3, 7, 7), _PATCH, (1, 3, 3))
        grid = [frames // _PATCH[0], size // _PATCH[1], size // _PATCH[2]]
        self.grid: Grid = (grid[0], grid[1], grid[2])
        self.pos_encoding = PositionalEncoding(width, self.grid[1:], self.grid[0], rel_pos_embed=improved)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList()
        settings = _settings(depths, width, heads, improved, kernel)
        for i, block in enumerate(settings):
            self.blocks.append(
                MultiscaleBlock(
                    input_size=grid,
                    cnf=block,
                    residual_pool=improved,
                    residual_with_cls_embed=False,
                    rel_pos_embed=improved,
                    proj_after_attn=improved,
                    stochastic_depth_prob=drop_path * i / (len(settings) - 1),
                    norm_layer=norm,
                )
            )
            if block.stride_q:
                grid = [side // stride for side, stride in zip(grid, block.stride_q, strict=True)]
        self.norm = norm(settings[-1].output_channels)
        self.ends = list(accumulate(depths))
        self.stage_info = tuple(
            FeatureInfo(settings[end - 1].output_channels, (2, 4 << i, 4 << i), f"stage{i + 1}")
            for i, end in enumerate(self.ends)
        )
        self.feature_info = FeatureInfo(settings[-1].output_channels, self.stage_info[-1].stride)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, PositionalEncoding):
                for weight in module.parameters():
                    nn.init.trunc_normal_(weight, std=0.02)

    def _with_positions(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens ``[B, N, D]`` to ``[B, 1 + N, D]``: the class token first, absolute positions added if there are."""
        positions = self.pos_encoding
        token = positions.class_token.expand(len(x), 1, -1)
        if positions.spatial_pos is None:
            return torch.cat([token, x], 1)
        time, space = positions.temporal_pos, positions.spatial_pos
        if grid[0] != self.grid[0]:
            time = F.interpolate(time.T[None], grid[0], mode="linear")[0].T
        if grid[1:] != self.grid[1:]:
            space = space.T.unflatten(1, self.grid[1:])[None]
            space = F.interpolate(space, grid[1:], mode="bilinear")[0].flatten(1).T
        x = x + (time[:, None] + space).flatten(0, 1)
        return torch.cat([token + positions.class_pos, x], 1)

    def _encode(self, x: Tensor) -> list[tuple[Tensor, Grid]]:
        """Tokens ``[B, 1 + N, D]`` at the end of each stage, with the grid that all but the first lie on."""
        x = self.conv_proj(self.prepared(x))
        grid: Grid = (x.shape[2], x.shape[3], x.shape[4])
        x = self._with_positions(x.flatten(2).transpose(1, 2), grid)
        found = []
        for i, block in enumerate(self.blocks):
            x, grid = self.run(block, x, grid)
            if i + 1 in self.ends:
                found.append((x, grid))
        return found

    def _encode_last(self, x: Tensor) -> tuple[Tensor, Grid]:
        tokens, grid = self._encode(x)[-1]
        return self.norm(tokens), grid

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        stages = zip(self.stage_info, self._encode(x), strict=True)
        return {info.name: _on_grid(tokens, grid) for info, (tokens, grid) in stages}

    def forward_features(self, x: Tensor) -> Tensor:
        return _on_grid(*self._encode_last(x))

    def forward(self, x: Tensor) -> Tensor:
        """As published, scores are read from the class token."""
        tokens, _ = self._encode_last(x)
        return self.classifier(self.dropout(tokens[:, 0]))


def _on_grid(tokens: Tensor, grid: Grid) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)


@register(
    Spec(
        "video",
        "Fan et al., ICCV 2021",
        36_610_672,
        400,
        (16, 224, 224),
        70.599,
        top1=78.5,
        note="MViT-B, 16x4; accuracy of torchvision's port, 78.9 in the model zoo of PySlowFast",
        stride=4,
        resize=256,
    )
)
def mvit_v1_b_16x4(in_chans: int = 3, drop_path: float = 0.2) -> MViT:
    """16 blocks; 16 frames, every fourth."""
    return MViT(16, 224, (1, 2, 11, 2), in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        "Fan et al., ICCV 2021",
        36_611_440,
        400,
        (32, 224, 224),
        169.958,
        top1=80.3,
        note="MViT-B, 32x3; accuracy of pytorchvideo's model zoo",
        stride=3,
        resize=256,
    )
)
def mvit_v1_b_32x3(in_chans: int = 3, drop_path: float = 0.3) -> MViT:
    """16 blocks; 32 frames, every third."""
    return MViT(32, 224, (1, 2, 11, 2), in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        "Fan et al., ICCV 2021",
        53_115_280,
        400,
        (32, 224, 224),
        235.776,
        note="MViT-B-24, 32x3; trained on Kinetics-600 (83.9 %); PySlowFast's MVIT_B_32x3_CONV.yaml sets its depth "
        "twice and builds this",
        stride=3,
        resize=256,
    )
)
def mvit_v1_b24_32x3(in_chans: int = 3, drop_path: float = 0.3) -> MViT:
    """24 blocks; 32 frames, every third."""
    return MViT(32, 224, (2, 3, 16, 3), kernel=None, in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        "Li et al., CVPR 2022",
        34_537_744,
        400,
        (16, 224, 224),
        64.224,
        top1=80.8,
        note="MViTv2-S, 16x4; accuracy of torchvision's port, 81.0 in the paper",
        stride=4,
        resize=256,
    )
)
def mvit_v2_s_16x4(in_chans: int = 3, drop_path: float = 0.2) -> MViT:
    """16 blocks; 16 frames, every fourth."""
    return MViT(16, 224, (1, 2, 11, 2), improved=True, in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        "Li et al., CVPR 2022",
        51_230_128,
        400,
        (32, 224, 224),
        224.473,
        top1=82.9,
        note="MViTv2-B, 32x3",
        stride=3,
        resize=256,
    )
)
def mvit_v2_b_32x3(in_chans: int = 3, drop_path: float = 0.3) -> MViT:
    """24 blocks; 32 frames, every third."""
    return MViT(32, 224, (2, 3, 16, 3), improved=True, in_chans=in_chans, drop_path=drop_path)


@register(
    Spec(
        "video",
        "Li et al., CVPR 2022",
        213_390_112,
        400,
        (40, 312, 312),
        2823.4,
        published_gmacs=2828.0,
        top1=86.1,
        note="MViTv2-L, 40x3 at 312 pixels, pretrained on ImageNet-21k; the authors print 217.6 M parameters",
        stride=3,
        resize=356,
    )
)
def mvit_v2_l_40x3(in_chans: int = 3, drop_path: float = 0.75) -> MViT:
    """48 blocks; 40 frames, every third, at 312 pixels."""
    return MViT(
        40,
        312,
        (2, 6, 36, 4),
        width=144,
        heads=2,
        improved=True,
        drop_path=drop_path,
        in_chans=in_chans,
        mean=(0.485, 0.456, 0.406) if in_chans == 3 else None,
        std=(0.229, 0.224, 0.225) if in_chans == 3 else None,
    )
