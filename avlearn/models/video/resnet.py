"""Convolutional residual networks over time: one trunk, and a table of ways to factorise its convolutions.

Here the members without a pathway to another: R3D, MC, rMC and R2D (Tran et al., CVPR 2018) and channel-separated
networks (Tran et al., ICCV 2019); R(2+1)D, inflated networks and SlowFast are made of the same trunk in files of
their own.

Parameter names are torchvision's throughout: ``stem.{0: conv, 1: norm}``, ``layer{1..4}.{block}.conv{1,2,3}.{0: conv,
1: norm}``, ``downsample.{0,1}`` (but ``classifier`` for ``fc``). PySlowFast's ``s{i}.pathway0_res{j}.branch2.{a,b,c}``
are here ``layer{i-1}.{j}.conv{1,2,3}.0``, its ``s{i}.pathway0_nonlocal{j}`` are ``layer{i-1}.{j}.nonlocal_block``.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import mul

from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder, FeatureInfo
from avlearn.models.registry import Spec, register
from avlearn.models.video.convolution import Conv3d

Triple = tuple[int, int, int]
_STILL = (1, 1, 1)
# Input and output channels, those that the block started from, stride: the convolution of a block that looks around.
Factorisation = Callable[[int, int, int, Triple], nn.Module]

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
TORCHVISION_MEAN, TORCHVISION_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


def full(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    """3 x 3 x 3."""
    return Conv3d(inputs, outputs, 3, stride, 1, bias=False)


def flat(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    """1 x 3 x 3."""
    return Conv3d(inputs, outputs, (1, 3, 3), stride, (0, 1, 1), bias=False)


def flat_dilated(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    """1 x 3 x 3, two apart."""
    return Conv3d(inputs, outputs, (1, 3, 3), stride, (0, 2, 2), (1, 2, 2), bias=False)


def pointwise(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    """1 x 1 x 1: of a shortcut."""
    return Conv3d(inputs, outputs, 1, stride, bias=False)


def channelwise(inputs: int, outputs: int, _start: int, stride: Triple) -> nn.Module:
    """3 x 3 x 3 in each channel for itself (interaction-reduced)."""
    return Conv3d(inputs, outputs, 3, stride, 1, groups=inputs, bias=False)


def mixed_channelwise(inputs: int, outputs: int, start: int, stride: Triple) -> nn.Module:
    """The same after a 1 x 1 x 1, with no rectifier between them (interaction-preserved)."""
    mix = Conv3d(inputs, outputs, 1, bias=False)
    return nn.Sequential(mix, nn.BatchNorm3d(outputs), channelwise(outputs, outputs, start, stride))


class VideoBlock(nn.Module):
    """Two 3 x 3 convolutions, or one between two 1 x 1, beside a shortcut: ``[B, C, T, Y, X]`` to ``[B, D, ...]``.

    Args:
        inputs, planes: channels; a bottleneck puts out four times ``planes``.
        factorisation: makes the 3 x 3 convolutions.
        temporal_kernel: of a bottleneck's first convolution.
        shortcut: makes the convolution of a shortcut that needs one.
    """

    def __init__(
        self,
        inputs: int,
        planes: int,
        factorisation: Factorisation,
        stride: Triple,
        bottleneck: bool,
        temporal_kernel: int = 1,
        shortcut: Factorisation = pointwise,
    ) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        outputs = 4 * planes if bottleneck else planes
        if bottleneck:
            t = temporal_kernel
            first: nn.Module = Conv3d(inputs, planes, (t, 1, 1), 1, (t // 2, 0, 0), bias=False)
            second, third = factorisation(planes, planes, inputs, stride), Conv3d(planes, outputs, 1, bias=False)
            self.conv1 = nn.Sequential(first, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
            self.conv2 = nn.Sequential(second, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
            self.conv3 = nn.Sequential(third, nn.BatchNorm3d(outputs))
        else:
            first, second = factorisation(inputs, planes, inputs, stride), factorisation(planes, planes, inputs, _STILL)
            self.conv1 = nn.Sequential(first, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
            self.conv2 = nn.Sequential(second, nn.BatchNorm3d(planes))
        self.downsample: nn.Module = nn.Identity()
        if stride != _STILL or inputs != outputs:
            project = shortcut(inputs, outputs, inputs, stride)
            self.downsample = nn.Sequential(project, nn.BatchNorm3d(outputs))
        self.relu: nn.Module = nn.ReLU(inplace=True)
        self.nonlocal_block: nn.Module = nn.Identity()  # see `add_nonlocal`

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        if self.bottleneck:
            y = self.conv3(y)
        y += self.downsample(x)
        return self.nonlocal_block(self.relu(y))


class Group(nn.Sequential):
    """Blocks of one resolution; before them time may be max-pooled."""

    def __init__(self, blocks: Sequence[nn.Module], temporal_pool: int = 1) -> None:
        super().__init__(*blocks)
        self.temporal_pool = temporal_pool

    def forward(self, x: Tensor) -> Tensor:
        # A pool over one frame changes nothing, but would cost a few percent of a network's time.
        if self.temporal_pool > 1:
            x = F.max_pool3d(x, (self.temporal_pool, 1, 1))
        for block in self:
            x = block(x)
        return x


def time_strides(published: Sequence[int], wanted: int | None) -> list[int]:
    """Strides over time whose product is ``wanted``: the late ones become 1, and weights keep their shapes.

    Raises:
        ValueError: the published strides, in their order, do not come to that product.
    """
    choices = sorted({1, *accumulate(published, mul)})
    wanted = choices[-1] if wanted is None else wanted
    if wanted not in choices:
        words = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
        raise ValueError(f"temporal_stride is {words}, not {wanted}")
    so_far = accumulate(published, mul)
    return [stride if product <= wanted else 1 for stride, product in zip(published, so_far, strict=True)]


def statistics(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Means or stds of another number of channels than they were published for: their average."""
    return tuple(values) if channels == len(values) else (sum(values) / len(values),) * channels


