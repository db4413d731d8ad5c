"""Any of timm's CNNs on every frame of a clip: the single-frame baseline of video, and pooling of its features late."""

from typing import Any, Literal

from torch import Tensor, nn

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.resnet import statistics
from avlearn.names import hint


class ImageStages(nn.Module):
    """A network of timm: images ``[N, C, H, W]`` to the maps of its stages, ``[N, D, Y, X]`` each.

    Args:
        name: timm's; no address of a hub, and never with weights.
    """

    def __init__(self, name: str, in_chans: int) -> None:
        import timm

        super().__init__()
        if ":" in name or not timm.is_model(name):
            raise ModelError(f"timm has no network '{name}'{hint(name, timm.list_models())}")
        self.net = timm.create_model(name, pretrained=False, in_chans=in_chans, features_only=True)
        cfg = timm.get_pretrained_cfg(name)
        self.mean, self.std = ((0.5,) * 3, (1.0,) * 3) if cfg is None else (cfg.mean, cfg.std)
        found: Any = self.net.feature_info  # timm's, no attribute of every module
        self.stage_info = tuple(
            FeatureInfo(channels, (1, reduction, reduction), stage)
            for channels, reduction, stage in zip(found.channels(), found.reduction(), found.module_name(), strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.net(x)
        if [found.shape[1] for found in maps] != [info.channels for info in self.stage_info]:
            raise ModelError("the network gives no maps of [D, Y, X]: it is no CNN")
        return maps


class FrameCNN(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, D, T, H / 32, W / 32]``, for most networks.

    Args:
        network: timm's name of a CNN.
        fusion: ``scores``: those of single frames are averaged; ``max``: the highest of each feature over the frames
            is classified.
    """

    def __init__(self, network: str, fusion: Literal["scores", "max"] = "scores", in_chans: int = 3) -> None:
        frames = ImageStages(network, in_chans)
        super().__init__(statistics(frames.mean, in_chans), statistics(frames.std, in_chans))
        self.frames, self.fusion = frames, fusion
        self.stage_info = frames.stage_info
        self.feature_info = FeatureInfo(self.stage_info[-1].channels, self.stage_info[-1].stride)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        frames = x.shape[2]
        maps = self.run(self.frames, self.prepared(x).transpose(1, 2).flatten(0, 1))
        return {
            info.name: found.unflatten(0, (-1, frames)).transpose(1, 2)
            for info, found in zip(self.stage_info, maps, strict=True)
        }

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_stages(x)[self.stage_info[-1].name]

    def forward_head(self, features: Tensor) -> Tensor:
        frames = features.mean((3, 4))  # [B, D, T]
        # A linear classifier of the mean over frames is the mean of their scores.
        return self.classifier(self.dropout(frames.amax(2) if self.fusion == "max" else frames.mean(2)))


@register(
    Spec(
        "video",
        "single frames: Karpathy et al., CVPR 2014; the network: He et al., CVPR 2016",
        11_381_712,
        400,
        (8, 224, 224),
        14.509,
        note="parameters are of ResNet-18; network=NAME takes any CNN of timm",
        stride=8,
        resize=256,
    )
)
def frame_cnn(network: str = "resnet18", fusion: Literal["scores", "max"] = "scores", in_chans: int = 3) -> FrameCNN:
    """A CNN of timm on every frame; their scores are averaged, or their features pooled."""
    return FrameCNN(network, fusion, in_chans)
