"""Video Swin Transformer (Liu et al., CVPR 2022), torchvision's implementation behind our interface.

Parameters have the names of torchvision's checkpoints, but for the classifier (``head`` there).
"""

from functools import partial

from torch import Tensor, nn
from torchvision.models.video.swin_transformer import PatchEmbed3d, SwinTransformer3d

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Swin3D(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 8 * width, T / 2, H / 32, W / 32]``; sides are padded where need be.

    Args:
        width: channels of the first stage; each stage has twice those of the one before.
        depths: blocks of each stage.
        heads: of the attention, each stage.
        window: frames / 2, rows / 4 and columns / 4 that attend to each other in the first stage.
        drop_path: probability that the last block is left out in training (less before, none in the first).
    """

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        window: tuple[int, int, int] = (8, 7, 7),
        drop_path: float = 0.1,
        dropout: float = 0.5,
        in_chans: int = 3,
    ) -> None:
        mean, std = _IMAGENET if in_chans == 3 else ((0.449,) * in_chans, (0.226,) * in_chans)
        super().__init__(mean, std, dropout)
        net = SwinTransformer3d(
            patch_size=[2, 4, 4],
            embed_dim=width,
            depths=list(depths),
            num_heads=list(heads),
            window_size=list(window),
            stochastic_depth_prob=drop_path,
            num_classes=1,
            patch_embed=partial(PatchEmbed3d, in_channels=in_chans),
        )
        self.patch_embed = net.patch_embed
        self.features = net.features
        self.norm = net.norm
        self.stage_info = tuple(
            FeatureInfo(width << i, (2, 4 << i, 4 << i), f"stage{i + 1}") for i in range(len(depths))
        )
        self.feature_info = FeatureInfo(width << len(depths) - 1, self.stage_info[-1].stride)

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Outputs of the stages, ``[B, T, Y, X, D]``."""
        x = self.patch_embed(self.prepared(x))
        found = []
        for layer in self.features:
            if isinstance(layer, nn.Sequential):
                for block in layer:
                    x = self.run(block, x)
                found.append(x)
            else:
                x = layer(x)
        return found

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        stages = zip(self.stage_info, self._encode(x), strict=True)
        return {info.name: found.permute(0, 4, 1, 2, 3) for info, found in stages}

    def forward_features(self, x: Tensor) -> Tensor:
        return self.norm(self._encode(x)[-1]).permute(0, 4, 1, 2, 3)


_PAPER = "Liu et al., CVPR 2022 (torchvision's implementation)"
_NOTE = "torchvision prints the cost of 16 frames, half of this; accuracy is that of its weights"


@register(Spec("video", _PAPER, 28_158_070, 400, (32, 224, 224), 87.76, 88.0, 77.7, _NOTE, stride=2, resize=256))
def swin3d_t(in_chans: int = 3, drop_path: float = 0.1) -> Swin3D:
    """Tiny: 12 blocks, 96 channels."""
    return Swin3D(96, (2, 2, 6, 2), (3, 6, 12, 24), in_chans=in_chans, drop_path=drop_path)


@register(Spec("video", _PAPER, 49_816_678, 400, (32, 224, 224), 165.68, 166.0, 79.5, _NOTE, stride=2, resize=256))
def swin3d_s(in_chans: int = 3, drop_path: float = 0.1) -> Swin3D:
    """Small: 24 blocks, 96 channels."""
    return Swin3D(96, (2, 2, 18, 2), (3, 6, 12, 24), in_chans=in_chans, drop_path=drop_path)


@register(Spec("video", _PAPER, 88_048_984, 400, (32, 224, 224), 281.33, 282.0, 79.4, _NOTE, stride=2, resize=256))
def swin3d_b(in_chans: int = 3, drop_path: float = 0.3) -> Swin3D:
    """Base: 24 blocks, 128 channels."""
    return Swin3D(128, (2, 2, 18, 2), (4, 8, 16, 32), in_chans=in_chans, drop_path=drop_path)