def simple_stem(
    in_chans: int,
    width: int,
    time: int,
    time_stride: int = 1,
    pool: int | None = None,
    pool_stride: int = 1,
    pool_padding: int = 1,
) -> nn.Sequential:
    """time x 7 x 7 with stride 2 in space, then, where ``pool`` is given, a maximum over pool x 3 x 3."""
    conv = Conv3d(in_chans, width, (time, 7, 7), (time_stride, 2, 2), (time // 2, 3, 3), bias=False)
    pools = [] if pool is None else [nn.MaxPool3d((pool, 3, 3), (pool_stride, 2, 2), (0, pool_padding, pool_padding))]
    return nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU(inplace=True), *pools)


def init_weights(module: nn.Module) -> None:
    """He et al. (2015), by the fan-out, for all convolutions."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class VideoResNet(Encoder):
    """``[B, C, T, H, W]`` in [0, 1] to ``[B, 8 or 32 width, T', Y, X]``: a stem and four groups of blocks.

    Args:
        stem: from the input to ``width`` channels, with ``stem_stride`` in time and space.
        depths, factorisations: number of blocks of each group, and what makes their 3 x 3 convolutions.
        time_strides, space_strides: of each group.
        temporal_kernels: of the first convolution of each bottleneck, by group.
        temporal_pool: frames of which the maximum is taken between the first and the second group.
        joined: channels that come to the input of each group from elsewhere (a lateral connection).
        shortcut: makes the convolutions of shortcuts.
        zero_init: blocks begin as identities.
        eps: of batch normalization.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        stem_stride: tuple[int, int],
        depths: Sequence[int],
        factorisations: Sequence[Factorisation],
        *,
        bottleneck: bool = False,
        width: int = 64,
        time_strides: Sequence[int] = (1, 1, 1, 1),
        space_strides: Sequence[int] = (1, 2, 2, 2),
        temporal_kernels: Sequence[Sequence[int]] | None = None,
        temporal_pool: int = 1,
        joined: Sequence[int] = (0, 0, 0, 0),
        shortcut: Factorisation = pointwise,
        zero_init: bool = False,
        eps: float = 1e-5,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(mean, std, dropout)
        self.stem = stem
        time, space = stem_stride
        stages = [FeatureInfo(width, (time, space, space), "stem")]
        inputs = width
        for i, factorisation in enumerate(factorisations):
            planes, pool = width * 2**i, temporal_pool if i == 1 else 1
            stride = (time_strides[i], space_strides[i], space_strides[i])
            inputs += joined[i]
            blocks = []
            for j in range(depths[i]):
                kernel = temporal_kernels[i][j] if temporal_kernels else 1
                block = VideoBlock(inputs, planes, factorisation, _STILL if j else stride, bottleneck, kernel, shortcut)
                inputs = 4 * planes if bottleneck else planes
                blocks.append(block)
            self.add_module(f"layer{i + 1}", Group(blocks, pool))
            time, space = time * time_strides[i] * pool, space * space_strides[i]
            stages.append(FeatureInfo(inputs, (time, space, space), f"layer{i + 1}"))
        self.stage_info = tuple(stages)
        self.feature_info = FeatureInfo(inputs, (time, space, space))
        self.least_frames = time if temporal_pool > 1 else 1
        self._init_weights(zero_init, eps)

    def _init_weights(self, zero_init: bool, eps: float) -> None:
        init_weights(self)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = eps
            elif isinstance(module, VideoBlock) and zero_init:
                nn.init.zeros_((module.conv3 if module.bottleneck else module.conv2).get_parameter("1.weight"))

    def reset_classifier(self, num_classes: int | None) -> None:
        super().reset_classifier(num_classes)
        init_classifier(self.classifier)

    def stages(self) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        return [(info.name, getattr(self, info.name)) for info in self.stage_info]


def init_classifier(classifier: nn.Module) -> None:
    """A linear classifier as in the published trainings; anything else is left as it is."""
    if isinstance(classifier, nn.Linear):
        nn.init.normal_(classifier.weight, std=0.01)
        nn.init.zeros_(classifier.bias)


def _closer_look(
    depth: int,
    stem_time: int,
    factorisations: Sequence[Factorisation],
    in_chans: int,
    *,
    frames: int = 1,
    temporal_stride: int | None = None,
) -> VideoResNet:
    """Networks of basic blocks without a pool in the stem; only groups that see time stride over it."""
    stem = simple_stem(in_chans, 64, stem_time)
    if frames > 1:  # the first convolution takes the whole clip in at once
        stem[0] = Conv3d(in_chans, 64, (frames, 7, 7), (frames, 2, 2), (0, 3, 3), bias=False)
    published = [1 if f is flat else stride for f, stride in zip(factorisations, (1, 2, 2, 2), strict=True)]
    model = VideoResNet(
        stem,
        (frames, 2),
        DEPTHS[depth],
        factorisations,
        time_strides=time_strides(published, temporal_stride),
        mean=statistics(TORCHVISION_MEAN, in_chans),
        std=statistics(TORCHVISION_STD, in_chans),
    )
    model.least_frames = frames
    return model


_TRAN = "Tran et al., CVPR 2018"
_CLIP = (8, 112, 112)


@register(
    Spec(
        "video",
        _TRAN,
        11_447_568,
        400,
        _CLIP,
        1.932,
        top1=60.0,
        note="parameters depend on the frames",
        stride=2,
        resize=(128, 171),
    )
)
def r2d_18(in_chans: int = 3, frames: int = 8) -> VideoResNet:
    """The first convolution takes in all ``frames`` of a clip; from there on there is no time."""
    return _closer_look(18, 1, [flat] * 4, in_chans, frames=frames)


@register(Spec("video", _TRAN, 11_381_712, 400, _CLIP, 13.801, top1=60.0, stride=2, resize=(128, 171)))
def f_r2d_18(in_chans: int = 3) -> VideoResNet:
    """Each frame for itself; features are averaged."""
    return _closer_look(18, 1, [flat] * 4, in_chans)


@register(Spec("video", _TRAN, 11_400_528, 400, _CLIP, 14.273, top1=63.0, stride=2, resize=(128, 171)))
def mc2_18(in_chans: int = 3) -> VideoResNet:
    """Time in the stem, none from the first group on."""
    return _closer_look(18, 3, [flat] * 4, in_chans)


@register(
    Spec(
        "video",
        _TRAN,
        11_695_440,
        400,
        _CLIP,
        21.671,
        top1=63.3,
        note="torchvision's mc3_18",
        stride=2,
        resize=(128, 171),
    )
)
def mc3_18(in_chans: int = 3) -> VideoResNet:
    """Time up to the first group."""
    return _closer_look(18, 3, [full, flat, flat, flat], in_chans)


@register(Spec("video", _TRAN, 12_727_632, 400, _CLIP, 19.976, top1=63.0, stride=2, resize=(128, 171)))
def mc4_18(in_chans: int = 3, temporal_stride: int = 2) -> VideoResNet:
    """Time up to the second group."""
    return _closer_look(18, 3, [full, full, flat, flat], in_chans, temporal_stride=temporal_stride)


@register(Spec("video", _TRAN, 16_856_400, 400, _CLIP, 19.950, top1=62.9, stride=2, resize=(128, 171)))
def mc5_18(in_chans: int = 3, temporal_stride: int = 4) -> VideoResNet:
    """Time up to the third group."""
    return _closer_look(18, 3, [full, full, full, flat], in_chans, temporal_stride=temporal_stride)


@register(Spec("video", _TRAN, 33_352_656, 400, _CLIP, 19.876, top1=62.7, stride=2, resize=(128, 171)))
def rmc2_18(in_chans: int = 3, temporal_stride: int = 8) -> VideoResNet:
    """No time in the stem."""
    return _closer_look(18, 1, [full] * 4, in_chans, temporal_stride=temporal_stride)


@register(Spec("video", _TRAN, 33_057_744, 400, _CLIP, 12.478, top1=62.8, stride=2, resize=(128, 171)))
def rmc3_18(in_chans: int = 3, temporal_stride: int = 8) -> VideoResNet:
    """Time from the second group on."""
    return _closer_look(18, 1, [flat, full, full, full], in_chans, temporal_stride=temporal_stride)


@register(Spec("video", _TRAN, 32_025_552, 400, _CLIP, 14.546, top1=62.8, stride=2, resize=(128, 171)))
def rmc4_18(in_chans: int = 3, temporal_stride: int = 4) -> VideoResNet:
    """Time from the third group on."""
    return _closer_look(18, 1, [flat, flat, full, full], in_chans, temporal_stride=temporal_stride)


@register(Spec("video", _TRAN, 27_896_784, 400, _CLIP, 15.393, top1=61.6, stride=2, resize=(128, 171)))
def rmc5_18(in_chans: int = 3, temporal_stride: int = 2) -> VideoResNet:
    """Time in the last group only."""
    return _closer_look(18, 1, [flat, flat, flat, full], in_chans, temporal_stride=temporal_stride)


@register(
    Spec(
        "video",
        _TRAN,
        33_371_472,
        400,
        _CLIP,
        20.348,
        top1=62.3,
        note="torchvision's r3d_18",
        stride=2,
        resize=(128, 171),
    )
)
def r3d_18(in_chans: int = 3, temporal_stride: int = 8) -> VideoResNet:
    """3 x 3 x 3 throughout."""
    return _closer_look(18, 3, [full] * 4, in_chans, temporal_stride=temporal_stride)


@register(Spec("video", _TRAN, 63_681_104, 400, (32, 112, 112), 150.756, stride=2, resize=(128, 171)))
def r3d_34(in_chans: int = 3, temporal_stride: int = 8) -> VideoResNet:
    """3 x 3 x 3 throughout, 34 layers."""
    return _closer_look(34, 3, [full] * 4, in_chans, temporal_stride=temporal_stride)


def _separated_channels(
    depth: int, factorisation: Factorisation, in_chans: int, eps: float, temporal_stride: int
) -> VideoResNet:
    return VideoResNet(
        simple_stem(in_chans, 64, 3, pool=1),
        (1, 4),
        DEPTHS[depth],
        [factorisation] * 4,
        bottleneck=True,
        time_strides=time_strides((1, 2, 2, 2), temporal_stride),
        eps=eps,
        mean=statistics(TORCHVISION_MEAN, in_chans),
        std=statistics(TORCHVISION_STD, in_chans),
    )


_CSN = "Tran et al., ICCV 2019"
_CSN_CLIP = (32, 224, 224)
_AT_256 = "published cost is at 256 x 256"


@register(Spec("video", _CSN, 13_131_152, 400, _CSN_CLIP, 42.309, stride=2, resize=256))
def ir_csn_50(in_chans: int = 3, eps: float = 1e-3, temporal_stride: int = 8) -> VideoResNet:
    """Interaction-reduced, 50 layers; ``eps`` 1e-5 for pytorchvideo's weights."""
    return _separated_channels(50, channelwise, in_chans, eps, temporal_stride)


@register(
    Spec(
        "video",
        _CSN,
        22_213_776,
        400,
        _CSN_CLIP,
        56.468,
        top1=77.0,
        note="accuracy: pytorchvideo's csn_r101",
        stride=2,
        resize=256,
    )
)
def ir_csn_101(in_chans: int = 3, eps: float = 1e-3, temporal_stride: int = 8) -> VideoResNet:
    """Interaction-reduced, 101 layers; ``eps`` 1e-5 for pytorchvideo's weights."""
    return _separated_channels(101, channelwise, in_chans, eps, temporal_stride)


@register(Spec("video", _CSN, 29_703_568, 400, _CSN_CLIP, 74.046, 96.7, 76.5, _AT_256, stride=2, resize=256))
def ir_csn_152(in_chans: int = 3, eps: float = 1e-3, temporal_stride: int = 8) -> VideoResNet:
    """Interaction-reduced, 152 layers."""
    return _separated_channels(152, channelwise, in_chans, eps, temporal_stride)


@register(Spec("video", _CSN, 14_396_176, 400, _CSN_CLIP, 47.652, stride=2, resize=256))
def ip_csn_50(in_chans: int = 3, eps: float = 1e-3, temporal_stride: int = 8) -> VideoResNet:
    """Interaction-preserved, 50 layers."""
    return _separated_channels(50, mixed_channelwise, in_chans, eps, temporal_stride)


@register(Spec("video", _CSN, 24_601_616, 400, _CSN_CLIP, 63.559, stride=2, resize=256))
def ip_csn_101(in_chans: int = 3, eps: float = 1e-3, temporal_stride: int = 8) -> VideoResNet:
    """Interaction-preserved, 101 layers."""
    return _separated_channels(101, mixed_channelwise, in_chans, eps, temporal_stride)


@register(Spec("video", _CSN, 33_016_592, 400, _CSN_CLIP, 83.295, 108.8, 77.8, _AT_256, stride=2, resize=256))
def ip_csn_152(in_chans: int = 3, eps: float = 1e-3, temporal_stride: int = 8) -> VideoResNet:
    """Interaction-preserved, 152 layers."""
    return _separated_channels(152, mixed_channelwise, in_chans, eps, temporal_stride)
