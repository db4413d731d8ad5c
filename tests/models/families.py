"""One tiny network of every family, of the classes that the registered ones are made of."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from avlearn.models.audio.ast import AST
from avlearn.models.audio.bn_inception import BNInceptionAudio
from avlearn.models.audio.conv2d import Conv2d, Conv2dAVID
from avlearn.models.audio.resnet import ResNet
from avlearn.models.audio.vgg import VGGM, VGGish
from avlearn.models.audio.waveform import Waveform
from avlearn.models.encoder import Encoder
from avlearn.models.video.bn_inception import BNInception
from avlearn.models.video.bottleneck3d import inflated
from avlearn.models.video.c3d import C3D
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.dsconv import DsConv
from avlearn.models.video.frame_fusion import FrameFusion, LateFusion, MultiresolutionFrames
from avlearn.models.video.frame_vgg import CNN_M, VGG_16, FrameVGG
from avlearn.models.video.inception import Inception3d, Variant
from avlearn.models.video.inflate import inflate
from avlearn.models.video.lrcn import LRCN
from avlearn.models.video.motionformer import Motionformer
from avlearn.models.video.mvit import MViT
from avlearn.models.video.nonlocal_block import add_nonlocal
from avlearn.models.video.p3d import P3D
from avlearn.models.video.r2plus1d import r2plus1d, time_first
from avlearn.models.video.recurrent import GruRCN, RecurrentCNN
from avlearn.models.video.resnet import VideoResNet, channelwise, flat, full, mixed_channelwise, simple_stem
from avlearn.models.video.slowfast import SlowFast
from avlearn.models.video.slowfast_tiny import SlowFastTiny
from avlearn.models.video.swin3d import Swin3D
from avlearn.models.video.timesformer import TimeSformer
from avlearn.models.video.tsn import TSM, stacked_resnet
from avlearn.models.video.two_stream import TwoStream
from avlearn.models.video.two_stream_fusion import FusedStreams, STResNet
from avlearn.models.video.videomae import VideoMAE
from avlearn.models.video.vivit import FactorisedViViT, ViViT
from avlearn.models.video.vjepa2 import VJEPA2
from avlearn.models.video.vtn import VTN
from avlearn.models.video.x3d import X3D


class Family(NamedTuple):
    """How a tiny network is built, and the shape of one input: ``(C, T, H, W)``, ``(1, F, N)`` or ``(C, S)``.

    ``spread`` is by how much its linear layers start further from zero than published: those deviations are made for
    layers many times as wide.
    """

    build: Callable[[], Encoder]
    shape: tuple[int, ...]
    spread: float = 1.0

    def classifier(self, classes: int) -> Encoder:
        """A new one, always the same, without dropout, which would cost a network of this size more than it brings."""
        torch.manual_seed(0)
        model = self.build()
        model.reset_classifier(classes)
        model.dropout.p = 0.0
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.weight.mul_(self.spread)
        return model


_SHORT, _CLIP, _LONG, _LARGE = (3, 4, 32, 32), (3, 8, 32, 32), (3, 16, 32, 32), (3, 8, 64, 64)
_GREY = {"mean": (0.45,) * 3, "std": (0.225,) * 3}
_VIT = {"size": 64, "dim": 48, "depth": 2, "heads": 4, "drop_path": 0.0}
_NO_TIME, _EVERY_SECOND, _LATE = ((1,),) * 4, ((3,), (3, 1), (3, 1), (1, 3)), ((1,), (1,), (3,), (3,))
_SMALL = {"width": 12, "hidden": 64}
_NONLOCAL = ((), (1,), (1,), ())


def _r2d() -> VideoResNet:
    stem = simple_stem(3, 8, 1)
    stem[0] = Conv3d(3, 8, (8, 7, 7), (8, 2, 2), (0, 3, 3), bias=False)
    model = VideoResNet(stem, (8, 2), (1, 1, 1, 1), [flat] * 4, width=8, **_GREY)
    model.least_frames = 8
    return model


def _basic(*factorisations: Callable[..., nn.Module]) -> VideoResNet:
    strides = [1 if factorisation is flat else 2 for factorisation in factorisations[1:]]
    return VideoResNet(
        simple_stem(3, 8, 3), (1, 2), (1, 1, 1, 1), factorisations, width=8, time_strides=(1, *strides), **_GREY
    )


def _bottlenecks_time_first() -> VideoResNet:
    return VideoResNet(
        simple_stem(3, 8, 1),
        (1, 2),
        (1, 1, 1, 1),
        [time_first] * 4,
        bottleneck=True,
        width=8,
        time_strides=(1, 1, 2, 2),
        space_strides=(2, 2, 2, 2),
        **_GREY,
    )


def _csn(factorisation: Callable[..., nn.Module]) -> VideoResNet:
    return VideoResNet(
        simple_stem(3, 16, 3, pool=1),
        (1, 4),
        (1, 1, 1, 1),
        [factorisation] * 4,
        bottleneck=True,
        width=16,
        time_strides=(1, 2, 2, 2),
        **_GREY,
    )


VIDEO: dict[str, Family] = {
    "r2d": Family(_r2d, _CLIP),
    "mc": Family(lambda: _basic(full, full, flat, flat), _CLIP),
    "r3d": Family(lambda: _basic(full, full, full, full), _CLIP),
    "r2plus1d": Family(lambda: r2plus1d(18, "per-block", 3, 8, 1e-5, width=8), _CLIP),
    "r2plus1d bottleneck": Family(_bottlenecks_time_first, _CLIP),
    "c2d": Family(lambda: inflated(18, 3, 1, _NO_TIME, width=8, temporal_pool=2), _CLIP),
    "i3d": Family(lambda: inflated(18, 3, 5, _EVERY_SECOND, width=8, temporal_pool=2), _CLIP),
    "i3d non-local": Family(
        lambda: add_nonlocal(inflated(18, 3, 5, _EVERY_SECOND, width=8, temporal_pool=2), _NONLOCAL), _CLIP
    ),
    "slow": Family(lambda: inflated(18, 3, 1, _LATE, width=8), _CLIP),
    "slowfast": Family(lambda: SlowFast(18, 4, width=16), _CLIP),
    "slowfast_tiny": Family(lambda: SlowFastTiny((16, 32, 64), (4, 8, 16)), _LONG),
    "x3d": Family(lambda: X3D((1, 2, 1, 1), (8, 16, 24, 32), hidden=64), _CLIP),
    "csn ir": Family(lambda: _csn(channelwise), _CLIP),
    "csn ip": Family(lambda: _csn(mixed_channelwise), _CLIP),
    "p3d": Family(lambda: P3D((1, 1, 1, 1), 3), _LONG),
    "c3d": Family(lambda: C3D(None, True, (0.45,) * 3, (1 / 255,) * 3, hidden=256, width=16), (3, 16, 16, 16), 4.0),
    "c3d bn": Family(lambda: C3D(1e-3, True, *_GREY.values(), hidden=64, width=8), _LONG, 8.0),
    "i3d inception": Family(
        lambda: Inception3d(Variant(separable=False, stem=(7, 7, 7), same=True), *_GREY.values(), width=16), _CLIP
    ),
    "s3d": Family(lambda: Inception3d(Variant(), *_GREY.values(), width=16), _CLIP),
    "s3d_g": Family(lambda: Inception3d(Variant(stem=(3, 7, 7), same=True, gated=True), (), (), width=16), _CLIP),
    "inflate": Family(lambda: inflate("resnet10t"), _SHORT),
    "timesformer": Family(lambda: TimeSformer(frames=8, **_VIT), _LARGE, 4.0),
    "timesformer joint": Family(lambda: TimeSformer("joint", frames=8, **_VIT), _LARGE, 4.0),
    "timesformer space": Family(lambda: TimeSformer("space", frames=8, **_VIT), _LARGE, 4.0),
    "vivit": Family(lambda: ViViT(frames=8, **_VIT), _LARGE, 4.0),
    "vivit factorised encoder": Family(lambda: FactorisedViViT(frames=8, temporal_depth=2, **_VIT), _LARGE, 4.0),
    "vivit factorised self-attention": Family(lambda: ViViT("self", frames=8, **_VIT), _LARGE, 4.0),
    "vivit factorised dot product": Family(lambda: ViViT("dot", frames=8, **_VIT), _LARGE, 4.0),
    "vtn": Family(lambda: VTN(temporal_depth=2, window=4, **_VIT), _LARGE, 6.0),
    "videomae": Family(lambda: VideoMAE(frames=8, **_VIT), _LARGE, 4.0),
    "vjepa2": Family(lambda: VJEPA2(dim=48, depth=2, heads=4), _LARGE, 4.0),
    "motionformer": Family(lambda: Motionformer(frames=8, **_VIT), _LARGE, 4.0),
    "mvit v1": Family(lambda: MViT(4, 32, (1, 1, 1), width=32, drop_path=0.0), _SHORT),
    "mvit v2": Family(lambda: MViT(4, 32, (1, 1, 1), width=32, improved=True, drop_path=0.0), _SHORT),
    "swin3d": Family(lambda: Swin3D(16, (1, 1, 1, 1), (1, 2, 4, 8), (2, 4, 4), drop_path=0.0), _CLIP),
    "dsconv": Family(lambda: DsConv((8, 16, 32, 64)), _CLIP),
}
AUDIO: dict[str, Family] = {
    "resnet9": Family(lambda: ResNet((1, 1, 1, 1)), (1, 40, 96)),
    "vggm": Family(lambda: VGGM(40, windowed=False, embedding=None, width=8), (1, 40, 96)),
    "vggm windowed": Family(lambda: VGGM(13, windowed=True, embedding=32, width=8), (1, 13, 96)),
    "vggish": Family(lambda: VGGish(width=16, hidden=64), (1, 64, 96)),
    "conv2d": Family(lambda: Conv2d((8, 16, 32, 64)), (1, 64, 96)),
    "conv2d_10": Family(Conv2dAVID, (1, 64, 96)),
    "ast": Family(lambda: AST(width=48, depth=2, heads=4, bins=64, frames=96), (1, 64, 96), 4.0),
    "waveform": Family(lambda: Waveform(in_chans=1, width=16), (1, 15360)),
}
FAMILIES = VIDEO | AUDIO

# Of frames and recurrent ones: they learn tasks of seconds in tests of their own, not the whole world.
BY_FRAMES: dict[str, Family] = {
    "slow fusion": Family(lambda: FrameFusion(((4, 2), (2, 2), (2, 2)), **_SMALL), _CLIP, 2.0),
    "late fusion": Family(lambda: LateFusion(**_SMALL), _LONG, 2.0),
    "multiresolution frames": Family(lambda: MultiresolutionFrames(**_SMALL), _SHORT, 2.0),
    "lrcn": Family(lambda: LRCN(hidden=16, width=12, linear=32), _SHORT),
    "recurrent cnn": Family(lambda: RecurrentCNN("gru", (8, 8, 16, 16)), _SHORT),
    "gru-rcn": Family(lambda: GruRCN(hidden=(4, 4, 8, 8, 8), width=4, linear=16), _SHORT),
    "tsm": Family(lambda: TSM(depths=(1, 1, 1, 1), width=8), _CLIP),
    "bn-inception": Family(lambda: BNInception(width=16), _SHORT),
}
_NARROW = ((1, 1, 1, 1), 8)


def _streams(flows: int) -> tuple[Encoder, Encoder]:
    return stacked_resnet(1, 3, *_NARROW), stacked_resnet(flows, 2, *_NARROW)


# Of optical flow, and of frames and flow: they learn motion in a test of their own.
OF_FLOW: dict[str, Family] = {
    "temporal cnn-m": Family(lambda: FrameVGG(CNN_M.narrowed(16), 4, 2), (2, 8, 32, 32)),
    "temporal resnet": Family(lambda: stacked_resnet(4, 2, *_NARROW), (2, 8, 32, 32)),
    "temporal bn-inception": Family(lambda: BNInception(4, 2, 16), (2, 8, 32, 32)),
    "two streams": Family(lambda: TwoStream(*_streams(4)), (5, 8, 32, 32)),
    "two streams, svm": Family(lambda: TwoStream(*_streams(4), "svm"), (5, 8, 32, 32)),
    "fused streams": Family(lambda: FusedStreams(*_streams(4), "conv"), (5, 8, 32, 32)),
    "fused vgg": Family(
        lambda: FusedStreams(FrameVGG(VGG_16.narrowed(16)), FrameVGG(VGG_16.narrowed(16), 4, 2), "conv"), (5, 8, 32, 32)
    ),
    "st-resnet": Family(lambda: STResNet(4, (2, 2, 2, 2), 8), (5, 8, 32, 32)),
}
EVERY_VIDEO = VIDEO | BY_FRAMES | OF_FLOW
EVERY = EVERY_VIDEO | AUDIO | {"bn-inception audio": Family(lambda: BNInceptionAudio(16), (1, 64, 96))}
