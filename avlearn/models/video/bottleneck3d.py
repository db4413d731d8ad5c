"""Inflated 2-D networks of bottlenecks that keep their frames: C2D, I3D and their non-local variants, Slow.

Carreira and Zisserman, CVPR 2017 (inflation); Wang et al., CVPR 2018 (C2D, I3D and non-local networks on ResNets);
Feichtenhofer et al., ICCV 2019 (Slow). Their trunk, and how its parameters are named, is in ``resnet.py``.
"""

from collections.abc import Sequence

from avlearn.models.registry import Spec, register
from avlearn.models.video.nonlocal_block import NonLocalKind, NonLocalStyle, add_nonlocal
from avlearn.models.video.resnet import DEPTHS, VideoResNet, flat, flat_dilated, simple_stem, time_strides


def inflated(
    depth: int,
    in_chans: int,
    stem_time: int,
    patterns: Sequence[Sequence[int]],
    *,
    width: int = 64,
    temporal_blocks: int | None = None,
    stem_strides: tuple[int, int] = (1, 1),
    stem_pool: int | None = None,
    stem_padding: int = 1,
    temporal_pool: int = 1,
    output_stride: int = 32,
    joined: Sequence[int] = (0, 0, 0, 0),
    preprocess: bool = True,
) -> VideoResNet:
    """Bottlenecks of t x 1 x 1, 1 x 3 x 3, 1 x 1 x 1 that keep their frames: 2-D, inflated, Slow and Fast networks.

    Args:
        stem_time: frames that the first convolution sees.
        patterns: by group, the temporal kernels t, repeated from block to block.
        temporal_blocks: only so many blocks of the third group have them, the rest have 1.
        stem_strides: over frames, of the stem's convolution and of its pool.
        stem_pool: frames that the pool of the stem sees; None: those that it strides over.
        stem_padding: of that pool, in space.
        output_stride: pixels of a step of the features: 32, or 16 as detection has it, where the last group keeps its
            resolution and its 3 x 3 look two apart.
        preprocess: subtract means and divide by stds.
    """
    kernels = [
        [pattern[j % len(pattern)] for j in range(n)] for n, pattern in zip(DEPTHS[depth], patterns, strict=True)
    ]
    if temporal_blocks is not None:
        kernels[2] = [kernel if j < temporal_blocks else 1 for j, kernel in enumerate(kernels[2])]
    if output_stride not in (16, 32):
        raise ValueError(f"output_stride is 16 or 32, not {output_stride}")
    first, second = stem_strides
    pool = second if stem_pool is None else stem_pool
    model = VideoResNet(
        simple_stem(in_chans, width, stem_time, first, pool=pool, pool_stride=second, pool_padding=stem_padding),
        (first * second, 4),
        DEPTHS[depth],
        [flat, flat, flat, flat if output_stride == 32 else flat_dilated],
        bottleneck=True,
        width=width,
        space_strides=(1, 2, 2, output_stride // 16),
        temporal_kernels=kernels,
        temporal_pool=temporal_pool,
        joined=joined,
        zero_init=True,
        mean=(0.45,) * in_chans if preprocess else (),
        std=(0.225,) * in_chans if preprocess else (),
        dropout=0.5,
    )
    model.least_side = 1 if stem_padding else 5
    return model


_C2D = ((1,), (1,), (1,), (1,))
_I3D = ((3,), (3, 1), (3, 1), (1, 3))
_SLOW = ((1,), (1,), (3,), (3,))
NONLOCAL_50 = ((), (1, 3), (1, 3, 5), ())
NONLOCAL_101 = ((), (1, 3), (6, 13, 20), ())

_WANG = "Wang et al., CVPR 2018"
_SLOWFAST = "Feichtenhofer et al., ICCV 2019"
_EIGHT = (8, 224, 224)
_ORG_STRIDES = (2, 2, 2)
_ORG = "frames are halved three times before the second group; released by the authors in Caffe2"


@register(
    Spec(
        "video", _WANG, 24_327_632, 400, _EIGHT, 19.493, top1=71.5, note="accuracy: pytorchvideo", stride=8, resize=256
    )
)
def c2d_r50(in_chans: int = 3, temporal_pool: int = 2, stem_padding: int = 1) -> VideoResNet:
    """2-D convolutions; time is seen by one pool only (``temporal_pool=1``: by none).

    In mmaction2's the pool of the stem is not padded (``stem_padding=0``, which its weights bring with them), but in
    those without a temporal pool it is: say both options for them.
    """
    return inflated(50, in_chans, 1, _C2D, temporal_pool=temporal_pool, stem_padding=stem_padding)


@register(Spec("video", _WANG, 31_686_096, 400, _EIGHT, 27.621, top1=74.4, stride=8, resize=256))
def c2d_nl_r50(
    in_chans: int = 3, nonlocal_kind: NonLocalKind = "embedded", nonlocal_pool: Sequence[int] = (1, 2, 2)
) -> VideoResNet:
    """C2D with five non-local blocks."""
    return add_nonlocal(c2d_r50(in_chans), NONLOCAL_50, nonlocal_kind, nonlocal_pool)


def _i3d(
    depth: int,
    in_chans: int,
    strides: tuple[int, int, int] = (1, 1, 2),
    temporal_stride: int | None = None,
    temporal_blocks: int | None = None,
    stem_pool: int | None = None,
) -> VideoResNet:
    """``strides`` over time: of the stem, of its pool, and of the pool after the first group."""
    first, second, pool = time_strides(strides, temporal_stride)
    return inflated(
        depth,
        in_chans,
        5,
        _I3D,
        temporal_blocks=temporal_blocks,
        stem_strides=(first, second),
        stem_pool=None if second == 1 else stem_pool,
        temporal_pool=pool,
    )


@register(
    Spec("video", _WANG, 28_043_472, 400, _EIGHT, 28.408, top1=73.5, note="accuracy: PySlowFast", stride=8, resize=256)
)
def i3d_r50(in_chans: int = 3) -> VideoResNet:
    """Every second bottleneck sees three frames."""
    return _i3d(50, in_chans)


@register(
    Spec("video", _WANG, 35_401_936, 400, _EIGHT, 36.535, top1=74.0, note="accuracy: PySlowFast", stride=8, resize=256)
)
def i3d_nl_r50(
    in_chans: int = 3, nonlocal_kind: NonLocalKind = "embedded", nonlocal_pool: Sequence[int] = (1, 2, 2)
) -> VideoResNet:
    """I3D with five non-local blocks."""
    return add_nonlocal(i3d_r50(in_chans), NONLOCAL_50, nonlocal_kind, nonlocal_pool)


@register(Spec("video", _WANG, 51_754_192, 400, (8, 256, 256), 61.332, stride=8, resize=256))
def i3d_r101(in_chans: int = 3) -> VideoResNet:
    """I3D, 101 layers."""
    return _i3d(101, in_chans)


@register(Spec("video", _WANG, 59_112_656, 400, (8, 256, 256), 73.144, stride=8, resize=256))
def i3d_nl_r101(
    in_chans: int = 3, nonlocal_kind: NonLocalKind = "embedded", nonlocal_pool: Sequence[int] = (1, 2, 2)
) -> VideoResNet:
    """I3D with five non-local blocks, 101 layers; they stand where PySlowFast puts them."""
    return add_nonlocal(i3d_r101(in_chans), NONLOCAL_50, nonlocal_kind, nonlocal_pool)


@register(Spec("video", _WANG, 27_223_872, None, (32, 224, 224), 33.13, top1=73.6, note=_ORG, stride=2, resize=256))
def i3d_org_r50(in_chans: int = 3, stem_pool: int = 2, temporal_stride: int = 8) -> VideoResNet:
    """I3D as first released: 32 frames, of which 4 remain; mmaction2's weights have a ``stem_pool`` over 1 frame."""
    return _i3d(50, in_chans, _ORG_STRIDES, temporal_stride, stem_pool=stem_pool)


@register(Spec("video", _WANG, 34_582_336, None, (128, 256, 256), 281.52, 282.0, 76.5, _ORG, stride=1, resize=256))
def i3d_org_nl_r50(
    in_chans: int = 3,
    nonlocal_kind: NonLocalKind = "embedded",
    nonlocal_pool: Sequence[int] = (1, 2, 2),
    nonlocal_style: NonLocalStyle = "pyslowfast",
    stem_pool: int = 2,
    temporal_stride: int = 8,
) -> VideoResNet:
    """The same for 128 frames, with five non-local blocks.

    mmaction2's weights bring their style and pool with them, but not ``nonlocal_kind``: it is in the name of the file
    (embedded, gaussian, or dot for dot-product), and embedded and dot have the same parameters.
    """
    trunk = i3d_org_r50(in_chans, stem_pool, temporal_stride)
    return add_nonlocal(trunk, NONLOCAL_50, nonlocal_kind, nonlocal_pool, nonlocal_style)


@register(
    Spec(
        "video",
        _WANG,
        53_574_464,
        None,
        (128, 256, 256),
        359.10,
        359.0,
        77.7,
        "published cost and parameters are those of temporal convolutions in the first six blocks of the third group"
        " only; the released code has them in every second of all 23",
        stride=1,
        resize=256,
    )
)
def i3d_org_nl_r101(
    in_chans: int = 3,
    nonlocal_kind: NonLocalKind = "embedded",
    nonlocal_pool: Sequence[int] = (1, 2, 2),
    temporal_stride: int = 8,
) -> VideoResNet:
    """The same of 101 layers."""
    trunk = _i3d(101, in_chans, _ORG_STRIDES, temporal_stride, temporal_blocks=6)
    return add_nonlocal(trunk, NONLOCAL_101, nonlocal_kind, nonlocal_pool)


@register(
    Spec(
        "video",
        _SLOWFAST,
        32_454_096,
        400,
        (4, 224, 224),
        20.871,
        27.3,
        72.7,
        "published cost is at 256 x 256 (20.9 in the first preprint); accuracy: PySlowFast",
        stride=16,
        resize=256,
    )
)
def slow_r50_4x16(in_chans: int = 3, output_stride: int = 32) -> VideoResNet:
    """Slow alone, four frames: only the two last groups see more than one at a time (AVA: ``output_stride=16``)."""
    return inflated(50, in_chans, 1, _SLOW, output_stride=output_stride)


@register(
    Spec(
        "video",
        _SLOWFAST,
        32_454_096,
        400,
        _EIGHT,
        41.741,
        top1=74.8,
        note="accuracy: PySlowFast",
        stride=8,
        resize=256,
    )
)
def slow_r50_8x8(in_chans: int = 3, output_stride: int = 32) -> VideoResNet:
    """The same for eight frames."""
    return inflated(50, in_chans, 1, _SLOW, output_stride=output_stride)
