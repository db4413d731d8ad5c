"""Audio Spectrogram Transformer (Gong et al., Interspeech 2021), of timm's blocks.

Parameters have the names of the authors' checkpoints (less ``v.``), but for the head (``mlp_head.{0,1}`` there).
"""

from collections.abc import Iterator

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.vit import drop_rates

_PATCH, _STRIDE = 16, 10


class AST(Encoder):
    """``[B, 1, F, N]`` to ``[B, width, (N - 6) // 10]``: patches of 16 frames, 10 apart, averaged over frequency.

    Where fewer patches lie along an axis than positions were learned for, the middle ones are taken; where there are
    more, positions are interpolated.

    Values are log-mel, standardised; but released weights bring the mean and std of AudioSet with them, and take
    log-mel values as they are (zeros after the end of audio that is shorter).

    Args:
        width, depth, heads: of the transformer.
        bins, frames: of the spectrogram that positions are learned for.
        eps: of the norms; the authors' is 1e-6, that of Hugging Face's definition 1e-12.
        drop_path: probability that the last block is left out in training (less before, none in the first).
    """

    axes = ("C", "F", "N")
    least_frames = least_side = _PATCH
    head_parts = ("head_norm",)

    def __init__(
        self,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        bins: int = 128,
        frames: int = 1024,
        eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__((0.0,), (1.0,))
        self.grid = ((bins - _PATCH) // _STRIDE + 1, (frames - _PATCH) // _STRIDE + 1)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, width, _PATCH, _STRIDE)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 2 + self.grid[0] * self.grid[1], width))
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, drop_path=rate, norm_layer=nn.LayerNorm)
            for rate in drop_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(width, eps)
        self.head_norm = nn.LayerNorm(width)
        self.feature_info = FeatureInfo(width, (_STRIDE, 0, 0))
        self.stage_info = tuple(FeatureInfo(width, (_STRIDE, _STRIDE, 0), f"blocks.{i}") for i in range(depth))
        for weight in (self.cls_token, self.dist_token, self.pos_embed):
            nn.init.trunc_normal_(weight, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.eps = eps

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """``[1, 2 + N, D]`` for a grid of patches along frequency and time."""
        special, learned = self.pos_embed.split([2, self.grid[0] * self.grid[1]], 1)
        if grid == self.grid:
            return self.pos_embed
        learned = learned.transpose(1, 2).unflatten(2, self.grid)
        for axis, (wanted, have) in enumerate(zip(grid, self.grid, strict=True)):
            if wanted < have:
                learned = learned.narrow(2 + axis, have // 2 - wanted // 2, wanted)
        if learned.shape[2:] != grid:
            learned = F.interpolate(learned, grid, mode="bilinear")
        return torch.cat([special, learned.flatten(2).transpose(1, 2)], 1)

    def _steps(self, x: Tensor) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """Tokens ``[B, 2 + N, D]`` after each block, and the grid that all but the first two lie on."""
        x = self.patch_embed["proj"](self.prepared(x))
        grid = (x.shape[2], x.shape[3])
        special = torch.cat([self.cls_token, self.dist_token], 1).expand(len(x), -1, -1)
        x = torch.cat([special, x.flatten(2).transpose(1, 2)], 1) + self._positions(grid)
        for block in self.blocks:
            x = self.run(block, x)
            yield x, grid

    def _encode(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens after the last block, normalized, and their grid."""
        *_, (tokens, grid) = self._steps(x)
        return self.norm(tokens), grid

    def _classify(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.head_norm(x)))

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        """Patches after each block, bins before frames: ``[B, D, F', N']``."""
        steps = zip(self.stage_info, self._steps(x), strict=True)
        return {info.name: tokens[:, 2:].transpose(1, 2).unflatten(2, grid) for info, (tokens, grid) in steps}

    def forward_patches(self, x: Tensor) -> Tensor:
        """``[B, 1, F, N]`` to patches after the last block, normalized, not yet averaged: ``[B, F', N', D]``."""
        tokens, grid = self._encode(x)
        return tokens[:, 2:].unflatten(1, grid)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_patches(x).mean(1).transpose(1, 2)

    def forward_head(self, features: Tensor) -> Tensor:
        return self._classify(features.mean(2))

    def forward(self, x: Tensor) -> Tensor:
        """As published, scores are read from the mean of the class and the distillation token."""
        tokens, _ = self._encode(x)
        return self._classify(tokens[:, :2].mean(1))


@register(
    Spec(
        "audio",
        "Gong et al., Interspeech 2021",
        86_594_063,
        527,
        (128, 1024),
        130.514,
        note="AST-B with strides of 10, as finetuned on AudioSet (0.459 mAP); give it standardised values "
        "where it learns anew, and log-mel values as they are where it was given released weights",
        # The margin centres patches of 16 frames on steps of 10.
        front_end={"n_fft": 1024, "mels": 128, "margin": 3},
    )
)
def ast_b(eps: float = 1e-6, drop_path: float = 0.0) -> AST:
    """128 log-mel bands (Kaldi's), window 25 ms, hop 10 ms, 16 kHz, 1024 frames; steps of 0.1 s."""
    return AST(eps=eps, drop_path=drop_path)
